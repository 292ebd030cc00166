"""Surfaces whose vertices aren't shared where they meet."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import HiclError
from hicl.pipeline import normals, partition, stages
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Points
from hicl.pipeline.weld import number_places, weld

CONFIG = PreprocessConfig()


class _Scene:
    id = "scene"

    def shipped_sets(self):
        return None


def sets_of(points, config=CONFIG):
    return stages.make_sets(_Scene(), points, {}, config)["sets/id"]


def points_of(xyz, faces=None, **more):
    return Points(xyz, np.zeros((len(xyz), 3), np.uint8), faces, **more)


@pytest.fixture(scope="module")
def mesh():
    xyz, faces = reference.bumpy_mesh(40, 30, noise=0.15, seed=4)
    return np.ascontiguousarray(xyz, np.float32), np.ascontiguousarray(faces, np.int32)


@given(st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 1e-38])] * 3), max_size=60))
@settings(deadline=None)
def test_places_are_numbered_as_they_appear(rows):
    place, first = number_places(np.array(rows, np.float32).reshape(-1, 3))
    seen = {}
    assert place.tolist() == [seen.setdefault(row, len(seen)) for row in rows]  # for Python too, -0.0 is 0.0
    assert first.tolist() == [rows.index(row) for row in seen]


def test_a_shared_mesh_is_left_as_it_is(mesh):
    xyz, faces = mesh
    points = points_of(xyz, faces)
    assert weld(points) == (points, None)
    np.testing.assert_array_equal(sets_of(points), partition.mesh_sets(xyz, faces))
    expected = np.rint(normals.unit(normals.mesh_normals(xyz, faces)) * 1024) / np.float32(1024)
    np.testing.assert_array_equal(stages.make_points(points)["points/normal"], expected)


def test_a_soup_has_the_sets_and_normals_of_its_mesh(mesh):
    xyz, faces = mesh
    corner = faces.ravel()
    soup = points_of(xyz[corner], np.arange(len(corner), dtype=np.int32).reshape(-1, 3))
    expected = partition.mesh_sets(xyz, faces)
    assert expected.max() > 5
    found = sets_of(soup)
    assert reference.same_partition(found, expected[corner])
    np.testing.assert_array_equal(found, partition.compact_ids(found))
    whole = stages.make_points(points_of(xyz, faces))["points/normal"]
    np.testing.assert_array_equal(stages.make_points(soup)["points/normal"], whole[corner])


def test_a_mesh_cut_along_seams_too(mesh):
    """Every fourth face has vertices of its own, as where a texture's charts meet."""
    xyz, faces = mesh
    own = faces[::4].ravel()
    cut = faces.copy()
    cut[::4] = len(xyz) + np.arange(len(own)).reshape(-1, 3)
    expected = partition.mesh_sets(xyz, faces)
    found = sets_of(points_of(np.concatenate([xyz, xyz[own]]), cut))
    assert reference.same_partition(found, np.concatenate([expected, expected[own]]))


