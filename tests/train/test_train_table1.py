"""Table 1: fused features and the rivals' losses against plain versions, and the table end to end."""

import json

import numpy as np
import pytest
import torch
from synthetic_rooms import CLASSES, TINY, add_features, make_cache

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.pipeline import report
from hicl.train import fused, loop, rivals, table1
from hicl.train.config import load
from hicl.train.objectives.losses import own_labels, pair_distance


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("table1") / "cache"
    return make_cache(path, n_points=300, n_views=3, edit=add_features, truth_classes=CLASSES)


def plain_fusion(scene):
    """OpenScene's way: a dense map of each image by torch's own interpolation, added up at the points it shows."""
    grid, scale, indptr = (scene.read(name) for name in ("features/grid", "features/scale", "pairs/indptr"))
    n = scene.attributes["counts"]["points"]
    total, count = np.zeros((n, grid.shape[3])), np.zeros(n, int)
    for view in range(len(grid)):
        patches = torch.from_numpy(grid[view] * scale[view][:, :, None]).permute(2, 0, 1)[None]
        size = tuple(scene.read("views/size")[view].tolist())
        dense = torch.nn.functional.interpolate(patches, size, mode="bilinear", align_corners=False)[0].numpy()
        for pair in range(indptr[view], indptr[view + 1]):
            row, column = scene.read("pairs/pixel")[pair]
            total[scene.read("pairs/point")[pair]] += dense[:, row, column]
            count[scene.read("pairs/point")[pair]] += 1
    return total, count


def test_fused_features_are_those_of_dense_maps(cache):
    opened = open_cache(cache)
    scene = opened.scene("val04")
    total, count = plain_fusion(scene)
    sums, found = fused.fuse(scene)
    np.testing.assert_allclose(sums, total, atol=1e-5)
    np.testing.assert_array_equal(found, count)
    label, cosine = fused.fused_classes(scene, opened.text)
    seen = count > 0
    unit = total[seen] / np.linalg.norm(total[seen], axis=1, keepdims=True)
    np.testing.assert_allclose(cosine[seen], (unit @ opened.text.T).max(axis=1), atol=1e-5)
    assert (label[~seen] == 255).all() and (cosine[~seen] == -1).all() and not seen.all()


def test_the_distance_is_one_minus_the_cosine_of_each_pair():
    rng = np.random.default_rng(0)
    student, pairs = rng.normal(size=(3, 5)), [rng.normal(size=(n, 5)) for n in (1, 4, 2)]
    units = [own / np.linalg.norm(own, axis=1, keepdims=True) for own in pairs]
    wanted = sum(
        1 - f @ g / np.linalg.norm(f) for f, own in zip(student, units, strict=True) for g in own
    )  # fmt: skip
    means = np.stack([own.mean(axis=0) for own in units])
    total, count = pair_distance(torch.tensor(student), torch.tensor(means), torch.tensor([1.0, 4.0, 2.0]).double())
    assert float(total) == pytest.approx(wanted) and float(count) == 7


def test_own_labels_are_the_networks_best_class_of_as_many_pairs():
    logits = torch.tensor([[0.1, 0.9, 0.0], [3.0, 1.0, 2.0], [0.0, 0.0, 1.0]], requires_grad=True)
    found = own_labels(logits, torch.tensor([[2, 1, 0], [0, 0, 0], [1, 0, 4]]))
    assert found.tolist() == [[0, 3, 0], [0, 0, 0], [0, 0, 5]] and not found.requires_grad


def test_table_1_end_to_end(cache, tmp_path, monkeypatch):
    config = load("miniature", None, TINY | {"schedule.epochs": 2, "schedule.batch": 2, "heads.layers": 1})
    said = []
    results = table1.table1(cache, config, tmp_path, [0], say=said.append)
    saved = json.loads((tmp_path / "table1.json").read_text())
    assert saved == results and "missing" not in saved
    assert list(saved["rows"]) == [name for name in rivals.ROWS if name != "maskclip-plus"]
    assert [line.split(":")[0] for line in said] == [
        f"{name}-seed0" for name in ("VI", "V", "chen", "clip2scene", "openscene")
    ]
    opened = open_cache(cache)
    labels = report.measure(opened, opened.scene_ids("val"))
    row = saved["rows"]["maskclip"]
    assert row["seen"]["miou"] == [labels["raw"]["miou"]] and row["all"]["miou"] == [labels["raw_all"]["miou"]]
    text = (tmp_path / "table1.md").read_text()
    assert "| OpenScene, distilled | 16.8 |" in text and "| HICL (V) | 36.6 |" in text and "| MaskCLIP |  |" in text
    assert all(row["bytes"] > 0 for row in saved["rows"].values())
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train", None)  # a second training would fail
        assert table1.table1(cache, config, tmp_path, [0]) == results


def test_what_a_cache_is_not_enough_for_has_no_row(tmp_path):
    def without_masks(name, arrays):
        add_features(name, arrays)
        del arrays["pairs/mask"]

    path = make_cache(tmp_path / "cache", 1, 1, n_points=100, edit=without_masks, truth_classes=CLASSES)
    config = load("miniature", None, TINY)
    with pytest.raises(HiclError, match="--row chen: .*no pairs/mask, .*`hicl masks`"):
        table1.table1(path, config, tmp_path / "out", [0], ("chen",))
    results = table1.table1(path, config, tmp_path / "out", [0], ("maskclip",))
    assert list(results["absent"]) == ["MaskCLIP+", "Chen et al."]
    assert "- MaskCLIP+ has no row: needs what `hicl student` wrote" in table1.markdown(results)


@pytest.mark.parametrize(("both", "said"), [(31.0, "is better than both"), (29.0, "is not better than both")])
def test_the_table_says_whether_the_ensemble_beats_its_parts(both, said):
    means = {"openscene-both": both, "openscene-fused": 30.0, "openscene": 20.0}
    rows = {name: {"seen": {"mean": mean}} for name, mean in means.items()}
    assert f"{said} of its parts: {both:.2f} against 30.00 of images and 20.00" in table1._ensemble(rows)[0]
    assert table1._ensemble(rows | {"openscene": {"seen": {"mean": None}}}) == []


def test_the_ensemble_takes_the_surer_of_images_and_network(cache):
    class Fixed:
        """A network whose every voxel is one point, with given features."""

        def __init__(self, features):
            self.of_points = features

        def read(self, scene):
            n = scene.attributes["counts"]["points"]
            return None, None, None, np.arange(n)

        def features(self, xyz, values):
            return self.of_points, np.arange(len(self.of_points))

    opened = open_cache(cache)
    scene, text = opened.scene("val05"), opened.text
    rng = np.random.default_rng(1)
    features = rng.normal(size=(scene.attributes["counts"]["points"], 16)).astype(np.float32)
    found = rivals.answer("surer", scene, text, Fixed(features))
    by_images, surest = fused.fused_classes(scene, text)
    taken = {"images": 0, "network": 0}
    for i in range(len(features)):
        cosines = text @ features[i] / np.linalg.norm(features[i])
        images = by_images[i] != 255 and surest[i] > cosines.max()
        taken["images" if images else "network"] += 1
        assert found[i] == (by_images[i] if images else cosines.argmax())
    assert min(taken.values()) > 20
