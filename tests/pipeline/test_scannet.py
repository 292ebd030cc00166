import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
from formats import (
    COLOR_K,
    COLOR_SIZE,
    DEPTH_K,
    DEPTH_SIZE,
    FACES,
    RGB,
    XYZ,
    encoded,
    matrix,
    millimetres,
    picture,
    sens,
    write_color,
    write_depth,
    write_frames_25k,
    write_matrix,
    write_mesh,
)

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import scannet, scannet_splits
from hicl.pipeline.datasets.scene import Camera

NAME = "scene0191_00"
# From the benchmark's classes_SemVoxLabel-nyu40id.txt.
NYU40 = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator",
    28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "other furniture",
}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """A root with one scan of three frames in a .sens, labels and the Segmentator's sets."""
    folder = write_mesh(tmp_path / "scans" / NAME, label=[1, 39, 0, 13, 8], segments=[7, 7, 3, 3, 9])
    sens(3, lost=[1]).write(folder / f"{NAME}.sens")
    return tmp_path


def only(root, **options):
    scenes, _ = scannet.find_scenes(root, **options)
    assert len(scenes) == 1
    return scenes[0][0]


def test_a_sens_scan(root):
    scene = only(root, frame_step=1)
    assert scene.id == NAME
    assert scene.frame_ids.tolist() == [0, 1, 2] and scene.frame_ids.dtype == np.int32
    assert scene.color_camera == Camera(30, 31, 15.5, 11.5, *COLOR_SIZE)
    assert scene.depth_camera == Camera(15, 15.5, 7.5, 5.5, *DEPTH_SIZE)
    frame = scene.frame(2)
    assert np.abs(frame.color.astype(int) - picture(2)).mean() < 4
    np.testing.assert_allclose(frame.depth, millimetres(2) / 1000, rtol=1e-6)
    np.testing.assert_allclose(frame.pose[:3, 3], [0.2, 0, 0], rtol=1e-6)
    points = scene.points()
    np.testing.assert_array_equal(points.xyz, XYZ)
    np.testing.assert_array_equal(points.rgb, RGB)
    np.testing.assert_array_equal(points.faces, FACES)
    assert points.label.tolist() == [0, 19, 255, 255, 7]
    assert scene.shipped_sets().tolist() == [7, 7, 3, 3, 9]
    assert [file.name for file in scene.frame_files()] == [f"{NAME}.sens"]
    assert {file.name.removeprefix(NAME) for file in scene.point_files()} == {
        "_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json",
    }  # fmt: skip


def test_a_frames_25k_scan(root):
    (root / "scans" / NAME / f"{NAME}.sens").unlink()
    write_frames_25k(root / "scannet_frames_25k" / NAME, ids=[0, 100, 2300])
    scene = only(root)
    assert scene.frame_ids.tolist() == [0, 100, 2300]
    assert scene.color_camera == Camera(30, 31, 15.5, 11.5, *COLOR_SIZE)
    assert scene.depth_camera == Camera(15, 15.5, 7.5, 5.5, *DEPTH_SIZE)
    frame = scene.frame(2300)
    assert np.abs(frame.color.astype(int) - picture(2)).mean() < 4
    np.testing.assert_allclose(frame.depth, millimetres(2) / 1000, rtol=1e-6)
    np.testing.assert_allclose(frame.pose, np.eye(4) + 0.2 * np.eye(4, k=3))
    assert all(file.is_file() for file in scene.frame_files())
    assert len(scene.frame_files()) == 2 + 3 * 3


def test_scenes_can_be_sent_to_a_worker(root):
    scene = pickle.loads(pickle.dumps(only(root)))
    assert scene.frame(0).depth.shape == DEPTH_SIZE


