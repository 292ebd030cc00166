"""`hicl view`: what each layer shows, without a browser; and with one, that it's seen and switched by clicks."""

import importlib.util
import io
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scenes
from PIL import Image
from plyfile import PlyData, PlyElement
from typer.testing import CliRunner

from hicl import commands
from hicl.cache.writer import CacheWriter
from hicl.errors import HiclError
from hicl.pipeline.datasets import rgbd
from hicl.pipeline.picture import class_colors, heat
from hicl.viewer import server
from hicl.viewer.cameras import read_images
from hicl.viewer.layers import Cloud, Layer, class_layer, load, set_layer
from hicl.viewer.page import write_page

GREY = (90, 90, 90)
RED, GREEN = (230, 20, 20), (20, 180, 60)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Two scenes: a of seven points with truth, b without; three classes."""
    path = tmp_path_factory.mktemp("view") / "cache"
    with CacheWriter(path, "scannet") as writer:
        scenes.set_text(writer)
        for name, truth in (("a", True), ("b", False)):
            arrays = scenes.arrays(views=(3, 1, 4), with_optional=truth)
            arrays["views/pose"] = np.tile(np.eye(4), (3, 1, 1))
            arrays["views/intrinsics"] = np.tile([20.0, 12.0, 16.0, 12.0], (3, 1))
            scenes.put(writer, name, arrays)
        writer.write_manifest({"a": ("val", ""), "b": ("val", "")})
    return path


def write_ply(path: Path, comments=(), **columns) -> Path:
    kinds = [(name, np.asarray(values).dtype.str) for name, values in columns.items()]
    vertex = np.empty(len(columns["x"]), kinds)
    for name, values in columns.items():
        vertex[name] = values
    PlyData([PlyElement.describe(vertex, "vertex")], byte_order="<", comments=list(comments)).write(str(path))
    return path


def plane(n=60):
    """n·n points of a square metre: columns for a PLY."""
    x, y = (axis.ravel().astype("f4") for axis in np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n)))
    return {"x": x, "y": y, "z": np.zeros_like(x)}


def test_layers_of_a_cache(cache):
    cloud = load(cache, None, None, None, None)
    assert cloud.title == "a" and list(cloud.layers) == [
        "colours", "raw labels", "refined labels", "spread labels", "sets", "truth"
    ]  # fmt: skip
    found = scenes.arrays(views=(3, 1, 4))
    for layer in cloud.layers.values():
        assert layer.colors.dtype == np.uint8 and layer.colors.shape == (7, 3)
    np.testing.assert_array_equal(cloud.layers["colours"].colors, found["points/rgb"])
    truth = cloud.layers["truth"]
    np.testing.assert_array_equal(truth.colors, class_colors(scenes.CLASSES)[found["points/label"]])
    assert sum(share for _, _, share in truth.legend) == pytest.approx(1)
    # By hand: a point's label is the majority of its pairs, the lowest class of a tie.
    for point, color in enumerate(cloud.layers["raw labels"].colors):
        votes = found["pairs/raw"][found["pairs/point"] == point]
        counts = np.bincount(votes[votes != 255], minlength=3)
        expected = class_colors(scenes.CLASSES)[counts.argmax() if counts.any() else 255]
        np.testing.assert_array_equal(color, expected)
    spread = class_colors(scenes.CLASSES)[found["points/spread"]]
    np.testing.assert_array_equal(cloud.layers["spread labels"].colors, spread)
    sets = cloud.layers["sets"]
    assert "3 sets" in sets.note
    np.testing.assert_array_equal(sets.colors[:3], sets.colors[3:6])
    assert len(cloud.views) == 3 and cloud.views[0].image is None
    assert cloud.views[0].fov == pytest.approx(np.pi / 2) and cloud.views[0].aspect == pytest.approx(32 / 24)
    assert "truth" not in load(cache, "b", None, None, None).layers


def test_classes_have_their_colours_and_shares():
    layer = class_layer(np.array([2, 2, 2, 0, 255, 255, 255, 255], np.uint8), {0: "wall", 2: "bed"})
    table = class_colors(("wall", "class 1", "bed"))
    assert layer.legend == (("bed", tuple(table[2]), 3 / 8), ("wall", tuple(table[0]), 1 / 8), ("none", GREY, 4 / 8))
    np.testing.assert_array_equal(layer.colors, [table[2]] * 3 + [table[0]] + [GREY] * 4)
    # Two bytes can count past 255, and then 255 may be a class; other programs write -1.
    names = {i: f"thing {i}" for i in range(400)}
    layer = class_layer(np.array([255, 399, 65535, -1]), names)
    assert sorted(name for name, _, _ in layer.legend) == ["none", "thing 255", "thing 399"]
    np.testing.assert_array_equal(layer.colors[:2], class_colors(tuple(names.values()))[[255, 399]])
    unlabelled = class_layer(np.full(4, 255, np.uint8), {})
    assert unlabelled.legend == (("none", GREY, 1.0),)


def test_instances_are_sets():
    many = class_layer(np.arange(1000) % 500, {})
    assert not many.legend and "500 sets" in many.note
    np.testing.assert_array_equal(many.colors, set_layer(np.arange(1000) % 500).colors)
    assert "2 sets" in class_layer(np.array([7, 10**9]), {7: "wall"}).note


def test_layers_of_a_ply(tmp_path):
    n = 3600
    label = (np.arange(n) % 3).astype("u2")
    rgb = {name: np.full(n, value, "u1") for name, value in zip(("red", "green", "blue"), RED, strict=True)}
    comments = ["label 0 is wall", "label 1 is <b>bed</b>", "made by hand"]
    path = write_ply(tmp_path / "room.ply", comments, **plane(), **rgb, label=label, similarity=plane()["x"])
    cloud = load(path, None, None, None, "-y")
    assert list(cloud.layers) == ["colours", "labels", "similarity"]
    assert {name for name, _, _ in cloud.layers["labels"].legend} == {"wall", "<b>bed</b>", "class 2"}
    np.testing.assert_array_equal(cloud.layers["similarity"].colors, heat(plane()["x"]))
    np.testing.assert_array_equal(cloud.up, [0, -1, 0])
    bare = load(write_ply(tmp_path / "bare.ply", **plane()), None, None, None, None)
    assert list(bare.layers) == ["height"] and "neither" in bare.layers["height"].note


def test_what_export_writes_is_read_back(cache, tmp_path):
    from hicl.export import export

    cached = load(cache, "a", None, None, None)
    for kind in ("spread", "refined", "raw"):
        export(cache, "a", tmp_path / "a.ply", None, "cpu", kind)
        written = load(tmp_path / "a.ply", None, None, None, None)
        assert written.layers["labels"].legend == cached.layers[f"{kind} labels"].legend
        np.testing.assert_array_equal(written.layers["labels"].colors, cached.layers[f"{kind} labels"].colors)
        np.testing.assert_array_equal(written.xyz, cached.xyz)
    with pytest.raises(HiclError, match="scene b: no spread labels; give --labels raw or refined"):
        export(cache, "b", tmp_path / "b.ply", None, "cpu")


def test_thinning_is_the_same_each_time(cache):
    cloud = load(cache, None, None, None, None)
    thin = cloud.thinned(4)
    np.testing.assert_array_equal(thin.kept, cloud.thinned(4).kept)
    assert len(set(thin.kept)) == 4 and (np.diff(thin.kept) > 0).all()
    np.testing.assert_array_equal(thin.xyz, cloud.xyz[thin.kept])
    for name, layer in thin.layers.items():
        np.testing.assert_array_equal(layer.colors, cloud.layers[name].colors[thin.kept])
        assert layer.legend == cloud.layers[name].legend
    np.testing.assert_array_equal(thin.thinned(2).xyz, cloud.xyz[thin.thinned(2).kept])
    assert cloud.thinned(7) is cloud


def test_the_eye_sees_the_cloud_from_above(tmp_path):
    for up in ("x", "-y", "z"):
        cloud = load(write_ply(tmp_path / "plane.ply", **plane()), None, None, None, up)
        position, middle, fov = cloud.eye()
        assert (position - middle) @ cloud.up > 0
        np.testing.assert_allclose(middle, [0.5, 0.5, 0], atol=0.01)
        gaze = (middle - position) / np.linalg.norm(middle - position)
        toward = (cloud.xyz - position) @ gaze
        assert (toward > 0).all() and 0 < fov < np.pi / 2
    assert cloud.spacing() == pytest.approx(1 / 60, rel=0.5)


@pytest.fixture
def scan(tmp_path) -> tuple[Path, np.ndarray]:
    """A folder of two posed frames, and their poses float64 [2, 4, 4]; the colour images are 320 x 240."""
    folder = tmp_path / "a"
    folder.mkdir()
    np.savetxt(folder / "camera-intrinsics.txt", [[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.5
    for i, (pose, color) in enumerate(zip(poses, (RED, GREEN), strict=True)):
        Image.new("RGB", (320, 240), color).save(folder / f"frame-{i:06d}.color.png")
        Image.fromarray(np.full((240, 320), 2000, np.uint16)).save(folder / f"frame-{i:06d}.depth.png")
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", pose)
    assert len(rgbd.find_scenes(tmp_path)) == 1
    return tmp_path, poses


def test_images_of_the_cameras(scan):
    root, poses = scan

    class Stored:
        id, dataset, path = "a", "rgbd", Path("cache")
        attributes = {"settings": {"depth_scale": 1000.0, "poses": "camera-to-world", "axes": "opencv"}}
        arrays = {"views/frame": np.array([0, 1, 7], np.int32), "views/pose": np.concatenate([poses, poses[:1]])}

        def read(self, name):
            return self.arrays[name]

    images = read_images(Stored, Stored(), root)
    assert sorted(images) == [0, 1], "a frame that is gone has no image"
    assert images[0].shape == (120, 160, 3) and images[0].dtype == np.uint8
    np.testing.assert_array_equal(images[1][60, 80], GREEN)
    Stored.arrays = {"views/frame": np.array([0], np.int32), "views/pose": poses[1:]}
    with pytest.raises(HiclError, match="another pose"):
        read_images(Stored, Stored(), root)
    Stored.id = "b"
    with pytest.raises(HiclError, match="no scan b there"):
        read_images(Stored, Stored(), root)


def error(*words) -> str:
    result = CliRunner().invoke(commands.app, ["view", *(str(word) for word in words)])
    assert isinstance(result.exception, HiclError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="needs viser: pip install 'hicl[viz]'")
def test_errors_are_one_line(cache, tmp_path):
    assert "gone: no such file or folder" in error(tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("x")
    assert "neither a cache's folder nor a .ply" in error(tmp_path / "notes.txt")
    assert "--scene z" in (said := error(cache, "--scene", "z")) and "a, b" in said
    assert "--layer z" in (said := error(cache, "--layer", "z")) and "colours, raw labels" in said
    assert "ends in .html" in error(cache, "--out", tmp_path / "page.png")
    assert "--up w" in error(cache, "--up", "w")
    ply = write_ply(tmp_path / "a.ply", **plane(3))
    assert "--root goes with a cache" in error(ply, "--root", tmp_path)
    write_ply(tmp_path / "empty.ply", x=np.zeros(0, "f4"), y=np.zeros(0, "f4"), z=np.zeros(0, "f4"))
    assert "empty.ply" in error(tmp_path / "empty.ply")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}" in (said := error(cache, "--port", port)) and "in use" in said


def test_without_viser_the_way_out_is_said(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install 'hicl[viz]'" in error(cache)


def test_help_is_light():
    code = "import sys, hicl.commands\nprint([m for m in ('numpy', 'viser', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_ctrl_c_ends_it(cache):
    pytest.importorskip("viser")
    code = "import hicl.commands\nhicl.commands.app()"
    command = [sys.executable, "-uc", code, "view", str(cache), "--port", "0", "--max-points", "5"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def heed() -> None:  # where tests run in the background, Ctrl-C is switched off, and children inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(command, preexec_fn=heed, **pipes) as process:
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert lines[0] == "5 of 7 points, drawn at random; --max-points takes more\n"
    assert re.fullmatch(r"a: http://127\.0\.0\.1:\d+ \(Ctrl-C ends it\)\n", lines[1])
    assert (rest, errors, process.returncode) == ("", "", 0)


@pytest.fixture(scope="module")
def page():
    """An empty page of a real browser that draws without a screen."""
    pytest.importorskip("viser")
    api = pytest.importorskip("playwright.sync_api", reason="needs a browser: pip install playwright, and a Chromium")
    with api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("needs a browser: no Chromium is installed")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 900, "height": 600})
        browser.close()


def a_plane() -> Cloud:
    """A square metre, red in its colours; half wall and half floor by its labels; with one camera."""
    from hicl.viewer.layers import View

    xyz = np.stack(list(plane().values()), axis=1)
    label = (xyz[:, 0] > 0.5).astype(np.uint8)
    layers = {
        "colours": Layer(np.tile(np.array(RED, np.uint8), (len(xyz), 1))),
        "raw labels": class_layer(label, {0: "wall", 1: "<floor>"}),
    }
    pose = np.diag([1.0, -1, -1, 1])
    pose[:3, 3] = 0.5, 0.5, 0.3
    image = np.tile(np.array(GREEN, np.uint8), (12, 16, 1))
    up, ahead = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])
    return Cloud("plane", xyz, layers, up, ahead, np.arange(len(xyz)), (View(3, pose, 1.0, 4 / 3, image),))


def share_of(page, color) -> float:
    """How much of what the browser shows, left of the panel, has about this colour."""
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))[:, :550].astype(int)
    return float((np.abs(pixels - np.array(color)).max(axis=2) <= 12).mean())


def comes(page, color, more_than=0.02, gone=None) -> None:
    """Wait until a colour is seen, and another isn't any more."""
    for _ in range(60):
        if share_of(page, color) > more_than and (gone is None or share_of(page, gone) < 0.002):
            return
        page.wait_for_timeout(250)
    pytest.fail(f"{color} covers {share_of(page, color):.2%}; {gone} {share_of(page, gone or (0, 0, 0)):.2%}")


