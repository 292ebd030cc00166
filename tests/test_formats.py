"""Files of labelled surfaces, read back by other programs' own readers."""

import numpy as np
import pytest
import trimesh
from plyfile import PlyData

from hicl import formats
from hicl.clouds import Cloud
from hicl.errors import HiclError
from hicl.formats.labelled import Labelled
from hicl.pipeline.picture import class_colors

CLASSES = ("wall", "potted plant in a corner", "Stühle")


def scene(faces=True, origin=(0.0, 0.0, 0.0)):
    """A strip of 8 vertices and 6 triangles; the first four are wall, then two plants, a chair, and one of no class."""
    xyz = np.array([(x, y, 0.1 * x * y) for x in range(4) for y in range(2)], "f4")
    triangles = np.array([(i, i + 1, i + 2) for i in range(6)], "i4") if faces else None
    label = np.array([0, 0, 0, 0, 1, 1, 2, 255], "u1")
    cloud = Cloud(xyz, class_colors(CLASSES)[label], triangles, np.array(origin))
    return Labelled(cloud, label, CLASSES, np.linspace(0, 1, 8, dtype="f4"), np.array([-1] * 4 + [0, 0, 1, -1], "i4"))


def test_ply(tmp_path):
    given = scene()
    formats.write(tmp_path / "a.ply", given)
    vertex = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    np.testing.assert_array_equal(vertex["instance"], given.instance)
    np.testing.assert_array_equal(vertex["score"], given.score)
    np.testing.assert_array_equal(vertex["label"], given.label)
    read = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_array_equal(read.faces, given.cloud.faces)
    np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], given.cloud.rgb)


def test_npz(tmp_path):
    given = scene(origin=(4e6, 0, 0))
    formats.write(tmp_path / "a.npz", given)
    with np.load(tmp_path / "a.npz") as read:
        np.testing.assert_array_equal(read["xyz"], given.cloud.xyz + given.cloud.origin)
        for name in ("label", "score", "instance"):
            np.testing.assert_array_equal(read[name], getattr(given, name))
        assert read["classes"].tolist() == list(CLASSES) and read["faces"].shape == (6, 3)
    bare = Labelled(scene(faces=False).cloud, given.label, CLASSES)
    formats.write(tmp_path / "a.npz", bare)
    assert sorted(np.load(tmp_path / "a.npz")) == ["classes", "label", "rgb", "xyz"]


@pytest.mark.parametrize("faces", [True, False])
def test_glb_has_a_node_a_class_in_its_colour(tmp_path, faces):
    given = scene(faces, origin=(100.0, 200.0, 300.0))
    formats.write(tmp_path / "a.glb", given)
    read = trimesh.load(tmp_path / "a.glb", process=False)
    parts = {name: read.graph.get(name) for name in read.graph.nodes_geometry}
    # Of the two mixed triangles (wall, wall, plant) and (wall, plant, plant) each is of its majority; (plant, plant,
    # chair) is plant, and (plant, chair, none) of its first.
    expected = (
        {"wall": 3, "potted plant in a corner": 3}
        if faces
        else dict(zip((*CLASSES, "none"), (4, 2, 1, 1), strict=True))
    )
    assert set(parts) == set(expected)
    placed = []
    for name, (place, geometry) in parts.items():
        part = read.geometry[geometry]
        assert len(part.faces if faces else part.vertices) == expected[name]
        x, y, z = (part.vertices @ place[:3, :3].T + place[:3, 3]).T
        placed.append(np.column_stack([x, -z, y]))  # glTF has y up
        number = CLASSES.index(name) if name in CLASSES else 255
        if faces:
            factor = part.visual.material.baseColorFactor[:3] / 255
            share = np.where(factor <= 0.0031308, 12.92 * factor, 1.055 * factor ** (1 / 2.4) - 0.055)
            np.testing.assert_allclose(255 * share, class_colors(CLASSES)[number], atol=6)  # read in 8 bits
    points = np.unique(np.concatenate(placed).round(4), axis=0)
    np.testing.assert_allclose(points, np.unique((given.cloud.xyz + given.cloud.origin).round(4), axis=0), atol=2e-4)


@pytest.mark.parametrize("ending", [".las", ".laz"])
def test_las(tmp_path, ending):
    laspy = pytest.importorskip("laspy")
    given = scene(origin=(4e6, 5e5, 100.0))
    formats.write(tmp_path / f"a{ending}", given)
    read = laspy.read(tmp_path / f"a{ending}")
    np.testing.assert_allclose(read.xyz, given.cloud.xyz + given.cloud.origin, atol=5.1e-5)
    assert read.classification.tolist() == [64] * 4 + [65] * 2 + [66, 1]
    np.testing.assert_array_equal(read.red >> 8, given.cloud.rgb[:, 0])
    np.testing.assert_array_equal(read["instance"], given.instance)
    np.testing.assert_array_equal(read["score"], given.score)
    (lookup,) = read.header.vlrs.get("ClassificationLookupVlr")
    assert [lookup[64], lookup[65], lookup[66]] == ["wall", "potted plant in", "Stuhle"]
    assert str(read.header.version) == "1.4" and read.header.point_format.id == 7
    many = tuple(map(str, range(193)))
    with pytest.raises(HiclError, match="193 classes"):
        formats.write(tmp_path / f"b{ending}", Labelled(given.cloud, given.label, many))
    far = Cloud(given.cloud.xyz * 1e5, given.cloud.rgb)
    with pytest.raises(HiclError, match="more than 215 km"):
        formats.write(tmp_path / f"b{ending}", Labelled(far, given.label, CLASSES))
    assert not (tmp_path / f"b{ending}").exists()


def test_another_ending_or_a_missing_package_is_said_at_once(tmp_path, monkeypatch):
    with pytest.raises(HiclError, match=r"ends in \.ply, \.glb, \.las, \.laz, \.npz"):
        formats.assert_known(tmp_path / "a.obj")
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    with pytest.raises(HiclError, match=r"pip install 'hicl\[las\]'"):
        formats.assert_known(tmp_path / "a.laz")


@pytest.mark.parametrize("faces", [True, False])
def test_open3d_reads_what_is_written(tmp_path, faces):
    open3d = pytest.importorskip("open3d", exc_type=ImportError)  # or a library that it wants
    given = scene(faces)
    for ending in ("ply", "glb"):
        formats.write(tmp_path / f"a.{ending}", given)
    cloud = open3d.io.read_point_cloud(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(np.asarray(cloud.points, "f4"), given.cloud.xyz)
    np.testing.assert_array_equal(np.rint(np.asarray(cloud.colors) * 255), given.cloud.rgb)
    more = open3d.t.io.read_point_cloud(str(tmp_path / "a.ply")).point
    for name in ("label", "score", "instance"):
        np.testing.assert_array_equal(more[name].numpy().ravel(), getattr(given, name))
    if not faces:
        return  # Open3D reads no points of glTF
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(np.asarray(mesh.triangles), given.cloud.faces)
    model = open3d.io.read_triangle_model(str(tmp_path / "a.glb"))
    found = {part.mesh_name: len(part.mesh.triangles) for part in model.meshes}
    assert found == {"wall": 3, "potted plant in a corner": 3}
    colors = {part.mesh_name: model.materials[part.material_idx].base_color for part in model.meshes}
    srgb = class_colors(CLASSES)[0] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(colors["wall"][:3], linear, atol=2e-3)
