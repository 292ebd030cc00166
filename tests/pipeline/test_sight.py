import numpy as np

from hicl.pipeline.sight import toward_cameras


def test_by_hand():
    """Point 0 is seen from above and from the right, 1 from the right alone, 2 by nobody and nearer to the first."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[0, :3, 3], poses[1, :3, 3] = [0, 0, 5], [10, 0, 0]
    xyz = np.array([[0, 0, 0], [4, 0, 0], [0, 0, 9]], np.float32)
    found = toward_cameras(xyz, poses, np.array([0, 1, 3]), np.array([0, 0, 1], np.int32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[1, 0, 1], [1, 0, 0], [0, 0, -4]], atol=1e-6)


def test_a_point_in_a_camera_and_nothing_seen():
    found = toward_cameras(np.zeros((1, 3), np.float32), np.eye(4)[None], np.array([0, 1]), np.zeros(1, np.int32))
    assert not found.any()
    found = toward_cameras(np.ones((2, 3), np.float32), np.eye(4)[None], np.array([0, 0]), np.zeros(0, np.int32))
    assert (found == -1).all()
