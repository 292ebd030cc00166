"""The same room by each capture's files gives the same frames, pairs and labels as by the first one's."""

import shutil
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import capture_files
import numpy as np
import pytest
from capture_files import FORMATS, Room, put
from formats import encoded

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline import datasets
from hicl.pipeline.classes import ClassList
from hicl.pipeline.datasets import captures, rgbd, scannet
from hicl.pipeline.datasets.captures import scannetpp
from hicl.pipeline.datasets.rgbd import find_scenes
from hicl.pipeline.miniature.scan import write_dataset
from hicl.pipeline.run import preprocess

FRAMES = 3
KINDS = (
    "pgm",
    "npy",
    "tiff",
    "exr",
    "JSON intrinsics",
    "RTABMap, the robot's",
)  # once their frames are the same, all is


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Room:
    """Frames of a miniature room, each colour image redrawn as its depth camera would see it, twice as large."""
    root = tmp_path_factory.mktemp("room")
    write_dataset(root, 1, 5, workers=1, progress=lambda _: None)
    ((scene, _),), _ = scannet.find_scenes(root, None, None)
    frames = [scene.frame(i) for i in scene.frame_ids[::4].tolist()[:FRAMES]]
    color, depth = scene.color_camera, scene.depth_camera
    size = 2 * depth.height, 2 * depth.width
    v, u = np.mgrid[: size[0], : size[1]]
    k = 2 * depth.fx, 2 * depth.fy, 2 * depth.cx + 0.5, 2 * depth.cy + 0.5
    column = np.rint((u - k[2]) / k[0] * color.fx + color.cx).astype(int).clip(0, color.width - 1)
    row = np.rint((v - k[3]) / k[1] * color.fy + color.cy).astype(int).clip(0, color.height - 1)
    jpeg = [encoded(frame.color[row, column], quality=95) for frame in frames]
    millimetres = [np.rint(frame.depth * 1000).astype(np.uint16) for frame in frames]
    mesh = next(root.rglob("*_vh_clean_2.ply"))
    return Room(jpeg, millimetres, [frame.pose for frame in frames], k, size, mesh)


def labelled(folder: Path, cache: Path) -> tuple[rgbd.RGBDScene, object]:
    settings = rgbd.Settings(clip="hicl-miniature", weights="hicl-miniature", classes="wall, floor, chair, table, bed")
    source = datasets.load("rgbd").source(folder, settings)
    classes = ClassList.of(("wall", "floor", "chair", "table", "bed"))
    summary = preprocess(source, cache, settings, classes, workers=1, device="cpu", say=lambda _: None)
    assert not summary.failed, summary.failed
    (scene, _), *others = source.scenes
    assert not others
    return scene, open_cache(cache).scene(scene.id)


@pytest.fixture(scope="module")
def first(room, tmp_path_factory):
    root = tmp_path_factory.mktemp("first")
    capture_files.base(root / "room", room)
    return labelled(root / "room", root / "cache")


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_room(name, room, first, tmp_path):
    FORMATS[name](tmp_path / "all" / "room", room)
    if name in KINDS:
        (scene,), got = find_scenes(tmp_path / "all" / "room"), None
    else:
        scene, got = labelled(tmp_path / "all" / "room", tmp_path / "cache")
    expected_scene, expected = first
    assert len(scene.frame_ids) == FRAMES
    for i, j in zip(scene.frame_ids.tolist(), expected_scene.frame_ids.tolist(), strict=True):
        one, other = scene.frame(i), expected_scene.frame(j)
        np.testing.assert_array_equal(one.color, other.color)
        np.testing.assert_allclose(one.depth, other.depth, atol=1e-4)
        np.testing.assert_allclose(one.pose, other.pose, atol=1e-6)
        cameras = one.cameras or (scene.depth_camera, scene.color_camera)
        for camera, known in zip(cameras, (expected_scene.depth_camera, expected_scene.color_camera), strict=True):
            np.testing.assert_allclose(list(vars(camera).values()), list(vars(known).values()), atol=1e-6)
    if got is None:
        return
    pairs = [set(zip(*_views(about), strict=True)) for about in (got, expected)]
    assert len(pairs[0] ^ pairs[1]) < 0.002 * len(pairs[1])
    spread = [about.read("points/spread") for about in (got, expected)]
    assert (spread[0] == spread[1]).mean() > 0.995 and len(np.unique(spread[1])) > 2


