import numpy as np
import pytest
from scenes import arrays

from hicl.cache.schema import SCENE_ARRAYS, chunking, validate
from hicl.errors import HiclError

# cache/SPEC.md, "A scene" and "Storage".
SPEC = {
    "points/xyz": ("float32", 2, True), "points/rgb": ("uint8", 2, True), "points/normal": ("float32", 2, False),
    "points/label": ("uint8", 1, False), "points/intensity": ("uint8", 1, False),
    "points/face": ("int32", 2, False), "points/sweep": ("uint8", 1, False), "points/valid": ("uint8", 1, False),
    "views/frame": ("int32", 1, False), "views/pose": ("float64", 3, False),
    "views/intrinsics": ("float64", 2, False), "views/size": ("int32", 2, False), "pairs/indptr": ("int64", 1, True),
    "pairs/point": ("int32", 1, False), "pairs/pixel": ("uint16", 2, False),
    "pairs/mask": ("int32", 1, False), "sets/id": ("int32", 1, False),
    "features/grid": ("int8", 4, False), "features/scale": ("float32", 3, False), "pairs/raw": ("uint8", 1, False),
    "pairs/refined": ("uint8", 1, False), "points/spread": ("uint8", 1, False),
}  # fmt: skip
OPTIONAL = {
    "points/face", "points/label", "points/intensity", "points/sweep", "points/valid", "points/spread", "features/grid",
    "features/scale", "pairs/mask",
}  # fmt: skip


def test_the_table_is_the_specification():
    found = {name: (np.dtype(s.dtype).name, len(s.shape), s.codec is None) for name, s in SCENE_ARRAYS.items()}
    assert found == SPEC
    assert {name for name, s in SCENE_ARRAYS.items() if not s.required} == OPTIONAL
    assert all(name == s.name for name, s in SCENE_ARRAYS.items())


@pytest.mark.parametrize("with_optional", [True, False])
def test_a_sound_scene(with_optional):
    validate(arrays(with_optional=with_optional), 3, "a")
    validate(arrays(views=(0, 0, 0)), 3, "a")