@pytest.mark.parametrize("source", ["sens", "frames", "miniature"])
def test_frame_steps(tmp_path, source):
    folder = write_mesh(tmp_path / "scans" / NAME)
    sens(45).write(folder / f"{NAME}.sens")
    if source == "frames":
        write_frames_25k(tmp_path / "scannet_frames_25k" / NAME, ids=range(0, 500, 100))
    if source == "miniature":
        (tmp_path / "miniature.json").write_text(json.dumps({"format": "hicl-miniature", "frame_step": 7}))
    expected = {"sens": [0, 20, 40], "frames": [0, 100, 200, 300, 400], "miniature": list(range(0, 45, 7))}
    assert only(tmp_path).frame_ids.tolist() == expected[source]
    every = [0, 200, 400] if source == "frames" else list(range(0, 45, 2))
    assert only(tmp_path, frame_step=2).frame_ids.tolist() == every


def test_frames_that_cannot_be_used(root):
    scene = only(root, frame_step=1)
    with pytest.raises(FrameError, match=f"{NAME}.sens: frame 1: pose is not finite"):
        scene.frame(1)
    zero = sens(1)
    pose, color, _ = zero.frames[0]
    recordings = {
        "depth is zero everywhere": (pose, color, bytes(2 * DEPTH_SIZE[0] * DEPTH_SIZE[1])),
        "colour": (pose, color[:99], millimetres().tobytes()),
        "rigid": (2 * pose, color, millimetres().tobytes()),
        "depth of 3 bytes": (pose, color, b"abc"),
    }
    for said, frame in recordings.items():
        zero.but(frames=[frame], depth_kind=0).write(root / "scans" / NAME / f"{NAME}.sens")
        with pytest.raises(FrameError, match=f"{NAME}.sens: frame 0: .*{said}"):
            _ = only(root).frame(0).color


def test_frames_25k_that_cannot_be_used(root):
    frames = write_frames_25k(root / "scannet_frames_25k" / NAME, ids=[0, 1, 2, 3, 4, 5])
    write_matrix(frames / "pose/000000.txt", np.full((4, 4), -np.inf))
    write_depth(frames / "depth/000001.png", np.zeros(DEPTH_SIZE))
    (frames / "color/000002.jpg").write_bytes(encoded(picture())[:50])
    (frames / "depth/000003.png").unlink()
    write_color(frames / "color/000004.jpg", picture(size=(8, 8)))
    (frames / "color/thumbs.jpg").write_bytes(b"")
    scene = only(root)
    assert scene.frame_ids.tolist() == [0, 1, 2, 3, 4, 5]
    for frame_id, named in enumerate(["pose/000000.txt", "depth/000001.png", "color/000002.jpg", "depth/000003.png",
                                      "color/000004.jpg"]):  # fmt: skip
        with pytest.raises(FrameError, match=named):
            _ = scene.frame(frame_id).color
    scene.frame(5)
    # A broken first frame doesn't hide the size of the others.
    (frames / "color/000000.jpg").write_bytes(b"")
    assert only(root).color_camera.height == COLOR_SIZE[0]


def test_frames_25k_of_which_nothing_is_left(root):
    frames = write_frames_25k(root / "scannet_frames_25k" / NAME, ids=[0])
    write_matrix(frames / "intrinsics_depth.txt", np.eye(5))
    with pytest.raises(HiclError, match="intrinsics_depth.txt: .*shape"):
        only(root).frame(0)
    write_matrix(frames / "intrinsics_depth.txt", matrix(DEPTH_K))
    (frames / "intrinsics_color.txt").unlink()
    with pytest.raises(HiclError, match="scannet_frames_25k.*no intrinsics"):
        _ = only(root).color_camera
    write_matrix(frames / "intrinsics_color.txt", matrix(COLOR_K))
    (frames / "color/000000.jpg").write_bytes(b"")
    with pytest.raises(HiclError, match="none of its 1 frames decodes"):
        _ = only(root).color_camera
    (frames / "color/000000.jpg").unlink()
    with pytest.raises(HiclError, match="scannet_frames_25k.*holds no frames"):
        _ = only(root).frame_ids


