import numpy as np
import pytest
from formats import COLOR_K, COLOR_SIZE, matrix, millimetres, picture, write_color, write_depth, write_matrix, write_ply

from hicl.errors import HiclError
from hicl.pipeline.datasets.namings import list_frames, numbered
from hicl.pipeline.datasets.rgbd import find_scenes


def write_frame(color, depth, pose):
    write_color(color, picture())
    write_depth(depth, millimetres(size=COLOR_SIZE))
    write_matrix(pose, np.eye(4))


def write_named(folder, *names, ending=".jpg"):
    for name in names:
        write_frame(folder / f"color/{name}{ending}", folder / f"depth/{name}.png", folder / f"pose/{name}.txt")
    write_matrix(folder / "intrinsic.txt", matrix(COLOR_K, 3))
    return folder


@pytest.mark.parametrize(
    "names, expected",
    [
        (["10", "9", "000011"], {9: "9", 10: "10", 11: "000011"}),
        (["2147483647"], {2147483647: "2147483647"}),
        (["2147483648", "7"], {0: "7", 1: "2147483648"}),
        (["1305031102175304000", "1305031102175303999"], {0: "1305031102175303999", 1: "1305031102175304000"}),
        (["1305031102175304", "1305031102211214"], {0: "1305031102175304", 1: "1305031102211214"}),
        (["6845.71", "6845.706", "984.5"], {0: "984.5", 1: "6845.706", 2: "6845.71"}),
        (["frame_00010", "frame_9"], {0: "frame_9", 1: "frame_00010"}),
        (["1", "01"], {0: "01", 1: "1"}),
        (["²", "1"], {0: "1", 1: "²"}),
        ([], {}),
    ],
)
def test_numbers_of_names(names, expected):
    found = numbered(names)
    assert found == expected and list(found) == sorted(found)


@pytest.mark.parametrize("ending", [".jpg", ".JPG", ".jpeg", ".png", ".PNG"])
def test_endings_in_capitals(tmp_path, ending):
    (scene,) = find_scenes(write_named(tmp_path, "0", "1", ending=ending))
    assert scene.frame(1).color.shape == (*COLOR_SIZE, 3)
    assert scene.missing() == []


@pytest.mark.parametrize("names", [("frame_00001", "frame_00002"), ("6845.706", "6845.8"), ("a", "b")])
def test_frames_by_name(tmp_path, names):
    (scene,) = find_scenes(write_named(tmp_path / "scan", *names))
    assert scene.frame_ids.tolist() == [0, 1] and scene.frame_ids.dtype == np.int32
    assert tuple(scene.frame_name(i) for i in (0, 1)) == names
    assert scene.frame(1).depth.any()


def test_names_of_one_folder(tmp_path):
    for name in ("6845.706", "6845.81"):
        write_frame(*(tmp_path / f"{name}.{ending}" for ending in ("JPG", "png", "txt")))
    assert sorted(list_frames(tmp_path)) == ["6845.706", "6845.81"]


def test_names_with_a_leading_dot_are_nobodys(tmp_path):
    scan = write_named(tmp_path / "scan", "0")
    write_ply(scan / "scan.PLY")
    for name in ("color/._0.jpg", "depth/._0.png", "._scan.ply", ".2.jpg"):
        (scan / name).write_bytes(b"\0\5\26\7")
    (tmp_path / ".Trashes").mkdir()
    said = []
    (scene,) = find_scenes(tmp_path, say=said.append)
    assert scene.frame_ids.tolist() == [0] and said == []
    assert [file.name for file in scene.point_files()] == ["scan.PLY"]


def test_two_levels_of_folders(tmp_path):
    for name in ("chess/seq-01", "chess/seq-02", "fire/seq-01", "alone"):
        write_named(tmp_path / name, "0")
    assert [scene.id for scene in find_scenes(tmp_path)] == ["alone", "chess_seq-01", "chess_seq-02", "fire_seq-01"]
    assert [scene.source for scene in find_scenes(tmp_path / "fire")] == ["fire/seq-01"]
    write_named(tmp_path / "chess_seq-01", "0")
    with pytest.raises(HiclError, match="two scans by the name 'chess_seq-01'"):
        find_scenes(tmp_path)


def test_folders_that_are_passed_over_are_named(tmp_path):
    write_named(tmp_path / "scan", "0")
    (tmp_path / "notes").mkdir()
    write_color(tmp_path / "photos/IMG_0001.jpg", picture())
    write_color(tmp_path / "tum/rgb/1.5.png", picture())
    said = []
    assert [scene.id for scene in find_scenes(tmp_path, say=said.append)] == ["scan"]
    (line,) = said
    assert "notes (no colour images by a known naming)" in line
    assert "photos (IMG_0001.jpg, but no IMG_0001.png and no IMG_0001.txt)" in line
    assert "tum (no colour images" in line
    with pytest.raises(HiclError, match="no posed RGB-D frames: found .*IMG_0001.jpg, but no.*docs/own-scan.md"):
        find_scenes(tmp_path / "photos")


def test_files_that_are_missing(tmp_path):
    scan = write_named(tmp_path, "0", "1", "2")
    (scan / "depth/1.png").unlink()
    (scan / "pose/2.txt").unlink()
    write_color(scan / "color/thumbs.jpg", picture())
    (scene,) = find_scenes(scan)
    assert scene.frame_ids.tolist() == [0, 1, 2]
    assert [line.removeprefix(f"{scan}/") for line in scene.missing()] == [
        "color/1.jpg: no 1.png",
        "color/2.jpg: no 2.txt",
    ]
    (scan / "pose/0.txt").unlink()
    with pytest.raises(HiclError, match="none of its 3 frames has all"):
        find_scenes(scan)[0].missing()


def test_3rscan(tmp_path):
    """<scan>/sequence, depth as .pgm, intrinsics in _info.txt; 0.5 m at the first pixel, by hand."""
    folder = tmp_path / "scan" / "sequence"
    write_color(folder / "frame-000000.color.jpg", picture())
    write_matrix(folder / "frame-000000.pose.txt", np.eye(4))
    (folder / "frame-000000.depth.pgm").write_bytes(b"P5\n16 12\n65535\n" + b"\x01\xf4" + bytes(2 * (16 * 12 - 1)))
    rows = {"Color": "30 0 15.5 0 0 31 11.5 0 0 0 1 0 0 0 0 1", "Depth": "15 0 7.5 0 0 15.5 5.5 0 0 0 1 0 0 0 0 1"}
    lines = ["m_versionNumber = 4", *(f"m_calibration{kind}Intrinsic = {row} " for kind, row in rows.items())]
    (folder / "_info.txt").write_text("\n".join(lines) + "\n")
    (scene,) = find_scenes(tmp_path)
    assert scene.id == "scan"
    assert (scene.color_camera.fx, scene.depth_camera.fx, scene.depth_camera.cy) == (30, 15, 5.5)
    depth = scene.frame(0).depth
    assert depth[0, 0] == 0.5 and np.count_nonzero(depth) == 1
    (folder / "_info.txt").write_text(lines[1])
    with pytest.raises(HiclError, match="_info.txt: no m_calibrationDepthIntrinsic"):
        _ = find_scenes(tmp_path)[0].color_camera