def refuse(changes, said, n_classes=3):
    scene = arrays()
    for name, value in changes.items():
        if value is None:
            del scene[name]
        else:
            scene[name] = value(scene[name]) if callable(value) else value
    with pytest.raises(HiclError, match=said) as error:
        validate(scene, n_classes, "scene lab")
    assert str(error.value).startswith("scene lab: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(SPEC))
def test_wrong_type(name):
    other = {"float32": "f8", "float64": "f4", "int8": "u1", "uint8": "i1", "uint16": "i2"}
    refuse({name: lambda a: a.astype(other.get(a.dtype.name, "u4"))}, f"{name} is .*, expected {SPEC[name][0]}")


@pytest.mark.parametrize("name", sorted(SPEC))
def test_wrong_number_of_axes(name):
    refuse({name: lambda a: a[None]}, f"{name} has {SPEC[name][1] + 1} axes, expected {SPEC[name][1]}")
    refuse({name: lambda a: a[..., 0]}, f"{name} has {SPEC[name][1] - 1} axes, expected {SPEC[name][1]}")


@pytest.mark.parametrize("name", sorted(set(SPEC) - {"points/xyz", "points/face"}))
def test_wrong_length(name):
    refuse({name: lambda a: np.concatenate([a, a[-1:]])}, "has shape .*, expected")


@pytest.mark.parametrize("name, width", [("points/xyz", 3), ("points/rgb", 3), ("pairs/pixel", 2), ("views/size", 2)])
def test_wrong_width(name, width):
    refuse({name: lambda a: np.concatenate([a, a[:, :1]], axis=1)}, f"{name} has shape .*, expected .*{width}")


@pytest.mark.parametrize("name", sorted(set(SPEC) - OPTIONAL))
def test_missing(name):
    refuse({name: None, "points/intensity": None}, f"{name} is missing")


@pytest.mark.parametrize("name", sorted(set(SPEC) - OPTIONAL - {"points/rgb", "points/normal"}))
def test_missing_in_a_key_frame(name):
    refuse({name: None, "points/rgb": None, "points/normal": None}, f"{name} is missing")


def test_a_point_that_takes_no_part_has_no_pair():
    scene = arrays()
    scene["points/valid"][scene["pairs/point"][2]] = 0
    refuse({"points/valid": lambda _: scene["points/valid"]}, "points that points/valid says take no part")


def test_unknown():
    refuse({"points/reflectance": np.zeros(7, "f4")}, "points/reflectance is not an array of a cache")


def at(index, value):
    def put(array):
        array = array.copy()
        array[index] = value
        return array

    return put


@pytest.mark.parametrize(
    "name, change, said",
    [
        ("pairs/indptr", at(0, 1), "pairs/indptr doesn't rise"),
        ("pairs/indptr", at(-1, 6), "pairs/indptr doesn't rise"),
        ("pairs/indptr", at(1, 5), "pairs/indptr doesn't rise"),
        ("pairs/indptr", lambda a: a[:0], "shape"),
        ("pairs/point", at(2, 7), "pairs/point holds .*7, expected 0..6"),
        ("pairs/point", at(2, -1), "pairs/point holds -1"),
        ("points/face", at((1, 2), 7), "points/face holds .*7, expected 0..6"),
        ("sets/id", at(2, 7), "sets/id holds 0..7, expected 0..6"),
        ("sets/id", at(2, -1), "sets/id holds -1"),
        ("sets/id", lambda a: a * 2, "sets/id leaves out 1"),
        ("sets/id", lambda a: a + 1, "sets/id leaves out 0"),
        ("pairs/pixel", at((3, 0), 24), "pairs/pixel lies outside its view"),
        ("pairs/pixel", at((3, 1), 32), "pairs/pixel lies outside its view"),
        ("pairs/raw", at(1, 3), "pairs/raw holds .*3, expected 0..2"),
        ("pairs/refined", at(1, 254), "pairs/refined holds .*254, expected 0..2"),
        ("points/spread", at(1, 3), "points/spread holds .*3, expected 0..2"),
        ("points/valid", at(2, 2), "points/valid holds .*2, expected 0..1"),
        ("points/xyz", at((1, 1), np.nan), "points/xyz is not finite"),
        ("points/xyz", at((1, 1), np.inf), "points/xyz is not finite"),
    ],
)
def test_out_of_range(name, change, said):
    refuse({name: change}, said)


@pytest.mark.parametrize("name", ["features/grid", "features/scale"])
def test_features_come_with_their_scale(name):
    refuse({name: None}, f"{name} is missing")


def test_the_pixel_belongs_to_its_own_view():
    """The second of two views is larger: what lies inside it needn't lie inside the first."""
    scene = arrays(views=(1, 1))
    scene["views/size"][:] = [[10, 10], [20, 20]]
    scene["pairs/pixel"][:] = [[9, 9], [19, 19]]
    validate(scene, 3, "a")
    scene["pairs/pixel"][:] = [[19, 19], [9, 9]]
    with pytest.raises(HiclError, match="outside its view"):
        validate(scene, 3, "a")


def test_chunks():
    """One chunk, but a frame each of the features, in one shard."""
    assert chunking(SCENE_ARRAYS["points/xyz"], (9000, 3)) == ((9000, 3), None)
    assert chunking(SCENE_ARRAYS["pairs/pixel"], (9000, 2)) == ((9000, 2), None)
    assert chunking(SCENE_ARRAYS["features/grid"], (5, 4, 3, 2)) == ((1, 4, 3, 2), (5, 4, 3, 2))
    assert chunking(SCENE_ARRAYS["pairs/raw"], (0,)) == ((1,), None)
