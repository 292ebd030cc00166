"""A scan as people have them, in; classes and similarities out."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from hicl import upright
from hicl.clouds import Cloud, read_cloud, write_ply
from hicl.errors import HiclError
from hicl.pipeline.classes import ClassList, parse_classes
from hicl.pipeline.teacher.choice import MINIATURE, TeacherConfig
from hicl.predict import embed, embed_query, load_model, predict_file, search_file
from hicl.scans import sets_of
from hicl.train import checkpoint, network
from hicl.train.config import load

CLASSES = ("wall", "floor", "bed", "chair")
WIDTH = 12  # of the tiny teacher
MINIATURE_WIDTH = 64


def _save_run(folder, teacher: TeacherConfig, width: int, features: str = "colour"):
    """A run's folder as training leaves it: random weights, in the space of a teacher."""
    torch.manual_seed(0)
    config = load("miniature", None, {"model.stem": 4, "model.planes": [4] * 8, "stream.features": features})
    net = network.build(config, width, torch.device("cpu"))
    with torch.no_grad():
        net.head.weight.mul_(20)  # answers that differ from point to point
    text = torch.nn.functional.normalize(torch.randn(len(CLASSES), width), dim=1)
    meta = {"classes": list(CLASSES), "config": dataclasses.asdict(config), "teacher": teacher.identity()}
    checkpoint.save_model(folder, net, text, meta)
    return folder


@pytest.fixture(scope="module")
def run(tiny_clip, tmp_path_factory):
    return _save_run(tmp_path_factory.mktemp("run"), TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights), WIDTH)


@pytest.fixture(scope="module")
def model(run):
    return load_model(run, "cpu")


def _corner(n=40):
    """Three coloured squares of about 2 m that meet, and some faces."""
    rng = np.random.default_rng(0)
    s, t = (x.ravel() for x in np.meshgrid(*[np.linspace(0, 1.97, n)] * 2))  # none on a voxel's border
    o = np.zeros_like(s)
    xyz = np.concatenate([np.stack(side, axis=1) for side in ((o, s, t), (t, o, s), (s, t, o))]).astype(np.float32)
    faces = np.array([[0, 1, n], [1, n + 1, n]], np.int32)
    return Cloud(xyz, rng.integers(0, 256, (len(xyz), 3)).astype(np.uint8), faces)


def _write(path, cloud, style="<", order=("x", "y", "z", "red", "green", "blue"), drop=()):
    columns = dict(zip("xyz", cloud.xyz.T, strict=True)) | dict(zip(("red", "green", "blue"), cloud.rgb.T, strict=True))
    kinds = [(name, "u1" if name in ("red", "green", "blue") else "f4") for name in order if name not in drop]
    vertex = np.empty(len(cloud.xyz), kinds)
    for name, _ in kinds:
        vertex[name] = columns[name]
    element = PlyElement.describe(vertex, "vertex")
    PlyData([element], text=style == "ascii", byte_order="=" if style == "ascii" else style).write(str(path))
    return path


def test_any_ply_gets_the_arrays_answer(model, tmp_path):
    cloud = _corner()
    expected = model.predict(cloud.xyz, cloud.rgb, sets=sets_of(Cloud(cloud.xyz, cloud.rgb)))
    assert len(np.unique(expected.label)) > 1
    mixed = ("blue", "z", "green", "x", "red", "y")
    for i, (style, order) in enumerate((("<", mixed), (">", mixed), ("ascii", mixed), ("<", mixed[::-1]))):
        out = tmp_path / f"{i}.ply"
        told = predict_file(_write(tmp_path / "scan.ply", cloud, style, order), model, out)
        vertex = PlyData.read(str(out))["vertex"].data
        assert (vertex["label"] == expected.label).all() and vertex["label"].dtype == np.uint16
        assert np.allclose(vertex["x"], cloud.xyz[:, 0], atol=1e-6)
        saved = np.load(out.with_suffix(".npz"))
        assert (saved["label"] == expected.label).all() and np.allclose(saved["score"], expected.score, atol=1e-5)
        assert saved["classes"].tolist() == list(CLASSES)
        assert np.asarray(Image.open(tmp_path / f"{i}-legend.png")).std() > 5
        assert f"{len(cloud.xyz):,} points" in told


