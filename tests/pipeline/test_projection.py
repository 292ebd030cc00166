import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from hicl.errors import FrameError
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.kernels import project as kernels
from hicl.pipeline.kernels.vectors import AVX512
from hicl.pipeline.projection import Projector

DEPTH = Camera(fx=100, fy=110, cx=31.5, cy=23.5, height=48, width=64)
COLOR = Camera(fx=210, fy=205, cx=60, cy=50, height=96, width=128)


def project(xyz, *view, **settings):
    return Projector(xyz).project(*view, **settings)


def turned(angle=0.3, translation=(0.5, -0.2, 0.1)):
    c, s = np.cos(angle), np.sin(angle)
    pose = np.eye(4)
    pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pose[:3, 3] = translation
    return pose


def to_world(pose, camera_xyz):
    return (np.asarray(camera_xyz, np.float64) @ pose[:3, :3].T + pose[:3, 3]).astype(np.float32)


def test_a_wall_an_occluder_and_what_is_behind_the_camera():
    pose = turned()
    depth = np.full((48, 64), 2.0, np.float32)
    depth[20:28, 28:36] = 1.0  # something stands before the middle of the wall
    depth[:5] = 0  # nothing measured at the top
    cases = {
        (0.4, 0.0, 2.0): (50, 102),  # on the wall: colour column 210·0.4/2 + 60
        (0.0, 0.0, 2.0): None,  # behind the occluder
        (0.0, 0.0, 1.0): (50, 60),  # on the occluder
        (0.5, 0.0, 2.049): (50, 111),  # 4.9 cm behind the measured depth
        (0.5, 0.0, 2.051): None,  # 5.1 cm behind it
        (0.5, 0.0, 1.94): None,  # before it
        (-0.5, 0.0, -2.0): None,  # behind the camera, though its mirror image is on the wall
        (0.0, -0.4, 2.0): None,  # no depth: row 110·-0.2 + 23.5 = 1.5 -> 2
        (3.0, 0.0, 2.0): None,  # outside of both images
        (-0.6, 0.0, 2.0): None,  # in the depth image (column 2), outside of the colour image (column -3)
        (np.nan, 0.0, 2.0): None,
    }
    point, pixel = project(to_world(pose, list(cases)), pose, depth, DEPTH, COLOR)
    expected = [(i, seen) for i, seen in enumerate(cases.values()) if seen]
    assert point.tolist() == [i for i, _ in expected]
    assert pixel.tolist() == [list(rc) for _, rc in expected]
    assert point.dtype == np.int32 and pixel.dtype == np.uint16
    infinite = np.array([[np.inf, 0, 2], [0, -np.inf, 2], [0, 0, np.inf]], np.float32)
    assert len(project(infinite, np.eye(4), depth, DEPTH, COLOR)[0]) == 0


def test_halves_round_up_for_depth_and_colour_alike():
    """CLIP2Scene rounds the depth pixel and truncates the colour pixel, half a pixel to the upper left on average."""
    camera = Camera(fx=8, fy=8, cx=4, cy=4, height=9, width=9)
    depth = np.zeros((9, 9), np.float32)
    depth[4, 5] = depth[4, 6] = depth[5, 4] = 1
    xyz = np.array([[0.0625, 0, 1], [0.125, 0, 1], [0.1875, 0, 1], [0.25, 0, 1], [0, 0.1, 1]], np.float32)
    point, pixel = project(xyz, np.eye(4), depth, camera, camera)
    assert point.tolist() == [0, 1, 2, 3, 4]  # columns 4.5, 5, 5.5, 6 and row 4.8
    assert pixel.tolist() == [[4, 5], [4, 5], [4, 6], [4, 6], [5, 4]]


def test_borders():
    camera = Camera(fx=8, fy=8, cx=4, cy=4, height=9, width=9)
    depth = np.ones((9, 9), np.float32)
    xyz = np.array([[-0.5625, 0, 1], [-0.57, 0, 1], [0.5624, 0, 1], [0.5625, 0, 1]], np.float32)
    point, pixel = project(xyz, np.eye(4), depth, camera, camera)
    assert point.tolist() == [0, 2]  # columns -0.5 and 8.499 are in, -0.56 and 8.5 are out
    assert pixel[:, 1].tolist() == [0, 8]


def test_in_the_camera_s_plane_and_behind_it_nothing_is_seen_however_large_the_gap():
    """CLIP2Scene doesn't test z: z = 0 divides by zero, and a gap of metres would let in what is behind."""
    depth = np.ones((48, 64), np.float32)
    xyz = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0, -0.01], [0, 0, -1], [0, 0, 1e-30]], np.float32)
    point, _ = project(xyz, np.eye(4), depth, DEPTH, COLOR, max_gap=10)
    assert point.tolist() == [4]