@pytest.mark.parametrize("own_normals", [False, True])
def test_a_cloud_whose_points_come_many_times(own_normals):
    """More often than a point has neighbours: all that it knew of were its doubles."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 1, (600, 3)).astype(np.float32)
    xyz[np.arange(600), rng.integers(0, 3, 600)] = 0  # a corner of three planes
    normal = normals.unit(rng.normal(size=(600, 3))) if own_normals else None
    many = np.tile(xyz, (20, 1)) * np.float32(1)
    sight = np.ones_like(xyz)
    once = points_of(xyz, normal=normal, sight=sight)
    often = points_of(many, normal=None if normal is None else np.tile(normal, (20, 1)), sight=np.tile(sight, (20, 1)))
    np.testing.assert_array_equal(sets_of(often), np.tile(sets_of(once), 20))
    found = stages.make_points(often)["points/normal"]
    np.testing.assert_allclose(found, np.tile(stages.make_points(once)["points/normal"], (20, 1)), atol=1 / 1000)


def test_normals_of_a_cloud_are_turned_to_the_cameras_that_see_it():
    """A plate with two sides 3 cm apart: the upper is seen from above, the lower from below."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 1, (3000, 3)).astype(np.float32)
    xyz[:, 2] = np.repeat([0, 0.03], 1500) + rng.normal(0, 0.001, 3000)
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[:, :3, 3] = [[0.5, 0.5, -2], [0.5, 0.5, 2]]
    seen = {
        "points/xyz": xyz,
        "views/pose": pose,
        "pairs/indptr": np.array([0, 1500, 3000]),
        "pairs/point": np.arange(3000, dtype=np.int32),
    }
    found = stages.make_sets(_Scene(), points_of(xyz), seen, CONFIG)["sets/id"]
    toward = np.where(np.arange(3000)[:, None] < 1500, pose[0, :3, 3], pose[1, :3, 3]) - xyz
    np.testing.assert_array_equal(found, partition.cloud_sets(xyz, None, toward.astype(np.float32)))
    assert not reference.same_partition(found, partition.cloud_sets(xyz))
    # The normals that a mesh has, or a file, are known already.
    normal = np.tile(np.float32([0, 0, 1]), (3000, 1)) * np.where(np.arange(3000)[:, None] < 1500, -1, 1)
    normal = normal.astype(np.float32)
    found = stages.make_sets(_Scene(), points_of(xyz, normal=normal), {}, CONFIG)["sets/id"]
    np.testing.assert_array_equal(found, partition.cloud_sets(xyz, normal))


def test_neighbours_of_a_mesh_use_the_normals_of_its_faces(mesh):
    xyz, faces = mesh
    found = sets_of(points_of(xyz, faces), PreprocessConfig(sets="knn"))
    np.testing.assert_array_equal(
        found, partition.cloud_sets(xyz, normals.unit(normals.mesh_normals(xyz, faces)), k_threshold=0.01)
    )


def arrays(sets, up=(0, 0, 1)):
    """Cameras that look ahead, and hold `up` upwards."""
    pose = np.eye(4)
    pose[:3, 1] = -np.array(up)
    return {"sets/id": np.asarray(sets, np.int32), "views/pose": pose[None]}


def test_small_sets_are_said():
    assert stages.doubts(arrays(np.repeat([0, 1, 2], [20, 21, 5])), 0, CONFIG) == []
    (said,) = stages.doubts(arrays(np.arange(60) // 3), 0, CONFIG)
    assert "half of its sets have 3 points or fewer, less than --min-size 20" in said


def test_other_doubts_are_said():
    assert stages.doubts(arrays([0] * 20), 12345, CONFIG) == ["12,345 points without finite coordinates are left out"]
    assert stages.doubts(arrays([0] * 20, (0, 0.5, 0.86)), 0, CONFIG) == []  # held at a slant
    for up, name in (((0, -1, 0.1), "-y"), ((0.9, 0.1, 0), "x"), ((0, 0, -1), "-z")):
        (said,) = stages.doubts(arrays([0] * 20, up), 0, CONFIG)
        assert said.startswith(f"its cameras hold {name} up, not z")


def test_shipped_sets_that_cannot_be_read_are_passed_over_unless_they_are_asked_for(mesh):
    class Broken(_Scene):
        def shipped_sets(self):
            raise HiclError("scene.segs.json: not a Segmentator file")

    said, points = [], points_of(*mesh)
    found = stages.make_sets(Broken(), points, {}, CONFIG, said.append)["sets/id"]
    np.testing.assert_array_equal(found, partition.mesh_sets(*mesh))
    assert said == ["passed over scene.segs.json: not a Segmentator file"]
    with pytest.raises(HiclError, match="segs.json"):
        stages.make_sets(Broken(), points, {}, PreprocessConfig(sets="shipped"), said.append)
    assert len(said) == 1
