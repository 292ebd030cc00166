"""`hicl export`: a labelled point cloud for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

from hicl.cache.opening import open_cache
from hicl.clouds import Cloud, assert_ply, write_ply
from hicl.errors import HiclError

if TYPE_CHECKING:
    from hicl.train.answers import Ensemble, Pool


def export(
    cache_path: str | Path,
    scene_id: str | None,
    out: Path,
    run: Path | None,
    device: str,
    labels: str = "spread",
    pool: "Pool" = "sets",
    ensemble: "Ensemble" = "none",
) -> str:
    """Write a scene's points with a class each as a binary PLY, and return a line that says so.

    The class is what the pseudo-labels say, "spread", or "refined" or "raw" (255 where no camera saw a point), or, with
    a trained run, what its network says (pool, ensemble: as of `hicl.train.answers.classes_of`). Properties: x y z in
    metres, in the scan's own frame, red green blue of the class, label; the comments name the classes.
    Raises `HiclError`.
    """
    from hicl.pipeline.picture import class_colors

    assert_ply(out)
    cache = open_cache(cache_path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    xyz = scene.read("points/xyz")
    if run is None:
        from hicl.pipeline.report import point_labels

        found, _ = point_labels(scene)
        if labels not in found:
            raise HiclError(
                f"{cache_path}: scene {scene.id}: no {labels} labels; give --labels {' or '.join(found)}, or let "
                "`hicl preprocess` bring the cache up to date"
            )
        label = found[labels]
    else:
        from hicl.devices import checked_device
        from hicl.train import answers, evaluate, inference

        model = inference.load(run, checked_device(device))
        evaluate.assert_fits(model, cache)
        label = answers.classes_of(model, scene, pool, ensemble)
    cloud = Cloud(xyz, class_colors(cache.classes)[label], origin=scene.origin)
    write_ply(out, cloud, label.astype("u1"), cache.classes)
    told = f"{out}: {len(xyz):,} points of {scene.id}, {(label != 255).mean():.1%} with a class"
    left_out = scene.attributes.get("left_out", 0)
    return f"{told}; {left_out:,} of the scan without finite coordinates are left out" if left_out else told