def test_a_missing_depth_is_not_a_depth_of_zero():
    xyz = np.array([[0, 0, 0.03]], np.float32)
    assert len(project(xyz, np.eye(4), np.zeros((48, 64), np.float32), DEPTH, COLOR)[0]) == 0
    assert len(project(xyz, np.eye(4), np.full((48, 64), np.nan, np.float32), DEPTH, COLOR)[0]) == 0


def test_the_gap_itself_is_allowed():
    xyz = np.array([[0, 0, 1.0625], [0, 0, 0.9375], [0, 0, 1.0626]], np.float32)
    point, _ = project(xyz, np.eye(4), np.ones((48, 64), np.float32), DEPTH, COLOR, max_gap=0.0625)
    assert point.tolist() == [0, 1]


def test_the_gap_grows_with_the_square_of_the_depth_where_that_is_more():
    """0.02 · depth²: at 1 m less than the 5 cm that are allowed anyway, at 4 m 32 cm."""
    for depth, gaps in ((1.0, [0.049, 0.051]), (4.0, [0.319, 0.321])):
        xyz = np.array([[0, 0, depth + gap] for gap in (*gaps, *(-gap for gap in gaps))], np.float32)
        measured = np.full((48, 64), depth, np.float32)
        assert project(xyz, np.eye(4), measured, DEPTH, COLOR, gap_growth=0.02)[0].tolist() == [0, 2]
    assert not len(project(xyz, np.eye(4), measured, DEPTH, COLOR)[0])


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_a_lost_pose_is_an_error_of_the_frame(value):
    """ScanNet writes -inf where tracking was lost; CLIP2Scene then looks for a crop with points forever."""
    with pytest.raises(FrameError, match="not finite"):
        project(np.zeros((1, 3), np.float32), np.full((4, 4), value), np.ones((48, 64), np.float32), DEPTH, COLOR)


@pytest.mark.parametrize(
    "pose",
    [
        np.zeros((4, 4)),
        turned().T,
        np.diag([585.0, 585, 1, 1]),
        np.diag([1.0, 1, -1, 1]),
        np.diag([1e300, 1, 1, 1]),
        turned() + 1e-2 * np.eye(4)[[3]],
        np.eye(3),
    ],
)
def test_a_matrix_that_is_no_pose_is_refused(pose):
    with pytest.raises(FrameError, match="shape|rigid"):
        project(np.zeros((1, 3), np.float32), pose, np.ones((48, 64), np.float32), DEPTH, COLOR)


def test_a_depth_image_of_another_size_is_refused():
    with pytest.raises(FrameError, match="expected 48 x 64.*found 96 x 128"):
        project(np.zeros((1, 3), np.float32), np.eye(4), np.ones((96, 128), np.float32), DEPTH, COLOR)


def test_back_projection_returns_to_its_pixel_also_where_the_pose_is_not_quite_a_rotation():
    rng = np.random.default_rng(0)
    pose = turned(translation=(0.5, -0.2, 0.1))
    pose[:3, :3] += 1e-2 * rng.standard_normal((3, 3))  # with the transpose, pixels move by one and two
    row, column = np.mgrid[:48, :64].reshape(2, -1)
    z = rng.uniform(1, 3, row.size).astype(np.float32)
    xyz = to_world(pose, np.stack([(column - DEPTH.cx) / DEPTH.fx * z, (row - DEPTH.cy) / DEPTH.fy * z, z], axis=1))
    point, pixel = project(xyz, pose, z.reshape(48, 64), DEPTH, DEPTH, max_gap=1e-4)
    assert point.tolist() == list(range(row.size))
    assert np.array_equal(pixel, np.stack([row, column], axis=1))


def test_no_points_and_nothing_seen():
    for xyz in (np.zeros((0, 3), np.float32), np.full((3, 3), -5, np.float32)):
        point, pixel = project(xyz, np.eye(4), np.ones((48, 64), np.float32), DEPTH, COLOR)
        assert point.shape == (0,) and pixel.shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    angle=st.floats(-3.2, 3.2),
    gap=st.sampled_from([0.0, 0.05, 0.5]),
    growth=st.sampled_from([0.0, 0.1]),
)
def test_exactly_what_satisfies_the_predicate_is_kept(seed, angle, gap, growth):
    rng = np.random.default_rng(seed)
    pose = turned(angle, rng.uniform(-1, 1, 3))
    depth = rng.choice(np.array([0, 0.5, 1, 1.5, 2], np.float32), (48, 64))
    xyz = to_world(pose, rng.uniform((-1.5, -1, -1), (1.5, 1, 2.5), (500, 3)))
    point, pixel = project(xyz, pose, depth, DEPTH, COLOR, max_gap=gap, gap_growth=growth)
    expected_point, expected_pixel = reference.project(xyz, pose, depth, DEPTH, COLOR, gap, growth)
    # NumPy's matrix product may round otherwise in the last bit; at 500 random points that decides nothing.
    assert np.array_equal(point, expected_point)
    assert np.array_equal(pixel, expected_pixel)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 700])