def test_heights_are_above_the_floor_of_the_whole_scan_however_it_is_cut(tiny_clip, tmp_path):
    teacher = TeacherConfig(tiny_clip.vit.config, tiny_clip.vit.weights)
    model = load_model(_save_run(tmp_path / "run", teacher, WIDTH, "colour+height"), "cpu")
    rng = np.random.default_rng(3)
    xyz = rng.uniform(0, [30, 4, 3], (20_000, 3)).astype(np.float32)
    cloud = Cloud(xyz, rng.integers(0, 256, xyz.shape).astype(np.uint8))
    predict_file(_write(tmp_path / "a.ply", cloud), model, tmp_path / "out.ply", pool="none")
    whole = model.predict(cloud.xyz, cloud.rgb).label
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["label"], whole)
    model.box_voxels = 15_000
    assert (model.predict(cloud.xyz, cloud.rgb).label == whole).mean() > 0.999


def test_each_set_of_a_mesh_or_cloud_has_one_class_unless_voxels_are_asked_for(model, tmp_path):
    """Three planes that nearly meet: by the faces they are three sets, whose means are worked out here."""
    n = 40
    cloud, first = _corner(n), np.arange(n * n).reshape(n, n)
    apart = np.repeat(
        np.float32([[0, 0, 0], [0, 0.03, 0.01], [0.01, 0.03, 0.02]]), n * n, axis=0
    )  # no vertex is shared
    cloud = dataclasses.replace(cloud, xyz=cloud.xyz + apart)
    corners = [first[:-1, :-1], first[:-1, 1:], first[1:, 1:], first[1:, :-1]]
    a, b, c, d = (corner.ravel() for corner in corners)
    square = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    faces = np.concatenate([square + plane * n * n for plane in range(3)]).astype(np.int32)
    features, voxel_of_point = model.features(cloud.xyz, cloud.rgb)
    scores = features[voxel_of_point] @ model.text.numpy().T
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = np.repeat([logs[k * n * n : (k + 1) * n * n].mean(axis=0).argmax() for k in range(3)], n * n)
    write_ply(tmp_path / "mesh.ply", dataclasses.replace(cloud, faces=faces))
    scan = _write(tmp_path / "cloud.ply", cloud)
    for name, pool in (("mesh", "sets"), ("cloud", "sets"), ("mesh", "none"), ("cloud", "none")):
        predict_file(tmp_path / f"{name}.ply", model, tmp_path / "out.ply", pool=pool)
        label = PlyData.read(str(tmp_path / "out.ply"))["vertex"].data["label"]
        if pool == "none":
            assert (label == logs.argmax(axis=1)).all() and (label != expected).any()
        elif name == "mesh":
            assert (label == expected).all()
        else:
            sets = sets_of(read_cloud(scan, model.voxel_size))
            assert all(len(np.unique(label[sets == k])) == 1 for k in range(sets.max() + 1))


def test_a_mesh_stays_a_mesh_and_names_its_labels(model, tmp_path):
    cloud = _corner()
    write_ply(tmp_path / "mesh.ply", cloud)
    predict_file(tmp_path / "mesh.ply", model, tmp_path / "new" / "out.ply")
    data = PlyData.read(str(tmp_path / "new" / "out.ply"))
    assert (np.stack(data["face"].data["vertex_indices"]) == cloud.faces).all()
    assert "label 2 is bed" in data.comments
    # One colour a class.
    vertex = data["vertex"].data
    pairs = np.unique(np.stack([vertex[n].astype(int) for n in ("label", "red", "green", "blue")], axis=1), axis=0)
    assert len(pairs) == len(np.unique(vertex["label"])) == len(np.unique(pairs[:, 1:], axis=0))


def test_millimetres_are_noticed_and_scaled(model, tmp_path):
    cloud = _corner()
    expected = model.predict(cloud.xyz, cloud.rgb).label
    for unit in (1e-3, 1e-2):
        scan = _write(tmp_path / "scan.ply", Cloud(cloud.xyz / np.float32(unit), cloud.rgb))
        with pytest.raises(HiclError, match=r"scan\.ply: .* not metres.* --scale, 0\.001 for millimetres"):
            predict_file(scan, model, tmp_path / "out.ply")
        assert not (tmp_path / "out.ply").exists()
        scaled = model.predict(read_cloud(scan, model.voxel_size, unit).xyz, cloud.rgb).label
        assert (scaled == expected).mean() > 0.99  # a point on a voxel's border may round to the other side
    scan = _write(tmp_path / "scan.ply", Cloud(cloud.xyz / 1000, cloud.rgb))
    with pytest.raises(HiclError, match="less than 8 voxels of 0.1 m: not metres"):
        predict_file(scan, model, tmp_path / "out.ply")
    assert read_cloud(scan, model.voxel_size, 1.0).xyz.max() < 0.01  # whoever insists is believed
    for scale in (1e10, 1e200):
        with pytest.raises(HiclError, match="more than 1,048,575 voxels of 0.1 m"):
            read_cloud(scan, model.voxel_size, scale)
    with pytest.raises(HiclError, match="--scale -1.0: must be greater than 0"):
        read_cloud(scan, model.voxel_size, -1.0)


