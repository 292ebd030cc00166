"""`hicl figure scene`: what the method made of a scene, step by step, as one picture."""

from pathlib import Path
from typing import TYPE_CHECKING

from hicl.cache.opening import open_cache
from hicl.errors import HiclError
from hicl.files import replacing

if TYPE_CHECKING:
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

    Raises `HiclError`.
    """
    from hicl.pipeline import report

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".pdf"):
        raise HiclError(f"-o {out}: give it a name that ends in .png, .jpg or .pdf")
    cache = open_cache(cache_path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    prediction = None
    if model_path is not None:
        from hicl.predict import load_model
        from hicl.train import answers, evaluate

        model = load_model(model_path, device)
        evaluate.assert_fits(model, cache)
        prediction = answers.classes_of(model, scene, pool)
    picture = report.draw(cache, scene, prediction)
    with replacing(out) as temporary:
        picture.save(temporary, resolution=300)  # of a PDF, in which it stays pixels
    return f"{out}: scene {scene.id}"