def test_a_browser_shows_and_switches_layers(page):
    asked = []

    def similarity(text: str) -> np.ndarray:
        asked.append(text)
        if text != "sofa":
            raise HiclError("no teacher at hand")
        return plane()["y"]

    wall, floor = class_colors(("wall", "<floor>"))[:2].tolist()
    with server.running(replace(a_plane(), similarity=similarity), "127.0.0.1", 0) as url:
        page.goto(url)
        comes(page, RED)
        page.get_by_role("button", name="raw labels").click()
        comes(page, wall, gone=RED)
        comes(page, floor)
        assert page.get_by_text("<floor>").is_visible() and page.get_by_text("50.0%").count() == 2
        page.get_by_role("button", name="colours").click()
        comes(page, RED, gone=wall)
        page.locator("input[type=checkbox]:visible").first.click()
        comes(page, (230, 80, 30), more_than=0.0005)
        page.get_by_text("like", exact=True).locator("xpath=following::input[1]").fill("sofa")
        page.get_by_role("button", name="similarity").click()
        comes(page, (250, 240, 130), more_than=0.0005, gone=RED)
        page.get_by_text("like", exact=True).locator("xpath=following::input[1]").fill("bed")
        page.get_by_role("button", name="similarity").click()
        page.get_by_text("no teacher at hand").wait_for()
        assert asked == ["sofa", "bed"]
        page.goto("about:blank")


