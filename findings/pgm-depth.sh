#!/usr/bin/env bash
# A 16-bit PGM of depth in millimetres is other numbers in Pillow 13.0.0 than in opencv-python-headless 4.12.0.88.
# The header of a PGM names the largest value that may occur, and a sensor's dump of depth need not put 65535 there,
# but what it can measure. Pillow stretches the values so that this largest one becomes 65535; OpenCV gives them as they stand. So
# 1,000 mm under a header of 4000 is 16,384 by Pillow, without a word, and right where the header says 65535.
#
# Seen:
#   header 65535: Pillow [0, 1000, 4000], OpenCV [0, 1000, 4000]
#   header 4000: Pillow [0, 16384, 65535], OpenCV [0, 1000, 4000]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.2.6 pillow==13.0.0 \
    opencv-python-headless==4.12.0.88
cat > "$folder/read.py" <<'PY'
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

for most in (65535, 4000):
    file = Path(sys.argv[1]) / f"{most}.pgm"
    file.write_bytes(b"P5\n3 1\n%d\n" % most + np.array([0, 1000, 4000], ">u2").tobytes())
    pillow, opencv = np.asarray(Image.open(file)), cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    print(f"header {most}: Pillow {pillow[0].tolist()}, OpenCV {opencv[0].tolist()}")
PY
expected="header 65535: Pillow [0, 1000, 4000], OpenCV [0, 1000, 4000]
header 4000: Pillow [0, 16384, 65535], OpenCV [0, 1000, 4000]"
found=$("$folder/venv/bin/python" "$folder/read.py" "$folder")
echo "$found"
[ "$found" = "$expected" ]
