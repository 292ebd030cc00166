import io
import os
import struct
import zlib

import numpy as np
import pytest
from formats import COLOR_SIZE, DEPTH_SIZE, Sens, encoded, millimetres, picture, sens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hicl.errors import FrameError, HiclError
from hicl.pipeline.datasets import sens as module
from hicl.pipeline.datasets.scene import Camera
from hicl.pipeline.datasets.sens import SensFile, decode_color, write_sens

fresh = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
one = (np.eye(4), encoded(picture()), zlib.compress(millimetres().tobytes()))


def test_jpeg_and_zlib(tmp_path):
    file = SensFile(sens(3).write(tmp_path / "a.sens"))
    assert len(file) == 3
    assert file.color_camera == Camera(30, 31, 15.5, 11.5, *COLOR_SIZE)
    assert file.depth_camera == Camera(15, 15.5, 7.5, 5.5, *DEPTH_SIZE)
    for number in (2, 0, 1):  # in any order
        color, depth = file.color(number), file.depth(number)
        assert color.dtype == np.uint8 and depth.dtype == np.float32
        jpeg = Image.open(io.BytesIO(encoded(picture(number), quality=95)))
        np.testing.assert_array_equal(color, np.asarray(jpeg))
        np.testing.assert_allclose(depth, millimetres(number) / 1000, rtol=1e-6)
    np.testing.assert_allclose(file.poses[:, 0, 3], [0, 0.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize("shift", [1000.0, 4000.0, 500.0])
def test_png_colour_raw_depth_and_its_unit(tmp_path, shift):
    frame = (np.eye(4), encoded(picture(), "PNG"), millimetres().tobytes())
    file = SensFile(Sens([frame], color_kind=1, depth_kind=0, shift=shift).write(tmp_path / "a.sens"))
    np.testing.assert_array_equal(file.color(0), picture())
    np.testing.assert_allclose(file.depth(0), millimetres() / shift, rtol=1e-6)


def test_raw_colour(tmp_path):
    file = SensFile(Sens([(np.eye(4), picture().tobytes(), one[2])], color_kind=0).write(tmp_path / "a.sens"))
    np.testing.assert_array_equal(file.color(0), picture())
    file = SensFile(Sens([(np.eye(4), picture().tobytes()[1:], one[2])], color_kind=0).write(tmp_path / "a.sens"))
    with pytest.raises(FrameError, match="a.sens: frame 0"):
        file.color(0)


def test_a_lost_pose_is_kept_as_recorded(tmp_path):
    file = SensFile(sens(3, lost=[1]).write(tmp_path / "a.sens"))
    assert (file.poses[1] == -np.inf).all()
    assert np.isfinite(file.poses[[0, 2]]).all()
    assert file.color(1).shape == (*COLOR_SIZE, 3)


def test_a_recording_without_frames(tmp_path):
    assert len(SensFile(Sens().write(tmp_path / "a.sens"))) == 0


@given(st.data())
@fresh
def test_a_cut_is_seen_at_every_byte(tmp_path, data):
    recording = sens(2)
    whole = recording.bytes()
    end = len(whole) - len(recording.imu)  # the count of IMU frames behind it is of no use to us
    (tmp_path / "cut.sens").write_bytes(whole[: data.draw(st.integers(0, end - 1))])
    with pytest.raises(HiclError, match="cut.sens"):
        _ = SensFile(tmp_path / "cut.sens").poses


def test_nothing_is_lost_without_the_imu_frames(tmp_path):
    assert len(SensFile(sens(2).but(imu=b"").write(tmp_path / "a.sens"))) == 2


@given(st.data())
@fresh
def test_any_damage_is_an_error_of_ours(tmp_path, data):
    damaged = bytearray(sens(2).bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.sens").write_bytes(damaged)
    try:
        file = SensFile(tmp_path / "bad.sens")
        for number in range(len(file)):
            for read in (file.color, file.depth):
                try:
                    read(number)
                except FrameError as error:
                    assert f"bad.sens: frame {number}" in str(error)
    except HiclError as error:
        assert "bad.sens" in str(error)


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    """A sparse file of 4 GiB: opening it reads its header alone, the first pose the frames' headers."""
    blob, taken = 1 << 31, 0
    read_at = os.pread
    path = tmp_path / "huge.sens"
    with open(path, "wb") as file:
        file.write(Sens(count=3).header())
        for color, depth in ((len(one[1]), len(one[2])), (blob, blob), (len(one[1]), len(one[2]))):
            file.write(struct.pack("<16f", *np.eye(4).ravel()) + struct.pack("<4Q", 0, 0, color, depth))
            if color == blob:
                file.seek(2 * blob, 1)
            else:
                file.write(one[1] + one[2])
        file.write(struct.pack("<Q", 0))

    class Spy(io.FileIO):
        def read(self, size=-1):
            nonlocal taken
            data = super().read(size)
            taken += len(data)
            return data

    def pread(*arguments):
        nonlocal taken
        data = read_at(*arguments)
        taken += len(data)
        return data

    monkeypatch.setattr(module, "open", lambda path, mode: Spy(path, "r"), raising=False)
    monkeypatch.setattr(os, "pread", pread)
    recording = SensFile(path)
    assert len(recording) == 3
    header = len(Sens(count=3).header()) - len(Sens().name)
    assert taken == header
    assert len(recording.poses) == 3
    assert taken == header + 3 * 96
    assert recording.color(2).shape == (*COLOR_SIZE, 3)
    assert recording.depth(2).shape == DEPTH_SIZE


def test_depth_that_would_unpack_into_all_memory(tmp_path):
    bomb = zlib.compress(bytes(1 << 26), 9)
    file = SensFile(Sens([(np.eye(4), one[1], bomb)]).write(tmp_path / "a.sens"))
    with pytest.raises(FrameError, match="a.sens: frame 0: depth"):
        file.depth(0)


jpeg_of_other_size = encoded(picture(size=(8, 8)))


@pytest.mark.parametrize("blob", [b"", b"no image", one[1][:200], jpeg_of_other_size, b"\xff\xd8\xff" + bytes(100)])
def test_colour_that_does_not_decode(tmp_path, blob):
    file = SensFile(Sens([one, (np.eye(4), blob, one[2])]).write(tmp_path / "a.sens"))
    with pytest.raises(FrameError, match="a.sens: frame 1: colour"):
        file.color(1)
    file.color(0), file.depth(1)


@pytest.mark.parametrize("blob", [b"", b"no zlib", one[2][:-9], zlib.compress(b"short"), zlib.compress(bytes(9999))])
def test_depth_that_does_not_decode(tmp_path, blob):
    file = SensFile(Sens([one, (np.eye(4), one[1], blob)]).write(tmp_path / "a.sens"))
    with pytest.raises(FrameError, match="a.sens: frame 1: depth"):
        file.depth(1)
    file.depth(0), file.color(1)


def test_an_image_that_claims_to_be_huge():
    header = bytearray(encoded(picture(), "PNG"))
    header[16:24] = struct.pack(">II", 60000, 60000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    with pytest.raises(FrameError, match="x: colour"):
        decode_color(bytes(header), "x")


@given(st.data(), st.sampled_from(["PNG", "JPEG"]))
@fresh
def test_no_image_raises_anything_else(data, kind):
    blob = bytearray(encoded(picture(), kind))
    for _ in range(data.draw(st.integers(0, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = bytes(blob[: data.draw(st.integers(0, len(blob)))])
    try:
        assert decode_color(blob, "where", COLOR_SIZE).shape == (*COLOR_SIZE, 3)
    except FrameError as error:
        assert str(error).startswith("where: colour") and "\n" not in str(error)


turned = np.diag([-1.0, -1, 1, 1])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"version": 3}, "version 3"),
        ({"version": 0x6F6E6E20}, "version"),
        ({"color_extrinsics": turned}, "colour extrinsics"),
        ({"depth_extrinsics": turned * np.nan}, "depth extrinsics"),
        ({"color_kind": 7}, "colour compression 7"),
        ({"color_kind": -1}, "colour compression -1"),
        ({"depth_kind": 2}, "depth compression 2"),
        ({"color_size": (0, 32)}, "colour image of 0x32"),
        ({"depth_size": (12, 1 << 31)}, "depth image"),
        ({"color_k": (0, 30, 15, 11)}, "colour focal"),
        ({"depth_k": (np.nan, 30, 15, 11)}, "depth focal"),
        ({"shift": 0.0}, "depth units"),
        ({"shift": np.inf}, "depth units"),
        ({"shift": np.nan}, "depth units"),
        ({"name": bytes(5000)}, "sensor name"),
        ({"count": 1 << 62}, "frames can't fit"),
        ({"count": 4}, "truncated"),
    ],
)
def test_a_header_out_of_range(tmp_path, change, said):
    with pytest.raises(HiclError, match=said) as error:
        _ = SensFile(sens(2).but(imu=b"", **change).write(tmp_path / "odd.sens")).poses
    assert "odd.sens" in str(error.value) and "\n" not in str(error.value)


def test_missing_or_a_folder(tmp_path):
    for path in (tmp_path / "none.sens", tmp_path):
        with pytest.raises(HiclError, match="can't be read"):
            SensFile(path)


def test_a_recording_taken_away_while_it_is_read(tmp_path):
    path = sens(1).write(tmp_path / "a.sens")
    file = SensFile(path)
    path.unlink()
    with pytest.raises(HiclError, match="a.sens: can't be read"):
        file.color(0)


def test_what_we_write_is_the_format(tmp_path):
    """`write_sens` against the bytes of the description: all but the deflated depth, which may be packed otherwise."""
    jpeg, depth, pose = encoded(picture()), millimetres(), np.eye(4, dtype="f4")
    pose[:3, 3] = 1, 2, 3
    cameras = Camera(30, 31, 15.5, 11.5, *COLOR_SIZE), Camera(15, 15.5, 7.5, 5.5, *DEPTH_SIZE)
    write_sens(tmp_path / "a.sens", *cameras, [(jpeg, depth, pose)], sensor_name="abc")
    written = (tmp_path / "a.sens").read_bytes()
    header = Sens(name=b"abc", count=1).header()
    assert written.startswith(header + struct.pack("<16f", *pose.ravel()))
    at = len(header) + 64 + 16
    color_bytes, depth_bytes = struct.unpack_from("<QQ", written, at)
    at += 16
    assert written[at : at + color_bytes] == jpeg
    packed = written[at + color_bytes : at + color_bytes + depth_bytes]
    np.testing.assert_array_equal(np.frombuffer(zlib.decompress(packed), "<u2").reshape(DEPTH_SIZE), depth)
    assert written[at + color_bytes + depth_bytes :] == struct.pack("<Q", 0)
