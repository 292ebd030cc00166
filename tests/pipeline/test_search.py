import numpy as np
from scans import write_scan

from hicl.cache.opening import open_cache
from hicl.pipeline.classes import ClassList
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets import rgbd
from hicl.pipeline.run import Source, preprocess
from hicl.pipeline.search import similarity


def test_a_point_is_as_near_as_the_mean_of_its_pixels(tiny_clip, tmp_path):
    """Against dense images of scores, interpolated by torch, pair by pair."""
    import torch

    write_scan(tmp_path / "scans" / "corner", seed=0)
    source = Source("rgbd", tmp_path, [(scene, "test") for scene in rgbd.find_scenes(tmp_path / "scans")], ())
    config = PreprocessConfig(clip=tiny_clip.vit.config, weights=tiny_clip.vit.weights, short_side=64)
    preprocess(source, tmp_path / "cache", config, ClassList.of(("a", "b")), 1, "cpu", say=lambda _: None)
    cache = open_cache(tmp_path / "cache")
    scene = cache.scene("corner")
    query = cache.text[0].copy()
    found = similarity(scene, query)

    grid = scene.read("features/grid") * scene.read("features/scale")[..., None]
    indptr, size = scene.read("pairs/indptr"), scene.read("views/size")
    point, pixel = scene.read("pairs/point"), scene.read("pairs/pixel").astype(int)
    seen = [[] for _ in range(len(found))]
    for view in range(len(size)):
        scores = torch.from_numpy(grid[view].astype(np.float32) @ query)[None, None]
        dense = torch.nn.functional.interpolate(scores, tuple(size[view].tolist()), mode="bilinear")[0, 0].numpy()
        for k in range(indptr[view], indptr[view + 1]):
            seen[point[k]].append(dense[tuple(pixel[k])])
    expected = np.array([np.mean(each) if each else np.nan for each in seen])
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_allclose(found, expected, atol=1e-5)
