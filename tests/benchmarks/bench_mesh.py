"""A mesh of a Kinect's frames, beside Open3D's VoxelBlockGrid, in one run and on one core.

    python3.11 -m venv work/open3d && work/open3d/bin/pip install open3d
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_mesh.py FOLDER --open3d work/open3d/bin/python

FOLDER: posed RGB-D frames, colour and depth of one size. Both at 2 cm, up to 4 m, with three frames a voxel; Open3D's
other settings are those of its tutorial. Decoding isn't counted. A stray piece has fewer than 100 vertices.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from hicl.pipeline.datasets import rgbd
from hicl.pipeline.kernels import marching
from hicl.pipeline.tsdf import fuse_mesh

ROUNDS = 3
THEIRS = """
import json, sys, time
import numpy as np, open3d as o3d, open3d.core as o3c
given = np.load(sys.argv[1])
k, kinds = o3c.Tensor(given["intrinsics"]), (o3c.float32, o3c.float32, o3c.float32)
image = o3d.t.geometry.Image
start = time.perf_counter()
grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight", "color"), kinds, ((1), (1), (3)), 0.02, 16, 10000)
for color, depth, pose in zip(given["color"], given["depth"], given["pose"]):
    depth, color = image(o3c.Tensor(depth)), image(o3c.Tensor(color.astype(np.float32)))
    there = o3c.Tensor(np.linalg.inv(pose))
    blocks = grid.compute_unique_block_coordinates(depth, k, there, 1.0, 4.0)
    grid.integrate(blocks, depth, color, k, k, there, 1.0, 4.0)
mesh = grid.extract_triangle_mesh(3.0)
seconds = time.perf_counter() - start
np.savez(sys.argv[2], faces=mesh.triangle.indices.numpy(), n=len(mesh.vertex.positions))
print(json.dumps({"version": o3d.__version__, "seconds": seconds}))
"""


def stray(faces: np.ndarray, n: int) -> int:
    """Pieces of fewer than 100 vertices."""
    sizes = np.bincount(marching.pieces(faces.astype(np.int32), n))
    return int(((sizes > 0) & (sizes < 100)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--open3d", required=True, help="a Python that has open3d")
    options = parser.parse_args()
    (scene,) = rgbd.find_scenes(options.folder)
    frames = [(frame.color, frame.depth, frame.pose) for frame in map(scene.frame, scene.frame_ids.tolist())]
    camera = scene.depth_camera
    intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    fuse_mesh(frames[:3], camera, scene.color_camera, min_hits=1)  # compiles
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "frames.npz", Path(folder) / "mesh.npz"
        color, depth, pose = (np.stack(images) for images in zip(*frames, strict=True))
        np.savez(given, color=color, depth=depth, pose=pose, intrinsics=intrinsics)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            mesh = fuse_mesh(frames, camera, scene.color_camera)
            ours.append(time.perf_counter() - start)
            command = [options.open3d, "-c", THEIRS, str(given), str(made)]
            said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            theirs.append(said["seconds"])
        other = np.load(made)
        there, n = other["faces"], int(other["n"])
    assert mesh.faces is not None
    rows = (("hicl", ours, mesh.faces, len(mesh.xyz)), (f"Open3D {said['version']}", theirs, there, n))
    print(f"{'':16}{'time':>8}{'triangles':>12}{'vertices':>12}{'stray pieces':>14}")
    for name, seconds, faces, count in rows:
        share = min(seconds) / min(theirs)
        print(f"{name:16}{share:8.2f}{len(faces):12,}{count:12,}{stray(faces, count):14,}")


if __name__ == "__main__":
    main()
