"""`hicl figure scene`: what the method made of a scene, step by step, as one picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.files import replacing

if TYPE_CHECKING:
    from hicl.pipeline.report import Panels
    from hicl.train.answers import Pool


def scene_figure(
    cache_path: str | Path,
    scene_id: str | None,
    model_path: Path | None,
    out: Path,
    device: str,
    pool: "Pool" = "sets",
) -> str:
    """Write the picture, and return a line that says so. pool: as of `hicl.train.answers.classes_of`.

    .png and .jpg are pixels throughout. In .pdf and .svg titles and legend are text and shapes, as a paper's other
    figures have them, around points that are pixels: as shapes of their own they would be megabytes.
    Raises `HiclError`.
    """
    from hicl.pipeline import report

    ending = out.suffix.lower()
    if ending not in (".png", ".jpg", ".jpeg", *_VECTORS):
        raise HiclError(f"-o {out}: give it a name that ends in .png, .jpg, .pdf or .svg")
    cache = open_cache(cache_path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    prediction = None
    if model_path is not None:
        from hicl.predict import load_model
        from hicl.train import answers, evaluate

        model = load_model(model_path, device)
        evaluate.assert_fits(model, cache)
        prediction = answers.classes_of(model, scene, pool)
    with replacing(out) as temporary:
        if ending in _VECTORS:
            _draw(report.panels_of(cache, scene, prediction), temporary, ending[1:])
        else:
            report.draw(cache, scene, prediction).save(temporary)
    return f"{out}: scene {scene.id}"


_VECTORS = (".pdf", ".svg")
_WIDTH, _TITLE, _ENTRY = 2.3, 0.25, 0.2  # inches: of a panel, of the line above it, of a line of the legend
_POINTS = 8  # of the text: seven to nine are common


def _draw(panels: "Panels", path: Path, kind: str) -> None:
    """Raises `HiclError` where matplotlib isn't installed."""
    from hicl.train.figures import pyplot

    rows = [shown[i : i + columns] for shown, columns in panels.blocks for i in range(0, len(shown), columns)]
    widest = max(map(len, rows))
    scale = _WIDTH / max(image.width for row in rows for _, image in row)
    heights = [_TITLE + scale * max(image.height for _, image in row) for row in rows]
    across = min(widest * 2, len(panels.legend))
    below = _ENTRY * (-(-len(panels.legend) // across) + 1)
    size = widest * _WIDTH, sum(heights) + below
    plt = pyplot()
    # Text stays text, to be searched and set in a paper's own fonts; the same scene gives the same bytes.
    with plt.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "hicl", "font.size": _POINTS}):
        figure = plt.figure(figsize=size)
        top = size[1]
        for row, height in zip(rows, heights, strict=True):
            for column, (title, image) in enumerate(row):
                low = top - _TITLE - scale * image.height
                box = column * _WIDTH, low, scale * image.width, scale * image.height
                axes = figure.add_axes(tuple(part / size[n % 2] for n, part in enumerate(box)))
                axes.imshow(image, interpolation="none")
                axes.axis("off")
                axes.set_title(title, loc="left", fontsize=_POINTS, pad=3)
            top -= height
        shown = [plt.Rectangle((0, 0), 1, 1, color=[part / 255 for part in color]) for _, color in panels.legend]
        names = [name for name, _ in panels.legend]
        figure.legend(shown, names, loc="lower left", ncols=across, frameon=False, handlelength=1, handleheight=1)
        dated = {"Date": None} if kind == "svg" else {"CreationDate": None}
        figure.savefig(path, format=kind, dpi=round(1 / scale), metadata=dated)
        plt.close(figure)
