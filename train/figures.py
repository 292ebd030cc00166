"""The paper's figures as commands: mIoU over epochs (Fig. 6), t-SNE of two scenes and their union (Fig. 7)."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache.reader import CacheReader
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.train.log import read_log

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hicl.train.evaluate import Scores
    from hicl.train.inference import Model

VIZ_HINT = "install them with `pip install 'hicl[viz]'`"


def pyplot() -> ModuleType:
    """matplotlib's pyplot, drawing to files only. Raises HiclError where it isn't installed."""
    try:
        import matplotlib
    except ImportError:
        raise HiclError(f"figures need matplotlib and scikit-learn: {VIZ_HINT}") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def miou_over_epochs(runs: list[Path], out: Path) -> Path:
    """Fig. 6: validation mIoU over epochs of some runs, from their `log.csv`.

    Args:
        runs: their folders; the folder of a Table 2 stands for all of its runs.

    Raises:
        HiclError: a run without log, or that was never evaluated while training.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for run in (run for given in runs for run in sorted((Path(given) / "runs").glob("*")) or [Path(given)]):
        rows = [row for row in read_log(run) if "miou" in row]
        if not rows:
            raise HiclError(f"{run}: was not evaluated while training; train with --set schedule.evaluate_every=10")
        axes.plot([int(r["epoch"]) for r in rows], [r["miou"] for r in rows], "o-", label=run.name)
    axes.set(xlabel="epoch", ylabel="mIoU, %")
    axes.legend()
    return save(plt, figure, out)


def feature_map(
    model: "Model", cache: CacheReader, scene_ids: list[str], out: Path, points: int = 1500, seed: int = 0
) -> Path:
    """Fig. 7: t-SNE of the features of two scenes, each alone and both together.

    Colours are true classes where a scene has them, else predicted ones. Distances of the union show whether the same
    class of two scenes falls together, which is what inter-scene correlation is for.

    Args:
        model: from `hicl.train.inference.load`.
        scene_ids: two.
        points: sampled points a scene.

    Raises:
        HiclError: not two scenes, or matplotlib or scikit-learn is missing.
    """
    if len(scene_ids) != 2:
        raise HiclError(f"the figure shows two scenes and their union; {len(scene_ids)} given")
    plt = pyplot()
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise HiclError(f"figures need matplotlib and scikit-learn: {VIZ_HINT}") from None
    rng = np.random.default_rng(seed)
    features, labels, truth = [], [], True
    for name in scene_ids:
        scene = cache.scene(name)
        xyz, values, _, place = model.read(scene)
        voxel_features, voxel_of_point = model.features(xyz, values)
        truth = truth and scene.has("points/label")
        label = scene.read("points/label") if scene.has("points/label") else model.predict(xyz, values).label[place]
        known = np.flatnonzero(label != 255)
        chosen = rng.choice(known, min(points, len(known)), replace=False)
        features.append(voxel_features[voxel_of_point[place[chosen]]])
        labels.append(label[chosen])
    panels = [
        (scene_ids[0], features[0], labels[0]),
        (scene_ids[1], features[1], labels[1]),
        ("union", np.concatenate(features), np.concatenate(labels)),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), layout="constrained")
    palette = plt.get_cmap("tab20")
    for axis, (title, x, y) in zip(axes, panels, strict=True):
        perplexity = min(30.0, max(2.0, len(x) / 4))
        flat = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)
        for c in np.unique(y):
            axis.scatter(*flat[y == c].T, s=3, color=palette(int(c) % 20), label=cache.classes[c])
        axis.set(title=title, xticks=[], yticks=[])
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    kind = "true class" if truth else "predicted class"
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", markerscale=4, title=kind, fontsize=8)
    return save(plt, figure, out)


def confusion(scores: "Scores", out: Path) -> Path:
    """The confusion matrix, each row in percent of its true class."""
    plt = pyplot()
    total = scores.confusion.sum(axis=1, keepdims=True)
    share = 100 * scores.confusion / np.maximum(total, 1)
    size = 2.5 + 0.35 * len(scores.classes)
    figure, axes = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    image = axes.imshow(share, vmin=0, vmax=100, cmap="Blues")
    ticks = range(len(scores.classes))
    axes.set_xticks(ticks, scores.classes, rotation=90)
    axes.set_yticks(ticks, scores.classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"mIoU {100 * scores.miou:.2f} %")
    for (i, j), value in np.ndenumerate(share):
        if value >= 1:
            axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6, color="w" if value > 60 else "k")
    figure.colorbar(image, label="% of the true class")
    return save(plt, figure, out)


def save(plt: ModuleType, figure: "Figure", out: Path) -> Path:
    """Write a figure and close it. Raises HiclError for a name that says no format."""
    out, formats = Path(out), figure.canvas.get_supported_filetypes()
    try:
        if out.suffix[1:].lower() not in formats:
            raise HiclError(f"{out}: give it a name that ends in {', '.join(f'.{name}' for name in sorted(formats))}")
        with replacing(out) as temporary:
            figure.savefig(temporary, dpi=150)
    finally:
        plt.close(figure)
    return out
