import struct

import numpy as np
import pytest
from formats import FACES, RGB, XYZ, write_ply
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hicl.errors import HiclError
from hicl.pipeline.datasets import ply

fresh = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
layouts = pytest.mark.parametrize("layout", [{}, {"order": ">"}, {"text": True}], ids=["little", "big", "ascii"])

HEADER = (
    "ply\nformat {} 1.0\ncomment of ours\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
)
FACE = "element face {}\nproperty list uchar int vertex_indices\n"


def by_hand(path, style="binary_little_endian", vertices=3, faces=1, face_header=FACE, body=None):
    """A triangle whose header may say anything of it."""
    if body is None:
        body = np.eye(3, dtype="<f4").tobytes() + struct.pack("<B3i", 3, 0, 1, 2)
        if style == "ascii":
            body = b"1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n"
    header = HEADER.format(style, vertices) + (face_header.format(faces) if faces is not None else "") + "end_header\n"
    path.write_bytes(header.encode() + body)
    return path


@layouts
def test_mesh(tmp_path, layout):
    vertex, faces = ply.read_ply(write_ply(tmp_path / "a.ply", **layout))
    np.testing.assert_array_equal(ply.xyz(vertex, tmp_path), XYZ)
    np.testing.assert_array_equal(ply.rgb(vertex, tmp_path), RGB)
    np.testing.assert_array_equal(faces, FACES)
    assert faces.dtype == np.int32 and ply.xyz(vertex, tmp_path).dtype == np.float32
    assert ply.vertex_count(tmp_path / "a.ply") == 5


@layouts
@pytest.mark.parametrize("faces", [None, []])
def test_cloud(tmp_path, layout, faces):
    vertex, found = ply.read_ply(write_ply(tmp_path / "a.ply", faces=faces, rgb=None, **layout))
    assert len(vertex) == 5 and found is None
    assert ply.rgb(vertex, tmp_path) is None


@layouts
def test_polygons_become_fans(tmp_path, layout):
    _, faces = ply.read_ply(write_ply(tmp_path / "a.ply", faces=[[0, 1, 3, 2], [2, 3, 4], [4, 3, 2, 1, 0]], **layout))
    expected = [[0, 1, 3], [0, 3, 2], [2, 3, 4], [4, 3, 2], [4, 2, 1], [4, 1, 0]]
    np.testing.assert_array_equal(faces, expected)


@layouts
@pytest.mark.parametrize("face", [[0, 1], [3], []])
def test_a_face_of_less_than_three(tmp_path, layout, face):
    with pytest.raises(HiclError, match=f"a.ply: a face of {len(face)} vertices"):
        ply.read_ply(write_ply(tmp_path / "a.ply", faces=[[0, 1, 2], face], **layout))


@pytest.mark.parametrize("style", ["binary_little_endian", "ascii"])
@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
def test_faces_with_a_colour_before_their_list(tmp_path, style, name):
    header = "element face {}\nproperty uchar red\nproperty list uchar uint " + name + "\n"
    body = np.eye(3, dtype="<f4").tobytes() + struct.pack("<BB3I", 9, 3, 2, 1, 0)
    if style == "ascii":
        body = b"1 0 0\n0 1 0\n0 0 1\n9 3 2 1 0\n"
    _, faces = ply.read_ply(by_hand(tmp_path / "a.ply", style, face_header=header, body=body))
    np.testing.assert_array_equal(faces, [[2, 1, 0]])


@pytest.mark.parametrize("style", ["binary_little_endian", "ascii"])
@pytest.mark.parametrize(
    "lie",
    [{"vertices": 2}, {"vertices": 4}, {"faces": 0}, {"faces": 2}, {"faces": None}, {"vertices": 0}, {"faces": 9}],
)
def test_a_header_that_lies(tmp_path, style, lie):
    with pytest.raises(HiclError, match="lie.ply"):
        ply.read_ply(by_hand(tmp_path / "lie.ply", style, **lie))


@pytest.mark.parametrize("style", ["binary_little_endian", "binary_big_endian", "ascii"])
@pytest.mark.parametrize("lie", [{"vertices": 10**14}, {"faces": 10**14}, {"vertices": 10**30}, {"faces": 10**30}])
def test_a_header_that_promises_more_than_memory_holds(tmp_path, style, lie):
    with pytest.raises(HiclError, match="big.ply"):
        ply.read_ply(by_hand(tmp_path / "big.ply", style, **lie))


@pytest.mark.parametrize("count", [10**14, 10**30])
@pytest.mark.parametrize("style", ["binary_little_endian", "ascii"])
def test_elements_of_nothing(tmp_path, style, count):
    """Elements without properties take no bytes, so the length of the file says nothing against them."""
    path = by_hand(tmp_path / "odd.ply", style, face_header=f"element nothing {count}\n" + FACE)
    try:
        assert len(ply.read_ply(path)[0]) == 3
    except HiclError as error:
        assert "odd.ply" in str(error)


@layouts
@given(data=st.data())
@fresh
def test_cut_anywhere(tmp_path, layout, data):
    whole = write_ply(tmp_path / "a.ply", **layout).read_bytes()
    cut = tmp_path / "cut.ply"
    # An ASCII file may lose its last line's end, and digits of its last number.
    end = len(whole) - 2 if "text" in layout else len(whole) - 1
    cut.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
    with pytest.raises(HiclError, match="cut.ply"):
        ply.read_ply(cut)


