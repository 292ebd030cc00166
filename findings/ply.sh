#!/usr/bin/env bash
# trimesh 4.6.8 and meshio 5.3.5 write labels that are int64, as NumPy's integers are, as `property int64`, a type that
# PLY doesn't have; plyfile 1.1.2 refuses both files. meshio says "PLY doesn't support 64-bit integers. Casting down to
# 32-bit", and writes 64 bits all the same.
#
# Seen:   trimesh: 'property int64 label', 8 bytes a label; plyfile: PlyHeaderParseError
#         meshio: 'property int64 label', 8 bytes a label; plyfile: PlyHeaderParseError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.2.6 trimesh==4.6.8 meshio==5.3.5 plyfile==1.1.2
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import meshio
import numpy as np
import plyfile
import trimesh

mesh = trimesh.Trimesh(np.eye(3), [[0, 1, 2]], process=False)
mesh.vertex_attributes["label"] = np.arange(3)
mesh.export("trimesh.ply")
meshio.write("meshio.ply", meshio.Mesh(np.eye(3), [("triangle", [[0, 1, 2]])], point_data={"label": np.arange(3)}))
same = True
for name, place, expected in (("trimesh", 12, 8), ("meshio", 24, 8)):
    head, body = open(f"{name}.ply", "rb").read().split(b"end_header\n", 1)
    declared = next(line.decode() for line in head.splitlines() if line.endswith(b"label"))
    size = (len(body) - 13 - 3 * place) / 3  # a triangle takes 13 bytes
    try:
        plyfile.PlyData.read(f"{name}.ply")
        said = "read"
    except plyfile.PlyHeaderParseError:
        said = "PlyHeaderParseError"
    print(f"{name}: {declared!r}, {size:g} bytes a label; plyfile: {said}")
    same &= (declared, size, said) == ("property int64 label", expected, "PlyHeaderParseError")
sys.exit(not same)
PYTHON