def test_a_saved_page_says_that_it_loads_before_its_data(tmp_path):
    pytest.importorskip("viser")
    write_page(a_plane(), tmp_path / "plane.html")
    text = (tmp_path / "plane.html").read_text()
    assert 0 < text.index("Loading the scene") < 1000 < text.index("__VISER_EMBED_DATA__=")


def test_a_figure_for_a_paper(cache, tmp_path):
    from hicl.figure import scene_figure

    pytest.importorskip("matplotlib")
    for ending in ("pdf", "svg"):
        scene_figure(cache, "a", None, tmp_path / f"a.{ending}", "cpu")
        scene_figure(cache, "a", None, tmp_path / f"b.{ending}", "cpu")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    svg = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"raw labels (teacher)", "chair"} <= set(texts)
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}image"))) == 6  # the points of a panel are pixels
    with pytest.raises(HiclError, match=r"ends in \.png, \.jpg, \.pdf or \.svg"):
        scene_figure(cache, "a", None, tmp_path / "a.bmp", "cpu")


def test_a_saved_page_shows_and_switches_layers(page, tmp_path):
    said = write_page(a_plane(), tmp_path / "new" / "plane.html", "raw labels")
    assert "plane.html: 3,600 points of plane, 2 layers" in said
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    wall, floor = class_colors(("wall", "<floor>"))[:2].tolist()
    page.goto((tmp_path / "new" / "plane.html").as_uri())
    comes(page, wall)
    comes(page, floor)
    page.get_by_role("button", name="colours").click()
    comes(page, RED, gone=wall)
    page.get_by_role("button", name="cameras").click()
    comes(page, (230, 80, 30), more_than=0.0005)
    page.get_by_role("button", name="raw labels").click()
    comes(page, wall, gone=RED)
    assert page.get_by_text("<floor>").is_visible() and page.locator("#hicl-loading").count() == 0
    outside = [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside, "the page needs nothing from elsewhere"