def _views(scene):
    view = np.repeat(np.arange(FRAMES), np.diff(scene.read("pairs/indptr")))
    pixel = scene.read("pairs/pixel").astype(int)
    return view.tolist(), scene.read("pairs/point").tolist(), pixel[:, 0].tolist(), pixel[:, 1].tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_what_one_is(name, room, tmp_path):
    """A capture is known by its own files, and one that lacks one of them is told what it is most like."""
    folder = tmp_path / "all" / "room"
    FORMATS[name](folder, room)
    kind = captures.find(folder)
    names = [part for part in captures.CAPTURES if name.lower().replace("+", "p").startswith(part)]
    assert kind == (names[0] if names else "plain")
    if kind == "plain":
        return
    module = captures._load(kind)
    if len(module.WANTS) > 1:
        for path in [path for pattern in module.WANTS[0] for path in folder.glob(pattern)]:
            path.unlink()
        with pytest.raises(HiclError, match="no posed RGB-D frames") as error:
            find_scenes(folder)
        assert f"most like {module.NAME}, but no {module.WANTS[0][0]}" in str(error.value)


def test_an_r3d(room, first, tmp_path, monkeypatch):
    """LZFSE, which has no wheels, is played by deflate."""
    capture_files.r3d(tmp_path / "room", room, zlib.compress)
    (scene,) = find_scenes(tmp_path / "room")
    monkeypatch.setitem(sys.modules, "liblzfse", None)
    with pytest.raises(HiclError, match="pip install pyliblzfse"):
        scene.frame(0)
    monkeypatch.setitem(sys.modules, "liblzfse", SimpleNamespace(decompress=zlib.decompress, error=zlib.error))
    (scene,) = find_scenes(tmp_path / "room")
    one, other = scene.frame(0), first[0].frame(0)
    np.testing.assert_allclose(one.depth, other.depth, atol=1e-4)
    np.testing.assert_allclose(one.pose, other.pose, atol=1e-6)
    np.testing.assert_allclose(list(vars(one.cameras[1]).values()), list(vars(first[0].color_camera).values()))