def test_every_nyu_id(tmp_path):
    ids = np.arange(41)
    xyz = np.random.default_rng(0).random((41, 3)).astype("f4")
    write_mesh(tmp_path / NAME, label=ids, xyz=xyz, rgb=np.zeros((41, 3), "u1"), faces=None)
    found = only(tmp_path).points().label
    assert found.dtype == np.uint8
    for nyu, label in zip(ids.tolist(), found.tolist(), strict=True):
        assert (scannet.CLASSES[label] if label != 255 else None) == NYU40.get(nyu)
    assert len(set(scannet.CLASSES)) == 20


def test_raw_category_ids_are_refused(tmp_path):
    write_mesh(tmp_path / NAME, label=[1, 230, 0, 13, 8])
    with pytest.raises(HiclError, match="labels.ply: label 230, but NYU40 ends at 40"):
        only(tmp_path).points()


def test_where_frames_are_looked_for(tmp_path):
    """scannet_frames_25k, also as the downloader leaves it, then the .sens, then an export beside the mesh."""
    folder = write_mesh(tmp_path / "scans" / NAME)
    with pytest.raises(
        HiclError, match=rf"{NAME}.sens: missing.* scannet_frames_25k/{NAME} or tasks/scannet_frames_25k"
    ):
        only(tmp_path).missing()
    for number in range(45):
        write_color(folder / f"color/{number}.jpg", picture(number))
        write_depth(folder / f"depth/{number}.png", millimetres(number))
        write_matrix(folder / f"pose/{number}.txt", np.eye(4))
    for kind, k in (("color", COLOR_K), ("depth", DEPTH_K)):
        write_matrix(folder / f"intrinsic/intrinsic_{kind}.txt", matrix(k))

    def found(frames, source):
        scene = only(tmp_path)
        assert scene.missing() == [] and scene.frame_ids.tolist() == frames
        assert scannet.sources([scene]) == f"frames: {source} of 1 scans"
        assert scene.color_camera == Camera(30, 31, 15.5, 11.5, *COLOR_SIZE)
        return scene

    np.testing.assert_allclose(found([0, 20, 40], "color, depth and pose beside the mesh").frame(20).pose, np.eye(4))
    for number in range(45):
        if number % 20:
            for path in (f"color/{number}.jpg", f"depth/{number}.png", f"pose/{number}.txt"):
                (folder / path).unlink()
    found([0, 20, 40], "color, depth and pose beside the mesh")  # thinned by the exporter already
    sens(2).write(folder / f"{NAME}.sens")
    found([0], ".sens")
    write_frames_25k(tmp_path / "tasks/scannet_frames_25k" / NAME, ids=[0, 300])
    found([0, 300], "scannet_frames_25k")
    (tmp_path / "tasks/scannet_frames_25k" / NAME / "depth/000300.png").unlink()
    (lacking,) = only(tmp_path).missing()
    assert lacking.endswith("color/000300.jpg: no 000300.png")
    (folder / f"{NAME}_vh_clean_2.ply").unlink()
    with pytest.raises(HiclError, match="_vh_clean_2.ply: missing"):
        only(tmp_path).missing()


def test_intrinsics_of_images_of_another_size(root):
    frames = write_frames_25k(root / "scannet_frames_25k" / NAME, ids=[0])
    write_matrix(frames / "intrinsics_color.txt", matrix((60, 62, 31.5, 23.5)))  # of twice the images' size
    with pytest.raises(HiclError, match=r"intrinsics_color.txt: principal point \(31.5, 23.5\) is far from the middle"):
        _ = only(root).color_camera
    write_matrix(frames / "intrinsics_color.txt", matrix(COLOR_K))
    write_matrix(frames / "intrinsics_depth.txt", matrix((7.5, 8, 3.5, 2.5)))  # of half
    with pytest.raises(HiclError, match="intrinsics_depth.txt: principal point"):
        _ = only(root).color_camera
    shutil.rmtree(frames)
    sens(1).but(depth_k=(30, 31, 15.5, 11.5)).write(root / "scans" / NAME / f"{NAME}.sens")
    with pytest.raises(HiclError, match=".sens: depth: principal point"):
        _ = only(root).color_camera


