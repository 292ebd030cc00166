"""A trained network on one's own scan, with its own words or others: arrays in and out, or files.

model = load_model("runs/V")
prediction = model.predict(xyz, rgb)                                       # its own classes
prediction = model.predict(xyz, rgb, embed(model, ["chair", "table"]))     # other words
near = model.similarity(xyz, rgb, embed_query(model, "somewhere to sit"))
"""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.clouds import Cloud, assert_ply, write_ply
from hicl.devices import checked_device
from hicl.errors import HiclError
from hicl.files import replacing
from hicl.pipeline import picture
from hicl.pipeline.classes import ClassList
from hicl.pipeline.search import similarity
from hicl.pipeline.teacher.choice import TeacherConfig, same_teacher
from hicl.pipeline.teacher.clip import Teacher
from hicl.pipeline.teacher.prompts import ensemble
from hicl.scans import is_sweep, read_scan
from hicl.submission import assert_classes, write_labels
from hicl.train import inference
from hicl.train.inference import Model


def load_model(where: Path, device: str = "auto") -> Model:
    """A finished run's model, by its folder or its `model.safetensors`. Raises `HiclError` where there is none."""
    return inference.load(Path(where), checked_device(device))


def embed(
    model: Model, prompts: list[str] | ClassList, clip: str | None = None, weights: str | None = None
) -> np.ndarray:
    """Words in the text space that a model was trained in: float32 [C, d], unit length, 85 templates each.

    clip, weights: the teacher's, to be given where it came from files.
    Raises `HiclError` for another teacher, or a prompt that its tokenizer would cut.
    """
    names = prompts.names if isinstance(prompts, ClassList) else prompts
    if isinstance(prompts, str) or not len(names):
        raise HiclError(f"prompts {prompts!r}: give a list of names")
    classes = prompts if isinstance(prompts, ClassList) else ClassList.of(tuple(prompts))
    if classes.folded:
        raise HiclError(
            f"{classes.folded[0][1][0]!r} behind a |: words fold into labels of images alone; leave them out"
        )
    return _teacher(model, clip, weights).encode_classes(classes)


def embed_query(
    source: Model | CacheReader, query: str, clip: str | None = None, weights: str | None = None
) -> np.ndarray:
    """A free text as it is, in the text space of a model or a cache: float32 [d], unit length. Errors as of `embed`."""
    return ensemble(_teacher(source, clip, weights).encode_texts([query]))


def _teacher(source: Model | CacheReader, clip: str | None, weights: str | None) -> Teacher:
    where = "the model" if isinstance(source, Model) else str(source.path)
    if isinstance(source, Model) and "teacher" not in source.meta:
        raise HiclError("the model: trained before hicl noted the teacher; train it again to use other words")
    return _load_teacher(same_teacher(source.teacher, where, clip, weights))


@functools.lru_cache(maxsize=1)
def _load_teacher(config: TeacherConfig) -> Teacher:
    return Teacher(config)