def test_one_frame_leaves_nothing_for_the_next(n):
    rng = np.random.default_rng(n)
    xyz = rng.uniform((-1.5, -1, 0), (1.5, 1, 2.5), (n, 3)).astype(np.float32)
    xyz[n // 2] = np.nan
    projector = Projector(xyz)
    for angle in (0.0, 3.1, 0.1, 0.0):
        pose, depth = turned(angle), rng.uniform(0, 2, (48, 64)).astype(np.float32)
        point, pixel = projector.project(pose, depth, DEPTH, COLOR, 1.0)
        expected_point, expected_pixel = reference.project(xyz, pose, depth, DEPTH, COLOR, 1.0)
        assert np.array_equal(point, expected_point) and np.array_equal(pixel, expected_pixel)


@pytest.mark.parametrize("last", [(0, 0, 0, 1.0009), (0, 0, 0, 0.9991), (9e-4, -9e-4, 9e-4, 1)])
def test_a_last_row_that_is_not_quite_that_of_a_pose_hides_nothing(last):
    """The planes that leave blocks of points out stand where the points are turned to, or they cut off what is seen."""
    pose = turned(0.0, (20, -30, 40))
    pose[3] = last
    towards = np.linalg.inv(pose)
    depth = np.full((48, 64), 8, np.float32)
    row, column = np.mgrid[:48, :64].reshape(2, -1)
    seen = np.stack([(column - DEPTH.cx) / DEPTH.fx * 8, (row - DEPTH.cy) / DEPTH.fy * 8, np.full(row.size, 8.049)])
    xyz = np.linalg.solve(towards[:3, :3], seen - towards[:3, 3:]).T.astype(np.float32)
    point, pixel = project(xyz, pose, depth, DEPTH, COLOR)
    expected_point, expected_pixel = reference.project(xyz, pose, depth, DEPTH, COLOR)
    assert np.array_equal(point, expected_point) and np.array_equal(pixel, expected_pixel)
    assert len(point) > 1000


@pytest.mark.parametrize("away", [0, 300, 20_000])
def test_blocks_at_the_border_of_what_is_seen_are_looked_at_however_far_the_scene_is_from_its_origin(away):
    """Boxes are left out in float32. Here each block of 64 is one place, at most a tenth of a pixel from a border."""
    rng = np.random.default_rng(away)
    pose = turned(translation=(away, -away, away))
    column = rng.choice([-0.5, 63.5], 300) + rng.uniform(-0.1, 0.1, 300)
    row, z = rng.uniform(0, 47, 300), rng.choice([2.05, 1.95], 300) + rng.uniform(-1e-3, 1e-3, 300)
    place = np.stack([(column - DEPTH.cx) / DEPTH.fx * z, (row - DEPTH.cy) / DEPTH.fy * z, z], axis=1)
    xyz = np.repeat(to_world(pose, place), 64, axis=0)
    view = pose, np.full((48, 64), 2, np.float32), DEPTH, DEPTH
    point, pixel = project(xyz, *view)
    expected_point, expected_pixel = reference.project(xyz, *view)
    assert np.array_equal(point, expected_point) and np.array_equal(pixel, expected_pixel)
    assert 64 * 30 < len(point) < 64 * 270


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_marked_points_are_listed_in_order_by_either_way(n, share, seed):
    rng = np.random.default_rng(seed)
    room = (n // 64 + 1) * 64
    marks, at = (rng.random(room) < share).astype(np.uint8), rng.integers(0, 2**32, room, np.uint32)
    marks[n:] = 0
    wanted = np.flatnonzero(marks)
    ways = [kernels._listed_one_by_one] + [kernels._listed_by_lanes] * AVX512
    for way in ways:
        seen = marks.copy()
        point, pixel = way(seen, at, len(wanted))
        assert point.dtype == np.int32 and point.tolist() == wanted.tolist()
        assert pixel.dtype == np.uint16 and np.array_equal(pixel, at[wanted].view(np.uint16).reshape(-1, 2))
        assert not seen.any()
