import pickle

import numpy as np
import pytest
from formats import (
    COLOR_K,
    COLOR_SIZE,
    DEPTH_SIZE,
    matrix,
    millimetres,
    picture,
    write_color,
    write_depth,
    write_matrix,
    write_ply,
)
from plyfile import PlyData, PlyElement

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets.nyu40 import CLASSES
from hicl.pipeline.datasets.rgbd import Truth, find_scenes, truth_classes
from hicl.pipeline.datasets.scene import Camera, Said

IDS = (0, 3, 12)


def seven(folder, i):
    name = folder / f"frame-{i:06d}"
    return [name.with_name(f"{name.name}.{ending}") for ending in ("color.png", "depth.png", "pose.txt")]


def seven_jpg(folder, i):
    return [seven(folder, i)[0].with_suffix(".jpg"), *seven(folder, i)[1:]]


def exporter(folder, i):
    return [folder / f"color/{i}.jpg", folder / f"depth/{i}.png", folder / f"pose/{i}.txt"]


def mmdetection(folder, i):
    return [folder / f"{i:05d}.{ending}" for ending in ("jpg", "png", "txt")]


namings = pytest.mark.parametrize(
    "naming, intrinsics",
    [
        (seven, ["camera-intrinsics.txt"]),
        (seven_jpg, ["camera-intrinsics.txt"]),
        (exporter, ["intrinsic/intrinsic_color.txt", "intrinsic/intrinsic_depth.txt"]),
        (exporter, ["intrinsics_color.txt", "intrinsics_depth.txt"]),
        (mmdetection, ["intrinsic.txt"]),
    ],
)


def pose_of(number):
    return np.eye(4) + 0.1 * number * np.eye(4, k=3)


def write_scan(folder, naming=seven, intrinsics=("camera-intrinsics.txt",), k=None, depth_size=COLOR_SIZE, depth=None):
    for number, i in enumerate(IDS):
        color_file, depth_file, pose_file = naming(folder, i)
        options = {} if color_file.suffix == ".png" else {"quality": 95}
        write_color(color_file, picture(number), **options)
        write_depth(depth_file, millimetres(number, depth_size) if depth is None else depth)
        write_matrix(pose_file, pose_of(number))
    for name in intrinsics:
        write_matrix(folder / name, matrix(COLOR_K, 3) if k is None else k)
    return folder


def only(root, **options):
    (scene,) = find_scenes(root, **options)
    return scene


@namings
def test_namings(tmp_path, naming, intrinsics):
    write_scan(tmp_path / "kitchen", naming, intrinsics)
    for root in (tmp_path, tmp_path / "kitchen"):
        scene = pickle.loads(pickle.dumps(only(root)))
        assert scene.id == "kitchen"
        assert scene.frame_ids.tolist() == list(IDS) and scene.frame_ids.dtype == np.int32
        for number, i in enumerate(IDS):
            frame = scene.frame(i)
            assert np.abs(frame.color.astype(int) - picture(number)).mean() < 4
            np.testing.assert_allclose(frame.depth, millimetres(number, COLOR_SIZE) / 1000, rtol=1e-6)
            np.testing.assert_array_equal(frame.pose, pose_of(number))
        assert scene.color_camera == scene.depth_camera == Camera(*COLOR_K, *COLOR_SIZE)
        files = scene.frame_files()
        assert len(files) == 9 + len(intrinsics) and all(file.is_file() for file in files)
        assert scene.point_files() == files
        assert scene.shipped_sets() is None
    assert only(tmp_path, frame_step=2).frame_ids.tolist() == [0, 12]