@pytest.mark.parametrize(
    "text",
    [
        "scene0707_00\n",
        "\ufeffscene0707_00\r\n",
        "# mine\n\n/data/scans/scene0707_00/scene0707_00_vh_clean_2.ply  # the lobby\n",
        "scans_test/scene0707_00\n./scene0707_00.sens\n",
        "0,scene0707_00,1",
    ],
)
def test_forms_of_a_split_list(tmp_path, text):
    write_mesh(tmp_path / "scans" / "scene0707_00")
    (tmp_path / "scannetv2_mine.txt").write_bytes(text.encode())
    scenes, missing = scannet.find_scenes(tmp_path, "mine")
    assert [(scene.id, split) for scene, split in scenes] == [("scene0707_00", "mine")] and missing == 0


def test_an_odd_line_of_a_split_list_is_quoted(tmp_path):
    write_mesh(tmp_path / "scans" / "scene0707_00")
    (tmp_path / "scannetv2_mine.txt").write_text("scene0707_00\nkitchen of mine\n")
    for split in ("mine", None):
        with pytest.raises(HiclError, match="scannetv2_mine.txt: line 2, 'kitchen of mine', names no scan"):
            scannet.find_scenes(tmp_path, split)
    assert scannet.find_scenes(tmp_path, "test")[1] == 99, "a list that isn't asked for does no harm"


def test_without_truth_or_sets(tmp_path):
    write_mesh(tmp_path / "scans_test" / "scene0707_00")
    scene = only(tmp_path)
    assert scene.points().label is None and scene.shipped_sets() is None
    assert len(scene.point_files()) == 1


def test_labels_of_another_mesh(tmp_path):
    folder = write_mesh(tmp_path / NAME, label=[1, 2, 3])
    with pytest.raises(HiclError, match="labels.ply: 3 labels for a mesh of 5 vertices"):
        only(tmp_path).points()
    mesh = folder / f"{NAME}_vh_clean_2.ply"
    (folder / f"{NAME}_vh_clean_2.labels.ply").write_bytes(mesh.read_bytes())
    with pytest.raises(HiclError, match="labels.ply: no vertex property 'label'"):
        only(tmp_path).points()


def test_a_mesh_that_will_not_do(tmp_path):
    folder = write_mesh(tmp_path / NAME, rgb=None, segments=[0] * 5)
    with pytest.raises(HiclError, match="_vh_clean_2.ply: no red, green and blue"):
        only(tmp_path).points()
    xyz = XYZ.copy()
    xyz[3, 1] = np.nan
    write_mesh(folder, xyz=xyz)
    with pytest.raises(HiclError, match="_vh_clean_2.ply: vertex 3 is not finite"):
        only(tmp_path).points()
    (folder / f"{NAME}_vh_clean_2.ply").unlink()
    for read in (only(tmp_path).points, only(tmp_path).shipped_sets):
        with pytest.raises(HiclError, match="_vh_clean_2.ply: can't be read"):
            read()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "null", "{}", '{"segIndices": 5}', '{"segIndices": null}', '{"segIndices": [1, 2]}',
        '{"segIndices": [[1], [2, 3]]}', '{"segIndices": [[1], [1], [1], [1], [1]]}',
        '{"segIndices": [1, 1, 1, 1, "a"]}',
        '{"segIndices": [1, 1, 1, 1, 99999999999]}', '{"segIndices": [1, 1, 1, 1, -1]}', '{"segIndices": []}',
        '{"segIndices": [1, 1, 1, 1, null]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_sets_that_will_not_do(tmp_path, text):
    folder = write_mesh(tmp_path / NAME)
    (folder / f"{NAME}_vh_clean_2.0.010000.segs.json").write_text(text)
    with pytest.raises(HiclError, match="segs.json"):
        only(tmp_path).shipped_sets()


def test_no_recording(tmp_path):
    write_mesh(tmp_path / NAME)
    with pytest.raises(HiclError, match=f"{NAME}.sens: can't be read"):
        _ = only(tmp_path).frame_ids
    sens(0).write(tmp_path / NAME / f"{NAME}.sens")
    with pytest.raises(HiclError, match=f"{NAME}.sens: holds no frames"):
        _ = only(tmp_path).frame_ids