def test_packed_depth(tmp_path):
    """ScanNet++'s depth.bin: a length and a frame, LZ4 or deflate; an older one is compressed as a whole."""
    lz4 = pytest.importorskip("lz4.block")
    millimetres = np.random.default_rng(0).integers(0, 5000, (3, 192, 256)).astype("<u2")
    metres = (millimetres / 1000).astype("<f4")

    def deflated(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(data) + packer.flush()

    blocks = [lz4.compress(millimetres[0].tobytes(), store_size=False), deflated(metres[1].tobytes()), b"junk"]
    path = put(tmp_path / "depth.bin", b"".join(len(block).to_bytes(4, "little") + block for block in blocks))
    index = scannetpp._index(path)
    for number in range(2):
        np.testing.assert_array_equal(scannetpp._unpacked(path, index, number), millimetres[number])
    for number, said in ((2, "doesn't decode"), (3, "no frame 3")):
        with pytest.raises(HiclError, match=said):
            scannetpp._unpacked(path, index, number)
    put(path, deflated(metres.tobytes()))
    with pytest.raises(HiclError, match="prepare_iphone_data.py"):
        scannetpp._index(path)


def test_the_video_is_still_one(room, tmp_path):
    FORMATS["ScanNet++"](tmp_path / "room", room)
    shutil.rmtree(tmp_path / "room/iphone/rgb")
    put(tmp_path / "room/iphone/rgb.mkv", b"a video")
    (scene,) = find_scenes(tmp_path / "room")
    with pytest.raises(HiclError, match="ffmpeg -i rgb.mkv .* rgb/frame_%06d.jpg"):
        scene.missing()


def test_lenses_that_bend(room, tmp_path):
    """At the corner of a 320x240 image of focal length 283, r² = 0.5: a k1 of 0.01 moves it by 0.01 · 0.5 · 200 px."""
    text, folder = "1 SIMPLE_RADIAL 320 240 283 160 120 0.01\n", tmp_path / "room"
    FORMATS["COLMAP, text"](folder, room)
    put(folder / "sparse/0/cameras.txt", text.replace("1 ", "7 ", 1))
    (scene,) = find_scenes(folder)
    assert "camera 7 bends corners by 1 pixels" in scene.notes()[1]
    assert vars(scene.frame(0).cameras[1]) == pytest.approx(
        {"fx": 283, "fy": 283, "cx": 159.5, "cy": 119.5, "height": 240, "width": 320}
    )
    put(folder / "sparse/0/cameras.txt", "7 OPENCV_FISHEYE 320 240 283 283 160 120 0 0 0 0\n")
    with pytest.raises(HiclError, match="camera 7: OPENCV_FISHEYE is no pinhole; `colmap image_undistorter`"):
        find_scenes(folder)[0].missing()
    FORMATS["nerfstudio"](tmp_path / "other", room)
    about = (tmp_path / "other/transforms.json").read_text()
    put(tmp_path / "other/transforms.json", about.replace('"k1": 0.0', '"k1": -0.1'))
    assert "bends corners by 10 pixels" in find_scenes(tmp_path / "other")[0].notes()[1]


BROKEN = {
    "nerfstudio": ("transforms.json", "{", "transforms.json: not a readable JSON file"),
    "Polycam": ("keyframes/corrected_cameras/98000000000.json", "{}", "no pose; expected t_00 to t_23"),
    "Record3D": ("EXR_RGBD/metadata.json", '{"poses": []}', "metadata.json: expected K, w, h and poses"),
    "ARKitScenes, raw": ("lowres_wide.traj", "1 2 3\n", "lowres_wide.traj: line 1 is '1 2 3', expected 7 columns"),
    "TUM": ("groundtruth.txt", "1 2 3 4 0 0 0 1\n", "no image of rgb.txt has depth and a pose within 0.02 s"),
    "Replica": ("traj.txt", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n", "traj.txt: 1 poses, but 3 images in results/"),
    "Redwood": ("trajectory.log", "0 0 1\n1 0 0 0\n", "not a trajectory of three numbers and four lines"),
    "COLMAP, text": ("sparse/0/images.txt", "1 1 0 0 0 0 0 0 8 a.jpg\n\n", "a.jpg is of camera 8, which cameras.txt"),
    "COLMAP, binary": ("sparse/0/images.bin", b"\5\0\0\0\0\0\0\0\1", "images.bin: truncated"),
    "ScanNet++": ("iphone/pose_intrinsic_imu.json", "{}", "none of the 3 images in rgb/ is a frame in it"),
    "RTABMap": ("flat_camera_poses.txt", "1 0 0 0 0 0 0 1\n", "1 poses for 3 images, and no ids to tell by; export"),
    "RTABMap, the robot's": ("flat_calib/1700000000.000000.yaml", "%YAML:1.0\n", "expected camera_matrix, image_width"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_a_line(name, room, tmp_path):
    FORMATS[name](tmp_path / "all" / "room", room)
    file, content, said = BROKEN[name]
    put(tmp_path / "all" / "room" / file, content)
    with pytest.raises(HiclError) as error:
        (scene,) = find_scenes(tmp_path / "all" / "room")
        scene.missing()
        scene.frame(scene.frame_ids[0])
    assert said in str(error.value) and "\n" not in str(error.value)