@layouts
@given(data=st.data())
@fresh
def test_any_damage_is_an_error_of_ours(tmp_path, layout, data):
    damaged = bytearray(write_ply(tmp_path / "a.ply", **layout).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "bad.ply"
    path.write_bytes(damaged)
    try:
        vertex, faces = ply.read_ply(path)
        xyz = ply.xyz(vertex, path)
        ply.rgb(vertex, tmp_path)
    except HiclError as error:
        assert "bad.ply" in str(error) and "\n" not in str(error)
    else:
        assert xyz.shape == (len(vertex), 3)
        assert faces is None or (faces.min() >= 0 and faces.max() < len(vertex))


@pytest.mark.parametrize("index", [3, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("sides", [3, 4])
def test_a_face_out_of_range(tmp_path, index, sides):
    body = np.eye(3, dtype="<f4").tobytes() + struct.pack(f"<B{sides}i", sides, *[0, 1, 2][: sides - 1], index)
    if sides == 4:
        body = np.eye(3, dtype="<f4").tobytes() + struct.pack("<B4i", 4, 0, 1, 2, index)
    with pytest.raises(HiclError, match=f"a.ply: a face points to vertex {index} of 3"):
        ply.read_ply(by_hand(tmp_path / "a.ply", body=body))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_vertex_that_is_not_finite(tmp_path, bad):
    vertex = np.zeros(3, [("x", "f8"), ("y", "f8"), ("z", "f8")])
    vertex["y"][1] = bad
    with pytest.raises(HiclError, match="a.ply: vertex 1 is not finite"):
        ply.xyz(vertex, tmp_path / "a.ply")


@pytest.mark.parametrize(
    "text, said",
    [
        (b"", "no PLY header"),
        (b"solid cube\nendsolid\n", "no PLY header"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "no PLY header"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "bad line"),
        (b"ply\nformat ascii 1.0\nelement vertex\nend_header\n", "bad line"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty\nend_header\n", "bad line"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar\nend_header\n", "bad line"),
        (b"ply\nformat middle_endian 1.0\nelement vertex 1\nproperty float x\nend_header\n1234", "bad.ply"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty real x\nend_header\n1234", "bad.ply"),
        (b"ply\nelement vertex 1\nproperty float x\nend_header\n1234", "bad.ply"),
        (b"ply\nformat ascii 1.0\nelement points 1\nproperty float x\nend_header\n1\n", "no element 'vertex'"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "no vertices with x, y and z"),
    ],
)
def test_not_a_scan(tmp_path, text, said):
    (tmp_path / "bad.ply").write_bytes(text)
    with pytest.raises(HiclError, match=said) as error:
        ply.read_ply(tmp_path / "bad.ply")
    assert "bad.ply" in str(error.value)


def test_vertices_that_hold_lists(tmp_path):
    text = "ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar float x\nproperty float y\nproperty float z\n"
    (tmp_path / "a.ply").write_text(text + "end_header\n2 1 1 5 6\n")
    with pytest.raises(HiclError, match="a.ply: no vertices with x, y and z"):
        ply.read_ply(tmp_path / "a.ply")


def test_missing_or_a_folder(tmp_path):
    for path in (tmp_path / "none.ply", tmp_path):
        for read in (ply.read_ply, ply.vertex_count):
            with pytest.raises(HiclError, match="can't be read"):
                read(path)


def test_colours_in_other_units(tmp_path):
    def read(kind, values):
        vertex = np.zeros(3, [(name, kind) for name in ("red", "green", "blue")])
        vertex["red"] = values
        return ply.rgb(vertex, tmp_path / "a.ply")[:, 0].tolist()

    assert read("f4", [0, 0.5, 1]) == [0, 128, 255] and read("f8", [0, 128, 255]) == [0, 128, 255]
    assert read("u2", [0, 32768, 65535]) == [0, 128, 255] and read("i4", [0, 128, 255]) == [0, 128, 255]
    for kind, values in (("f4", [0, 1, 65535]), ("f4", [0, 1, np.nan]), ("f4", [-1, 0, 1]), ("i4", [0, 1, 256])):
        with pytest.raises(HiclError, match=r"a\.ply: colours from"):
            read(kind, values)


def test_colours_as_fractions(tmp_path):
    vertex = np.zeros(2, [("red", "f4"), ("green", "f4"), ("blue", "f4")])
    vertex["red"], vertex["green"] = [1, 0.5], [0, 1]
    np.testing.assert_array_equal(ply.rgb(vertex, tmp_path), [[255, 0, 0], [128, 255, 0]])


def _read_red(values, kind, path):
    vertex = np.zeros(len(values), [(name, kind) for name in ("red", "green", "blue")])
    for name in ("red", "green", "blue"):
        vertex[name] = values
    return ply.rgb(vertex, path)[:, 0].tolist()


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_fractions_that_pass_their_ends_are_clipped(tmp_path, kind):
    fractions = np.linspace(0, 1, 1000)
    expected = [int(255 * x + 0.5) for x in fractions.astype(kind).tolist()]
    for beyond in (1.0000002, 1.04, 3.5):
        assert _read_red([*fractions, beyond], kind, tmp_path) == [*expected, 255]
    assert _read_red([*fractions, -0.04, -1e-9], kind, tmp_path) == [*expected, 0, 0]
    with pytest.raises(HiclError, match=r"a\.ply: colours from 0.0 to 100.0"):
        _read_red([*fractions, 100.0], kind, tmp_path / "a.ply")
    with pytest.raises(HiclError, match=r"a\.ply: colours from 0.0 to 1.5"):  # too bright to clip, and not black
        _read_red(1.5 * fractions, kind, tmp_path / "a.ply")


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_fractions_of_255_are_rounded(tmp_path, kind):
    assert _read_red([254.9, 254.4, 0.6, 1.4, 255.0], kind, tmp_path) == [255, 254, 1, 1, 255]
    assert _read_red([*np.arange(255.0), 255.3], kind, tmp_path) == [*range(255), 255]
    assert _read_red([0] * 500 + [1, 2], kind, tmp_path) == [0] * 500 + [1, 2]  # dark, not bright