def test_the_official_split():
    known = {"scene0568_00": "val", "scene0707_00": "test", "scene0191_00": "train", "scene0000_00": "train",
             "scene0806_00": "test", "scene0704_01": "val", "scene0706_00": "train"}  # fmt: skip
    assert {name: scannet_splits.official_split(name) for name in known} == known
    # The rooms of the 312 scans in the official scannetv2_val.txt, ascending; the list itself isn't ours to ship.
    val = [room for room in range(807) if scannet_splits.official_split(f"scene{room:04d}_00") == "val"]
    assert len(val) == 142
    digest = hashlib.sha256(" ".join(map(str, val)).encode()).hexdigest()
    assert digest == "07b219a6d24c5a2b8e7d251831889434f75d25be17eb0c9176a31c1eb0972283"
    for odd in ("kitchen", "scene0000", "scene0000_00.ply", "scene00000_00"):
        with pytest.raises(HiclError, match=odd):
            scannet_splits.official_split(odd)


def test_splits(tmp_path):
    for name in ("scene0568_00", "scene0568_01", "scene0707_00", "scene0191_00"):
        write_mesh(tmp_path / "scans" / name)
    (tmp_path / "scans" / "notes").mkdir()

    def found(split):
        scenes, missing = scannet.find_scenes(tmp_path, split)
        return [(scene.id, of) for scene, of in scenes], missing

    assert found("val") == ([("scene0568_00", "val"), ("scene0568_01", "val")], 310)
    assert found("test") == ([("scene0707_00", "test")], 99)
    assert found("train") == ([("scene0191_00", "train")], 1200)
    assert dict(found(None)[0]) == {
        "scene0191_00": "train", "scene0568_00": "val", "scene0568_01": "val", "scene0707_00": "test",
    }  # fmt: skip
    with pytest.raises(HiclError, match="no split 'small'.*scannetv2_small.txt"):
        found("small")

    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "scannetv2_small.txt").write_text("scene0707_00.ply\nscene0191_00\nscene0001_00\n")
    assert found("small") == ([("scene0191_00", "small"), ("scene0707_00", "small")], 1)
    (tmp_path / "scannetv2_empty.txt").write_text("scene0001_00\n")
    with pytest.raises(HiclError, match="split 'empty' is empty"):
        found("empty")
    (tmp_path / "Tasks" / "Benchmark").mkdir(parents=True)
    (tmp_path / "Tasks" / "Benchmark" / "scannetv2_val.txt").write_text("scene0707_00\n")
    assert found("val") == ([("scene0707_00", "val")], 0)
    (tmp_path / "scannetv2_bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(HiclError, match="scannetv2_bad.txt"):
        found("bad")


def test_an_empty_split(tmp_path):
    write_mesh(tmp_path / "scans" / NAME)
    with pytest.raises(HiclError, match="split 'val' is empty"):
        scannet.find_scenes(tmp_path, "val")


def test_a_root_that_is_none(tmp_path):
    with pytest.raises(HiclError, match="no such folder"):
        scannet.find_scenes(tmp_path / "none")
    with pytest.raises(HiclError, match="no scans"):
        scannet.find_scenes(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "5", '"x"'])
def test_another_miniature_json(root, text):
    (root / "miniature.json").write_text(text)
    if text == "{":
        with pytest.raises(HiclError, match="miniature.json"):
            scannet.find_scenes(root)
    else:
        assert scannet.miniature_settings(root) is None


def test_separate_intrinsics(root):
    recording = sens(1).but(color_k=(100, 101, 16, 12), depth_k=(50, 51, 8, 6))
    recording.write(root / "scans" / NAME / f"{NAME}.sens")
    scene = only(root)
    assert (scene.color_camera.fx, scene.depth_camera.fx) == (100, 50)
    np.testing.assert_array_equal(matrix((100, 101, 16, 12))[:2, 2], [scene.color_camera.cx, scene.color_camera.cy])