def predict_file(
    scan: Path,
    model: Model,
    out: Path,
    prompts: ClassList | None = None,
    scale: float | None = None,
    clip: str | None = None,
    weights: str | None = None,
    up: str | None = None,
    pool: str = "sets",
    level: bool = False,
) -> str:
    """Write a scan with a class for every point, and return what was found, as lines for a terminal.

    Written: `out`, a PLY with the classes' colours, a `label` property and the scan's faces; beside it `.npz` with
    label [N], score [N] (the class' probability) and classes [C]; and `-legend.png`. Of a LiDAR's sweep, in its file's
    order: the same, or where `out` ends in .npy label [N] alone, uint8 or uint16, or in .bin those of nuScenes'
    challenge, a byte a point, 1 to 16. up: the scan's axis that points upwards, like y or -z; None: z, with a word
    where that seems wrong. level: as of `read_scan`; what is written stays as it lay. pool: "sets" gives each of the
    scan's geometric sets one class (`Scan.sets`), "none" each voxel.
    Raises `HiclError`; nothing is written then.
    """
    _assert_output(out, scan, (".ply", ".npy", ".bin") if is_sweep(scan) else (".ply",))
    names = prompts.names if prompts is not None else model.classes
    if out.suffix.lower() == ".bin":
        assert_classes(names, "the model" if prompts is None else "--classes")
    given = read_scan(scan, model, scale, up, level)
    text = embed(model, prompts, clip, weights) if prompts is not None else None
    found = model.predict(given.xyz, given.values, text, given.sets() if pool == "sets" else None)
    label, score = found.label[given.place], found.score[given.place]
    colors = picture.class_colors(names)
    share = np.bincount(label, minlength=len(names)) / len(label)
    order = [index for index in np.argsort(-share, kind="stable") if share[index] > 0]
    lines = [(f"{names[index]} {100 * share[index]:.1f} %", colors[index]) for index in order]
    told = ", ".join(name for name, _ in lines[:8]) + (f", and {len(lines) - 8} more" if len(lines) > 8 else "")
    told = f"{out}: {len(label):,} points: {told}"
    if out.suffix.lower() != ".ply":
        with replacing(out) as temporary:
            _write_labels(temporary, label, len(names))
        return "\n".join([told, *given.doubts])
    # All are written before the first takes its place.
    with replacing(out.with_suffix(".npz")) as npz, replacing(legend_of(out)) as png:
        np.savez(npz, label=label, score=score, classes=np.array(names))
        picture.sheet([], lines).save(png)
        write_ply(out, replace(given.cloud, rgb=colors[label]), label, names)
    written = f"labels and scores: {out.with_suffix('.npz')}; legend: {legend_of(out)}"
    return "\n".join([told, written, *given.doubts])


def _write_labels(path: Path, label: np.ndarray, n_classes: int) -> None:
    if path.suffix.lower() == ".bin":
        write_labels(path, label)
    else:
        with open(path, "wb") as file:
            np.save(file, label.astype(np.uint8 if n_classes <= 256 else np.uint16))


def legend_of(out: Path) -> Path:
    """Where the legend of a PLY is written."""
    return out.with_name(f"{out.stem}-legend.png")


def _assert_output(out: Path, scan: Path | None = None, endings: tuple[str, ...] = (".ply",)) -> None:
    if endings == (".ply",):
        assert_ply(out)
    elif out.suffix.lower() not in endings:
        raise HiclError(f"-o {out}: give it a name that ends in {', '.join(endings)}")
    if scan is not None and out.exists() and scan.exists() and out.samefile(scan):
        raise HiclError(f"-o {out}: is the scan itself; give another name, so that it stays as it is")


def search_file(
    scan: Path,
    model: Model,
    query: str,
    out: Path,
    scale: float | None = None,
    clip: str | None = None,
    weights: str | None = None,
    up: str | None = None,
    level: bool = False,
) -> str:
    """Write a scan coloured by its similarity to a text, by the model's features. up, level: as of `predict_file`.

    Raises `HiclError`.
    """
    _assert_output(out, scan)
    given = read_scan(scan, model, scale, up, level)
    near = model.similarity(given.xyz, given.values, embed_query(model, query, clip, weights))[given.place]
    return "\n".join([write_similarity(out, given.cloud, near, query), *given.doubts])


def search_cache(
    path: str | Path,
    scene_id: str | None,
    query: str,
    out: Path,
    clip: str | None = None,
    weights: str | None = None,
) -> str:
    """The same for a scene of a cache, by the teacher's features of its images. Raises `HiclError`."""
    _assert_output(out)
    cache = open_cache(path)
    scene = cache.scene(scene_id or cache.scene_ids()[0])
    near = similarity(scene, embed_query(cache, query, clip, weights))
    xyz = scene.read("points/xyz")
    cloud = Cloud(xyz, np.zeros(xyz.shape, np.uint8), origin=scene.origin)
    return write_similarity(out, cloud, near, query)


def write_similarity(out: Path, cloud: Cloud, near: np.ndarray, query: str) -> str:
    """A PLY with a colour and a `similarity` for every point; NaN, and grey, where it isn't known."""
    write_ply(out, replace(cloud, rgb=picture.heat(near)), values={"similarity": near})
    low, high = np.nanquantile(near, picture.HEAT_RANGE)
    unseen = f", {np.isnan(near).mean():.1%} unseen" if np.isnan(near).any() else ""
    return f"{out}: {query!r} from {low:.3f} (dark) to {high:.3f} (bright) in {len(near):,} points{unseen}"