def test_surveyors_coordinates_keep_their_digits(model, tmp_path):
    cloud, origin = _corner(), np.array([690_000.0, 5_334_000.0, 520.0])
    vertex = np.empty(
        len(cloud.xyz), [*((axis, "f8") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    )
    for column, axis in enumerate("xyz"):
        vertex[axis] = cloud.xyz[:, column].astype(float) + origin[column]
    for column, color in enumerate(("red", "green", "blue")):
        vertex[color] = cloud.rgb[:, column]
    PlyData([PlyElement.describe(vertex, "vertex")]).write(str(tmp_path / "scan.ply"))
    predict_file(tmp_path / "scan.ply", model, tmp_path / "out.ply", pool="none")
    found = PlyData.read(str(tmp_path / "out.ply"))["vertex"].data
    assert np.abs(found["y"] - vertex["y"]).max() < 1e-3
    assert (found["label"] == model.predict(cloud.xyz, cloud.rgb).label).mean() > 0.99
    coarse = Cloud((cloud.xyz + origin).astype(np.float32), cloud.rgb)
    with pytest.raises(HiclError, match="32-bit floats, too coarse for voxels of 0.1 m"):
        predict_file(_write(tmp_path / "coarse.ply", coarse), model, tmp_path / "out.ply")
    PlyData(PlyData.read(str(tmp_path / "coarse.ply")).elements, byte_order=">").write(str(tmp_path / "big.ply"))
    with pytest.raises(HiclError, match="32-bit floats, too coarse"):
        predict_file(tmp_path / "big.ply", model, tmp_path / "out.ply")


def test_names_need_not_be_ascii_nor_the_disk_have_room(model, tmp_path, monkeypatch):
    cloud = _corner()
    write_ply(tmp_path / "a.ply", cloud, np.zeros(len(cloud.xyz), np.uint16), ("Stühle\nund mehr", "Tür"))
    assert PlyData.read(str(tmp_path / "a.ply")).comments == ["label 0 is St\\xfchle und mehr", "label 1 is T\\xfcr"]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    scan = _write(tmp_path / "scan.ply", cloud)
    predict_file(scan, model, tmp_path / "out.ply")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError):
        predict_file(scan, model, tmp_path / "out.ply")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_clouds_that_cannot_be_read_are_one_line(model, tmp_path):
    cloud, out = _corner(), tmp_path / "out.ply"
    with pytest.raises(HiclError, match="the network reads colours"):
        predict_file(_write(tmp_path / "grey.ply", cloud, drop=("red", "green", "blue")), model, out)
    with pytest.raises(HiclError, match="no vertices"):
        predict_file(_write(tmp_path / "empty.ply", Cloud(cloud.xyz[:0], cloud.rgb[:0])), model, out)
    with pytest.raises(HiclError, match=r"nowhere\.ply: can't be read"):
        predict_file(tmp_path / "nowhere.ply", model, out)
    with pytest.raises(HiclError, match="ends in .ply"):
        predict_file(_write(tmp_path / "good.ply", cloud), model, tmp_path / "out.obj")
    with pytest.raises(HiclError, match="is the scan itself"):
        predict_file(tmp_path / "good.ply", model, tmp_path / "good.ply")
    assert not list(tmp_path.glob("out*"))


def test_points_without_a_place_are_left_out_and_told(model, tmp_path):
    cloud = _corner()
    broken = cloud.xyz.copy()
    broken[[0, 7], 1] = np.nan
    told = predict_file(
        _write(tmp_path / "nan.ply", Cloud(broken, cloud.rgb)), model, tmp_path / "out.ply", pool="none"
    )
    assert "2 points without finite coordinates are left out" in told
    rest = np.isfinite(broken).all(axis=1)
    expected = model.predict(cloud.xyz[rest], cloud.rgb[rest])
    assert (PlyData.read(str(tmp_path / "out.ply"))["vertex"].data["label"] == expected.label).all()
    assert (np.load(tmp_path / "out.npz")["label"] == expected.label).all()
    assert "left out" not in predict_file(_write(tmp_path / "good.ply", cloud), model, tmp_path / "out.ply")


def test_classes_colours_are_told_from_a_cameras(model, tmp_path):
    scan, out = _write(tmp_path / "scan.ply", _corner()), tmp_path / "out.ply"
    said = "out.ply was written by hicl: its colours are those of classes"
    assert said not in predict_file(scan, model, out)
    assert said in predict_file(out, model, tmp_path / "again.ply")


def test_a_stray_point_is_named(model, tmp_path):
    cloud = _corner()
    for strays in ([7], [7, 3000]):
        far = cloud.xyz.copy()
        far[strays, 0] = 120_000
        told = f"point 7{' .and 1 others.' if len(strays) > 1 else ''}, at .120000, .* lies 1.2e.05 m from nearly all"
        with pytest.raises(HiclError, match=rf"s\.ply: {told} others; cut strays"):
            predict_file(_write(tmp_path / "s.ply", Cloud(far, cloud.rgb)), model, tmp_path / "out.ply")


def _hall():
    """A floor of 6 x 5 m and two walls of 2 m, with z up."""
    cloud = _corner()
    return dataclasses.replace(cloud, xyz=cloud.xyz * np.float32([3, 2.5, 1]) + np.float32([1, 2, 3]))


# Rows: the lying scan's x, y and z in those of the upright one. Each is a rotation.
LYING = {
    "y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "-y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "x": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    "-x": [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
    "-z": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
}


@pytest.mark.parametrize("up", LYING)
def test_a_scan_that_lies_is_stood_up_and_stays_where_it_is(model, tiny_clip, tmp_path, up):
    own = {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}
    cloud, turn, out = _hall(), np.array(LYING[up], np.float32), tmp_path / "out.ply"
    assert np.linalg.det(turn) == 1 and (upright.axis(up) @ turn).tolist() == [0, 0, 1]
    lying = dataclasses.replace(cloud, xyz=cloud.xyz @ turn.T)
    scan = _write(tmp_path / "scan.ply", lying)
    told = predict_file(scan, model, out, up=up, pool="none")
    vertex = PlyData.read(str(out))["vertex"].data
    assert (vertex["label"] == model.predict(cloud.xyz, cloud.rgb).label).all()
    np.testing.assert_array_equal(np.stack([vertex[name] for name in "xyz"], axis=1), lying.xyz)
    assert " up?" not in told
    if up != "-z":  # half a turn is one about any axis
        assert "levelled: turned by 90.0 degrees" in predict_file(scan, model, out, up=up, pool="none", level=True)
        assert (PlyData.read(str(out))["vertex"].data["label"] == vertex["label"]).mean() > 0.95
    search_file(scan, model, "a seat", out, **own, up=up)
    near = model.similarity(cloud.xyz, cloud.rgb, embed_query(model, "a seat", **own))
    np.testing.assert_allclose(PlyData.read(str(out))["vertex"].data["similarity"], near, atol=1e-6)


def test_a_scan_that_lies_is_asked_about(model, tmp_path):
    cloud, out = _hall(), tmp_path / "out.ply"
    assert " up?" not in predict_file(_write(tmp_path / "scan.ply", cloud), model, out)
    for name in "xy":
        lying = dataclasses.replace(cloud, xyz=cloud.xyz @ np.array(LYING[name], np.float32).T)
        told = predict_file(_write(tmp_path / "scan.ply", lying), model, out)
        assert f"is {name} up?" in told and f"give --up {name}, or --level" in told
    far = np.concatenate([lying.xyz, np.float32([[150_000, 0, 0]])])
    assert upright.nearest_axis(upright.Surfaces.of(far).up)[0] == name  # a stray changes nothing
    with pytest.raises(HiclError, match="--up w: unknown"):
        predict_file(tmp_path / "scan.ply", model, out, up="w")


def test_other_words_need_the_models_own_teacher(model, tiny_clip, tmp_path):
    own = {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}
    words = embed(model, ["lamp", "rug", "plant"], **own)
    assert words.shape == (3, WIDTH) and np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-6)
    cloud = _corner()
    scan = _write(tmp_path / "scan.ply", cloud)
    predict_file(scan, model, tmp_path / "out.ply", ClassList.of(("lamp", "rug", "plant")), **own, pool="none")
    label = PlyData.read(str(tmp_path / "out.ply"))["vertex"].data["label"]
    assert (label == model.predict(cloud.xyz, cloud.rgb, words).label).all()
    with pytest.raises(HiclError, match="came from a file; name it again"):
        embed(model, ["lamp"])
    with pytest.raises(HiclError, match="text space of another teacher"):
        embed(model, ["lamp"], tiny_clip.resnet.config, tiny_clip.resnet.weights)
    with pytest.raises(HiclError, match="longer than the 77 tokens"):
        embed(model, ["lamp", "very " * 90 + "long"], **own)
    model.meta["teacher"], kept = None, model.meta["teacher"]
    with pytest.raises(HiclError, match="came from images"):
        embed(model, ["lamp"])
    model.meta["teacher"] = kept


def test_words_that_fold_into_labels_of_images_are_refused(model):
    with pytest.raises(
        HiclError, match="'pillow' behind a [|]: words fold into labels of images alone; leave them out"
    ):
        embed(model, ClassList(("bed",), (("bed",),), ((0, ("pillow",)),)))


def test_more_words_than_a_byte_can_count(model, tiny_clip, tmp_path):
    names = tuple(f"thing {i}" for i in range(300))
    own = {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}
    cloud = _corner(20)
    predict_file(
        _write(tmp_path / "scan.ply", cloud), model, tmp_path / "out.ply", ClassList.of(names), **own, pool="none"
    )
    label = PlyData.read(str(tmp_path / "out.ply"))["vertex"].data["label"]
    scores = model.features(cloud.xyz, cloud.rgb)
    best = (scores[0] @ embed(model, list(names), **own).T).argmax(axis=1)[scores[1]]
    assert (label == best).mean() > 0.999  # equal but for ties


def test_prompts_come_from_a_list_or_a_file(tmp_path):
    assert parse_classes("chair, potted plant ,").prompts == (("chair",), ("potted plant",))
    (tmp_path / "words.txt").write_text("sofa, couch\nlamp\n")
    assert parse_classes(str(tmp_path / "words.txt")).prompts == (("sofa", "couch"), ("lamp",))
    for text, words in ((" , ", "0 classes"), ("a, b, a", "'a' stands there twice"), ("no.txt", "no such file")):
        with pytest.raises(HiclError, match=words):
            parse_classes(text)
    with pytest.raises(HiclError, match="300 classes"):
        parse_classes(", ".join(f"thing {i}" for i in range(300)), 255)


def test_a_scan_is_searched_by_the_cosine_of_its_features(model, tiny_clip, tmp_path):
    own = {"clip": tiny_clip.vit.config, "weights": tiny_clip.vit.weights}
    cloud = _corner()
    told = search_file(_write(tmp_path / "s.ply", cloud), model, "somewhere to sit", tmp_path / "near.ply", None, **own)
    assert "somewhere to sit" in told
    vertex = PlyData.read(str(tmp_path / "near.ply"))["vertex"].data
    features, voxel_of_point = model.features(cloud.xyz, cloud.rgb)
    query = embed_query(model, "somewhere to sit", **own)
    cosine = (features @ query) / np.linalg.norm(features, axis=1)
    np.testing.assert_allclose(vertex["similarity"], cosine[voxel_of_point], atol=1e-5)
    # The brighter, the nearer.
    light = vertex["red"].astype(int) + vertex["green"]
    order = np.argsort(vertex["similarity"])
    assert light[order[:100]].mean() < light[order[-100:]].mean() - 100


def test_the_pythons_way_in_is_what_the_readme_says(tmp_path):
    """The example of the README, as it stands there."""
    readme = (Path(__file__).parent.parent / "docs" / "predict.md").read_text()
    example = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.S) if "load_model" in code)
    assert len(example.splitlines()) <= 20
    (tmp_path / "results/runs/V-seed0").mkdir(parents=True)
    _save_run(tmp_path / "results/runs/V-seed0", TeacherConfig(MINIATURE, MINIATURE), MINIATURE_WIDTH)
    write_ply(tmp_path / "scan.ply", _corner())
    command = [sys.executable, "-c", example]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] in CLASSES
