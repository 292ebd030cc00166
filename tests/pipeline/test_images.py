import struct
import zlib

import numpy as np
import pytest
from formats import encoded, millimetres, picture, write_color, write_depth
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import depths, images, nyu40
from hicl.pipeline.datasets.scene import Camera

camera = Camera(30, 30, 7.5, 5.5, 12, 16)


def text(tmp_path, content):
    path = tmp_path / "numbers.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_colour(tmp_path):
    path = write_color(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(images.read_color(path), picture())
    with pytest.raises(FrameError, match="a.png: colour is 24x32, expected 12x16"):
        images.read_color(path, camera)
    with pytest.raises(FrameError, match="none.png: can't be read"):
        images.read_color(tmp_path / "none.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(FrameError, match="a.png: colour doesn't decode"):
        images.read_color(path)


@pytest.mark.parametrize("scale", [1000.0, 5000.0])
def test_depth(tmp_path, scale):
    raw = millimetres()
    raw[0, :3] = 0, 65535, 65534  # 65535 is 7-Scenes' "nothing measured"
    depth = depths.read_depth(write_depth(tmp_path / "d.png", raw), camera, scale)
    assert depth.dtype == np.float32
    expected = raw / scale
    expected[0, 1] = 0
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_depth_that_will_not_do(tmp_path):
    path = write_depth(tmp_path / "d.png", millimetres(size=(5, 6)))
    with pytest.raises(FrameError, match="d.png: depth is 5x6, expected 12x16"):
        depths.read_depth(path, camera)
    for image in (picture(), picture()[..., 0]):
        Image.fromarray(image).save(path)
        with pytest.raises(FrameError, match="d.png: depth is uint8"):
            depths.read_depth(path)
    path.write_bytes(b"junk")
    with pytest.raises(FrameError, match="d.png: depth doesn't decode"):
        depths.read_depth(path)
    with pytest.raises(FrameError, match="none.png: depth doesn't decode .No such file"):
        depths.read_depth(tmp_path / "none.png")


def test_pose(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    path = text(tmp_path, f"{c} {-s} 0 1\n{s} {c} 0 2\n0 0 1 3\n\n0 0 0 1\n")
    np.testing.assert_array_equal(images.read_pose(path), [[c, -s, 0, 1], [s, c, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_array_equal(images.read_pose(text(tmp_path, "1, 0, 0, 1\n" + "\n".join(
        ["0 1 0 0", "0 0 1 0", "0 0 0 1"]))), np.eye(4) + np.eye(4, k=3))  # fmt: skip


@pytest.mark.parametrize(
    "content, said",
    [
        ("-inf -inf -inf -inf\n" * 4, "not finite"),
        ("nan 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1", "not finite"),
        ("1 0 0 inf\n0 1 0 0\n0 0 1 0\n0 0 0 1", "not finite"),
        ("2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1", "not a rigid motion"),
        ("1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1", "not a rigid motion"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 2", "not a rigid motion"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n1 2 3 1", "not a rigid motion"),
        ("1e200 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1", "not a rigid motion"),
        ("0 0 0 0\n" * 4, "not a rigid motion"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0", r"shape \(3, 4\)"),
        ("1 0 0\n0 1 0\n0 0 1", r"shape \(3, 3\)"),
        ("", "not a matrix of numbers .an empty file"),
        ("<!doctype html>", "not a matrix of numbers .a web page"),
        ("\ufeff2 0 0 0\n0 2 0 0\n0 0 2 0\n0 0 0 1", "not a rigid motion"),  # the byte-order mark is passed over
        ("1 0 0 0\n0 1 0\n", "not a matrix of numbers"),
        ("rigid motion", "not a matrix of numbers"),
        (b"\xff\xfe\x00", "not a matrix of numbers"),
    ],
)
def test_a_pose_that_will_not_do(tmp_path, content, said):
    with pytest.raises(FrameError, match=f"numbers.txt: .*{said}"):
        images.read_pose(text(tmp_path, content))
    with pytest.raises(FrameError, match="none.txt: missing"):
        images.read_pose(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "content",
    [
        "500 0 320\n0 501 240\n0 0 1\n",
        "500 0 320 0\n0 501 240 0\n0 0 1 0\n0 0 0 1\n",
        "500 501 320 240",
        "500, 501, 320, 240\n",
    ],
)
def test_intrinsics(tmp_path, content):
    assert images.read_intrinsics(text(tmp_path, content), (480, 640)) == Camera(500, 501, 320, 240, 480, 640)


@pytest.mark.parametrize(
    "content, said",
    [
        ("500 0\n0 501", r"shape \(2, 2\)"),
        ("500 0 320\n0 501 240", r"shape \(2, 3\)"),
        ("500 501 320", r"shape \(1, 3\)"),
        ("", "not a matrix of numbers .an empty file"),
        ("<!doctype html>", "not a matrix of numbers .a web page"),
        ("0 501 320 240", "focal"),
        ("-500 501 320 240", "focal"),
        ("nan 501 320 240", "focal"),
        ("500 501 inf 240", "numbers.txt"),
        ("a b c d", "not a matrix of numbers"),
    ],
)
def test_intrinsics_that_will_not_do(tmp_path, content, said):
    with pytest.raises(HiclError, match=f"numbers.txt: .*{said}" if said != "numbers.txt" else said) as error:
        images.read_intrinsics(text(tmp_path, content), (480, 640))
    assert not isinstance(error.value, FrameError)  # no frame can go on without them


def test_labels(tmp_path):
    label = np.array([[0, 1, 2], [255, 2, 1]], np.uint8)
    path = tmp_path / "l.png"
    for image in (Image.fromarray(label), Image.fromarray(label.astype(np.uint16))):
        image.save(path)
        found = images.read_label(path, ("a", "b", "c"))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, label)
    with pytest.raises(HiclError, match="l.png: unknown class 2; the list has 2"):
        images.read_label(path, ("a", "b"))
    path.write_bytes(encoded(picture(), "PNG"))
    with pytest.raises(HiclError, match="l.png: uint8 with shape"):
        images.read_label(path, ("a", "b", "c"))
    path.write_bytes(b"junk")
    with pytest.raises(HiclError, match="l.png: label image doesn't decode"):
        images.read_label(path, ("a", "b", "c"))
    with pytest.raises(HiclError, match="none.png"):
        images.read_label(tmp_path / "none.png", ("a", "b", "c"))


def test_a_palette_is_read_as_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("L")
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "l.png")
    np.testing.assert_array_equal(images.read_label(tmp_path / "l.png", ("a", "b", "c")), [[0, 1, 2]])


def test_nyu40_ids():
    """1 is wall, 5 chair, 39 other furniture, 13 (blinds) none of the 20; 0 is nothing."""
    ids = np.array([[0, 1, 5], [39, 13, 40]], np.uint16)
    found = images.label_classes(ids, ("chair", "plant", "wall"), "nyu40", "a.png")
    assert found.dtype == np.uint8 and found.tolist() == [[255, 2, 0], [255, 255, 255]]
    assert images.label_classes(ids, nyu40.CLASSES, "nyu40", "a.png").tolist() == [[255, 0, 4], [19, 255, 255]]
    with pytest.raises(HiclError, match="a.png: label 41, but NYU40 ends at 40"):
        images.label_classes(ids + 1, nyu40.CLASSES, "nyu40", "a.png")
    with pytest.raises(HiclError, match="unknown class 39; the list has 20.*--label-ids nyu40"):
        images.label_classes(np.array([39, 255]), nyu40.CLASSES, "classes", "a.png")
    with pytest.raises(HiclError, match="unknown class 57; the list has 20") as error:
        images.label_classes(np.array([57]), nyu40.CLASSES, "classes", "a.png")
    assert "nyu40" not in str(error.value)
    with pytest.raises(HiclError, match="unknown class -1"):
        images.label_classes(np.array([-1, 0]), nyu40.CLASSES, "classes", "a.png")


@pytest.mark.parametrize("most", [65535, 9000])
def test_depth_as_pgm(tmp_path, most):
    """A value is what stands there, whatever largest one the header names."""
    raw = np.array([[0, 1000, 8999], [258, 1, 65535 if most == 65535 else 0]], ">u2")
    path = tmp_path / "d.PGM"
    path.write_bytes(b"P5\n# a depth camera's\n3 2\n" + str(most).encode() + b"\n" + raw.tobytes())
    np.testing.assert_allclose(depths.read_depth(path), [[0, 1, 8.999], [0.258, 0.001, 0]], rtol=1e-6)
    for content in (path.read_bytes()[:-1], b"P5 3 2 255\n" + bytes(6), b"P2 3 2 65535\n0 0 0 0 0 0", b"", b"\xff\xd8"):
        path.write_bytes(content)
        with pytest.raises(FrameError, match="d.PGM: depth doesn't decode"):
            depths.read_depth(path)


def test_transposed_intrinsics(tmp_path):
    with pytest.raises(HiclError, match="numbers.txt: the matrix is transposed; expected the rows fx 0 cx"):
        images.read_intrinsics(text(tmp_path, "500 0 0\n0 501 0\n320 240 1\n"), (480, 640))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "an empty file"),
        (bytes(3000), "nothing but zeros"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<html>not found</html>", "a web page"),
        (b"some text", "cannot identify image file"),
    ],
)
def test_what_is_no_image_is_told_apart(tmp_path, content, said):
    (tmp_path / "0.jpg").write_bytes(content)
    for read in (images.read_color, depths.read_depth, lambda path: images.read_label(path, ("a", "b"))):
        with pytest.raises(HiclError, match=f"0.jpg: .* doesn't decode .{said}") as error:
            read(tmp_path / "0.jpg")
        assert "BytesIO" not in str(error.value)


@pytest.mark.parametrize("kind", ["color", "depth", "label"])
def test_a_header_of_more_pixels_than_the_file_can_hold(tmp_path, kind):
    """Pillow would ask for the memory of 9,000 x 9,000 pixels first."""
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((4, 4), np.uint16 if kind == "depth" else np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 9_000, 9_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    read = {"color": images.read_color, "depth": depths.read_depth, "label": images.read_label}[kind]
    with pytest.raises(HiclError, match="large.png: .*9000x9000 pixels in .* bytes"):
        read(path, ("a", "b", "c")) if kind == "label" else read(path)