def test_several_scenes(tmp_path):
    for name in ("b", "a"):
        write_scan(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("")
    assert [scene.id for scene in find_scenes(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("k", [matrix(COLOR_K, 3), matrix(COLOR_K, 4), np.array(COLOR_K)])
def test_forms_of_intrinsics(tmp_path, k):
    assert only(write_scan(tmp_path, k=k)).color_camera == Camera(*COLOR_K, *COLOR_SIZE)


@pytest.mark.parametrize(
    "k", [np.eye(2), np.ones((3, 4)), np.ones(3), matrix((0, 1, 15, 11), 3), np.full((3, 3), np.nan)]
)
def test_intrinsics_that_will_not_do(tmp_path, k):
    with pytest.raises(HiclError, match="camera-intrinsics.txt") as error:
        only(write_scan(tmp_path, k=k)).frame(0)
    assert not isinstance(error.value, FrameError)


def test_no_intrinsics(tmp_path):
    scene = only(write_scan(tmp_path, intrinsics=()))
    for read in (lambda: scene.frame(0), lambda: scene.color_camera, scene.frame_files):
        with pytest.raises(HiclError, match="no intrinsics; expected camera-intrinsics.txt") as error:
            read()
        assert not isinstance(error.value, FrameError)


def column_row(camera, xyz):
    return camera.fx * xyz[0] / xyz[2] + camera.cx, camera.fy * xyz[1] / xyz[2] + camera.cy


@pytest.mark.parametrize("describes", ["colour", "depth"])
def test_one_file_for_two_sizes(tmp_path, describes):
    """Colour is 24x32, depth 12x16. A depth pixel covers 2x2 colour pixels, so its centre lies at 2c + 0.5 of them."""
    k = COLOR_K if describes == "colour" else (15.0, 15.5, 7.5, 5.5)
    scene = only(write_scan(tmp_path, k=matrix(k, 3), depth_size=DEPTH_SIZE))
    assert (scene.color_camera.height, scene.color_camera.width) == COLOR_SIZE
    assert (scene.depth_camera.height, scene.depth_camera.width) == DEPTH_SIZE
    for xyz in ([0.1, 0.05, 2.0], [-0.7, 0.3, 1.5], [0, 0, 1]):
        column, row = column_row(scene.color_camera, xyz)
        in_depth = column_row(scene.depth_camera, xyz)
        np.testing.assert_allclose([2 * in_depth[0] + 0.5, 2 * in_depth[1] + 0.5], [column, row])
    own = scene.color_camera if describes == "colour" else scene.depth_camera
    assert (own.fx, own.fy, own.cx, own.cy) == k


def test_a_known_point_across_sizes(tmp_path):
    """At 2 m, 0.4 m right and 0.2 m down: colour column 30·0.2 + 15.5 = 21.5, row 31·0.1 + 11.5 = 14.6, by hand; in
    depth pixels (21.5 − 0.5)/2 = 10.5 and (14.6 − 0.5)/2 = 7.05."""
    scene = only(write_scan(tmp_path, depth_size=DEPTH_SIZE))
    np.testing.assert_allclose(column_row(scene.color_camera, [0.4, 0.2, 2]), [21.5, 14.6])
    np.testing.assert_allclose(column_row(scene.depth_camera, [0.4, 0.2, 2]), [10.5, 7.05])


def test_intrinsics_of_another_image(tmp_path):
    with pytest.raises(
        HiclError,
        match=r"camera-intrinsics.txt: principal point \(640, 360\) is far from the middle of images of 32x24",
    ):
        only(write_scan(tmp_path, k=matrix((1000, 1000, 640, 360), 3))).frame(0)


rotation_off = np.diag([1.0, 1, -1, 1])


@pytest.mark.parametrize(
    "pose, said",
    [
        (np.full((4, 4), np.nan), "not finite"),
        (np.full((4, 4), -np.inf), "not finite"),
        (3 * np.eye(4), "rigid"),
        (rotation_off, "rigid"),
        (np.eye(4)[:3], "shape"),
        (np.eye(3), "shape"),
    ],
)
def test_a_bad_pose_costs_its_frame_only(tmp_path, pose, said):
    write_scan(tmp_path)
    write_matrix(seven(tmp_path, 3)[2], pose)
    scene = only(tmp_path)
    with pytest.raises(FrameError, match=f"frame-000003.pose.txt: .*{said}"):
        scene.frame(3)
    scene.frame(0), scene.frame(12)


def test_bad_images_cost_their_frame_only(tmp_path):
    write_scan(tmp_path)
    write_depth(seven(tmp_path, 0)[1], np.zeros(COLOR_SIZE))
    seven(tmp_path, 3)[0].write_bytes(b"junk")
    scene = only(tmp_path)
    with pytest.raises(FrameError, match="frame-000000.depth.png: depth is zero everywhere"):
        scene.frame(0)
    with pytest.raises(FrameError, match="frame-000003.color.png: colour doesn't decode"):
        _ = scene.frame(3).color
    seven(tmp_path, 12)[1].unlink()
    with pytest.raises(FrameError, match="frame-000012.depth.png"):
        scene.frame(12)
    write_depth(seven(tmp_path, 12)[1], np.ones((5, 5)))
    with pytest.raises(FrameError, match="frame-000012.depth.png: depth is 5x5"):
        scene.frame(12)
    for i in IDS:
        seven(tmp_path, i)[0].write_bytes(b"junk")
    with pytest.raises(HiclError, match="none of its 3 frames decodes.*frame-000000"):
        only(tmp_path).frame(0)


def test_depth_scale(tmp_path):
    write_scan(tmp_path, depth=np.full(COLOR_SIZE, 5000))
    assert np.unique(only(tmp_path, said=Said(depth_scale=5000.0)).frame(0).depth).tolist() == [1.0]


def test_no_frames(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(HiclError, match="no posed RGB-D frames"):
        find_scenes(tmp_path)
    with pytest.raises(HiclError, match="no such folder"):
        find_scenes(tmp_path / "none")


def test_a_mesh_of_its_own(tmp_path):
    write_scan(tmp_path)
    normal = np.tile(np.array([[0, 0, 1]], "f4"), (5, 1))
    write_ply(tmp_path / "mesh.ply", normal=normal)
    scene = only(tmp_path)
    points = scene.points()
    assert len(points.xyz) == 5 and points.label is None
    assert points.faces.shape == (3, 3)
    np.testing.assert_array_equal(points.normal, normal)
    assert scene.point_files() == [tmp_path / "mesh.ply"]
    write_ply(tmp_path / "again.ply")
    with pytest.raises(HiclError, match="again.ply and mesh.ply"):
        only(tmp_path).points()


def test_which_ply_is_the_surface(tmp_path):
    """ScanNet's cleaned mesh goes before the finer one and its labels; of others there must be one."""
    write_scan(tmp_path)
    for name in ("a_vh_clean.ply", "a_vh_clean_2.ply", "a_vh_clean_2.labels.ply"):
        write_ply(tmp_path / name, label=np.array([1, 39, 0, 13, 8]) if "labels" in name else None)
    scene = only(tmp_path)
    assert [path.name for path in scene.point_files()] == ["a_vh_clean_2.ply", "a_vh_clean_2.labels.ply"]
    assert scene.points().label.tolist() == [0, 19, 255, 255, 7] and truth_classes([scene]) == CLASSES
    (tmp_path / "a_vh_clean_2.ply").unlink()
    assert [path.name for path in only(tmp_path).point_files()][0] == "a_vh_clean.ply"


def test_ground_truth_of_the_surface(tmp_path):
    write_scan(tmp_path)
    names = ("sofa", "chair", "plant")
    write_ply(tmp_path / "mesh.ply", label=np.array([0, 1, 2, 255, 2]))
    scene = only(tmp_path, truth=Truth(names))
    assert scene.points().label.tolist() == [0, 1, 2, 255, 2] and truth_classes([scene]) == names
    write_ply(tmp_path / "mesh.ply", label=np.array([0, 5, 6, 40, 1]))
    with pytest.raises(HiclError, match="mesh.ply: unknown class 5; the list has 3.*--label-ids nyu40"):
        only(tmp_path, truth=Truth(names)).points()
    assert only(tmp_path, truth=Truth(names, "nyu40")).points().label.tolist() == [255, 1, 0, 255, 255]
    write_ply(tmp_path / "mesh.ply")
    scene = only(tmp_path, truth=Truth(names))
    assert scene.points().label is None and truth_classes([scene]) == ()


def test_coordinates_of_surveyors(tmp_path):
    """Six digits before the point and nine decimals after it are more than float32 holds: an origin comes off first."""
    offset = np.array([691234.0, 5335678.0, 500.0])
    xyz = np.array([[0, 0, 2], [0.2, 0, 2], [0, 0.2, 2], [0.2, 0.2, 2], [1.001, 1.002, 1.003]])
    write_scan(tmp_path)
    for number, i in enumerate(IDS):
        pose = pose_of(number)
        pose[:3, 3] += offset
        write_matrix(seven(tmp_path, i)[2], pose)
    write_doubles(tmp_path / "mesh.ply", xyz + offset)
    scene = only(tmp_path)
    points = scene.points()
    assert points.xyz.dtype == np.float32 and np.abs(points.xyz).max() < 10
    np.testing.assert_allclose(points.xyz + scene.origin, xyz + offset, atol=1e-6)
    np.testing.assert_allclose(scene.frame(12).pose[:3, 3] + scene.origin, offset + pose_of(2)[:3, 3], atol=1e-6)
    write_ply(tmp_path / "mesh.ply", (xyz + offset).astype("f4"))
    with pytest.raises(
        HiclError, match="mesh.ply: coordinates up to 5.336e.06 m as 32-bit floats.* write them as doubles"
    ):
        only(tmp_path).points()
    (tmp_path / "mesh.ply").unlink()
    for i in IDS:
        write_depth(seven(tmp_path, i)[1], np.full(COLOR_SIZE, 500))
    scene = only(tmp_path)
    np.testing.assert_allclose(scene.points().xyz[:, 2] + scene.origin[2], 500.5, atol=0.25)
    write_doubles(tmp_path / "mesh.ply", xyz)
    assert not only(tmp_path).origin.any(), "a scan near 0 stays where it is"


def write_doubles(path, xyz):
    kinds = [(axis, "f8") for axis in "xyz"] + [(color, "u1") for color in ("red", "green", "blue")]
    vertex = np.zeros(len(xyz), kinds)
    for column, axis in enumerate("xyz"):
        vertex[axis] = xyz[:, column]
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(path))


def test_a_cloud_painted_from_its_frames(tmp_path):
    """A wall at 2 m before a camera that doesn't move: a point's colour is the mean of its pixel over the frames."""
    write_scan(tmp_path, depth=np.full(COLOR_SIZE, 2000))
    for i in IDS:
        write_matrix(seven(tmp_path, i)[2], np.eye(4))
    rows, columns = np.array([0, 5, 23, 10]), np.array([0, 7, 31, 20])
    seen = np.stack([(columns - 15.5) / 30 * 2, (rows - 11.5) / 31 * 2, np.full(4, 2.0)], axis=1)
    unseen = [[0, 0, 3], [0, 0, -2], [9, 0, 2]]
    write_ply(tmp_path / "cloud.ply", np.concatenate([seen, unseen]).astype("f4"), None, None)
    mean = np.mean([picture(number).astype(float) for number in range(3)], axis=0)[rows, columns]
    points = only(tmp_path).points()
    assert points.faces is None and points.rgb.dtype == np.uint8
    np.testing.assert_allclose(points.rgb[:4], mean, atol=0.51)
    assert (points.rgb[4:] == 128).all()


def test_a_cloud_fused_from_its_frames(tmp_path):
    """Of a wall at 2 m all fused points lie on the wall, and inside what the camera sees."""
    write_scan(tmp_path, depth=np.full(COLOR_SIZE, 2000), k=matrix((300, 300, 15.5, 11.5), 3))
    for i in IDS:
        write_matrix(seven(tmp_path, i)[2], np.eye(4))
    points = only(tmp_path).points()
    assert len(points.xyz) > 30 and points.faces is None
    assert np.abs(points.xyz[:, 2] - 2).max() < 1e-3
    assert np.abs(points.xyz[:, 0]).max() < 15.6 / 300 * 2 and np.abs(points.xyz[:, 1]).max() < 11.6 / 300 * 2
    for i in IDS:
        write_depth(seven(tmp_path, i)[1], np.zeros(COLOR_SIZE))
    with pytest.raises(HiclError, match=f"{tmp_path.name}: depth fusion"):
        only(tmp_path).points()
