"""What `hicl view` can show of a cache's scene or of a PLY: its points and their colours by layer. No browser here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader, SceneReader
from hicl.cache.schema import NO_LABEL
from hicl.cache.store import is_url
from hicl.clouds import label_names, near_zero
from hicl.errors import HiclError
from hicl.pipeline.picture import class_colors, heat, set_colors
from hicl.upright import axis
from hicl.viewer.cameras import View, read_images, views_of

if TYPE_CHECKING:
    from hicl.train.answers import Pool
    from hicl.train.inference import Model

Similarity = Callable[[str], np.ndarray]
"""Free text to float [N], how much each point of the whole cloud is like it (NaN: not seen). Raises `HiclError`."""

_AHEAD = np.array([0.6, 1.0, 0.25])  # into a corner, as `hicl report` draws rooms


@dataclass(frozen=True)
class Layer:
    """One colouring of the points.

    colors: uint8 [N, 3]. legend: (name, its colour, its share of the points in 0..1) of each class that occurs, the
    largest first. note: said below the legend, or instead of it.
    """

    colors: np.ndarray
    legend: tuple[tuple[str, tuple[int, int, int], float], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Cloud:
    """Points with all that can be shown of them.

    xyz: float32 [N, 3], metres. up, ahead: float64 [3], what is up, and roughly the direction to look in. kept: int64
    [N], ascending: where these points stand in the whole cloud, of which they may be a part. similarity: answers free
    text for the whole cloud, where that can be done.
    """

    title: str
    xyz: np.ndarray
    layers: dict[str, Layer]
    up: np.ndarray
    ahead: np.ndarray
    kept: np.ndarray
    views: tuple[View, ...] = ()
    similarity: Similarity | None = None

    def thinned(self, most: int) -> "Cloud":
        """At most so many points, drawn at random, the same ones each time; legends still speak of all of them."""
        if len(self.xyz) <= most:
            return self
        chosen = np.sort(np.random.default_rng(0).choice(len(self.xyz), most, replace=False))
        layers = {name: replace(layer, colors=layer.colors[chosen]) for name, layer in self.layers.items()}
        return replace(self, xyz=self.xyz[chosen], layers=layers, kept=self.kept[chosen])

    def first_layer(self, name: str | None) -> str:
        """The layer of this name, without one the first there is. Raises `HiclError` if there is no such layer."""
        if name is not None and name not in self.layers:
            raise HiclError(f"--layer {name}: {self.title} has no such layer; it has {', '.join(self.layers)}")
        return name or next(iter(self.layers))

    def eye(self) -> tuple[np.ndarray, np.ndarray, float]:
        """A good place to look from: (position, point looked at, both float64 [3]; vertical field of view, radians).

        Above and outside, steep enough to look over the near walls.
        """
        up = self.up / np.linalg.norm(self.up)
        forward = self.ahead - (self.ahead @ up) * up
        if np.linalg.norm(forward) < 1e-3:  # looking straight down: any side will do
            forward = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
        gaze = np.cos(tilt := np.deg2rad(58)) * forward / np.linalg.norm(forward) - np.sin(tilt) * up
        low, high = self._box()
        middle, fov = (low + high) / 2, np.deg2rad(50)
        return middle - gaze * 0.8 * self.radius() / np.sin(fov / 2), middle, float(fov)

    def radius(self) -> float:
        """Half the diagonal of what is in the cloud, metres; never 0."""
        return max(float(np.linalg.norm(np.subtract(*self._box()))) / 2, 1e-3)

    def spacing(self) -> float:
        """Roughly how far points lie apart, metres: as if they covered the walls of their box evenly."""
        x, y, z = np.subtract(*self._box()[::-1])
        return max(float(np.sqrt(2 * (x * y + y * z + z * x) / len(self.xyz))), 1e-3 * self.radius())

    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        # Stray points must not push the camera away; a sample of them will do for quantiles.
        sample = self.xyz[:: max(1, len(self.xyz) // 100_000)].astype(np.float64)
        low, high = np.quantile(sample, [0.005, 0.995], axis=0)
        return low, high


def load(
    path: str | Path,
    scene_id: str | None,
    model: "Model | None",
    root: Path | None,
    up: str | None,
    scale: float | None = None,
    teacher: tuple[str | None, str | None] = (None, None),
    pool: "Pool" = "sets",
) -> Cloud:
    """The cloud of a cache's scene or of a PLY, whole. Raises `HiclError`.

    scene_id: of a cache; None: its first. model: whose prediction becomes a layer. pool: "sets" gives each geometric
    set one class in it, "none" each voxel. root: the raw scans'
    folder, for the views' images. up: an axis like z or -y; None: z, and what the cameras held up in a scan of one's
    own. scale: metres a unit of a PLY. teacher: its --clip and --weights, for free text, where they were files.
    """
    if is_url(path) or Path(path).is_dir():
        return of_cache(path, scene_id, model, root, up, teacher, pool)
    path = Path(path)
    if not path.exists():
        raise HiclError(f"{path}: no such file or folder; give a cache of `hicl preprocess`, or a .ply")
    if path.suffix.lower() not in (".ply", ".bin"):
        raise HiclError(f"{path}: neither a cache's folder nor a .ply, nor a sweep's .pcd.bin")
    for option, given in (("--scene", scene_id), ("--root", root)):
        if given is not None:
            raise HiclError(f"{path}: {option} goes with a cache, not with a file; give the cache the points came from")
    if path.suffix.lower() == ".bin":
        return of_sweep(path, model, up, scale, teacher, pool)
    return of_ply(path, model, up, scale, teacher, pool)


def of_cache(
    path: str | Path,
    scene_id: str | None,
    model: "Model | None",
    root: Path | None,
    up: str | None,
    teacher: tuple[str | None, str | None] = (None, None),
    pool: "Pool" = "sets",
) -> Cloud:
    """A cache's scene: colours, labels before and after the vote, sets, truth and prediction where there are any."""
    from hicl.pipeline.report import point_labels, seen_colors, truth_map

    cache = open_cache(path)
    ids = cache.scene_ids()
    if scene_id is not None and scene_id not in ids:
        more = " …" if len(ids) > 5 else ""
        raise HiclError(f"--scene {scene_id}: no complete scene of {path}; there are {', '.join(ids[:5])}{more}")
    scene = cache.scene(scene_id or ids[0])
    xyz = scene.read("points/xyz")
    if len(xyz) == 0:
        raise HiclError(f"{scene.path}: no points, so there is nothing to see; look at the scan it was made from")
    classes = dict(enumerate(cache.classes))
    name, colors = seen_colors(scene)
    layers = {name: Layer(colors)}
    for kind, label in point_labels(scene)[0].items():
        layers[f"{kind} labels"] = class_layer(label, classes)
    layers["sets"] = set_layer(scene.read("sets/id"))
    if scene.has("points/label"):
        truth, to_prompted = scene.read("points/label"), truth_map(cache)
        if to_prompted is None:  # none of its classes was prompted: shown as what they are
            layers["truth"] = class_layer(truth, dict(enumerate(cache.truth_classes)))
        else:
            layers["truth"] = class_layer(to_prompted[truth], classes)
    if model is not None:
        from hicl.train import answers, evaluate

        evaluate.assert_fits(model, cache)
        layers["prediction"] = class_layer(answers.classes_of(model, scene, pool), classes)
    poses = scene.read("views/pose")
    upward, ahead = axis(up or "z"), _AHEAD
    if cache.dataset == "rgbd" and len(poses):  # the axes may be any; cameras are mostly held upright
        upward = axis(up) if up else -poses[:, :3, 1].mean(axis=0)
        ahead = poses[:, :3, 2].mean(axis=0)
    images = read_images(cache, scene, root) if root is not None else {}
    views = views_of(scene, images)
    return Cloud(scene.id, xyz, layers, upward, ahead, np.arange(len(xyz)), views, _search_in(cache, scene, teacher))


def _search_in(cache: CacheReader, scene: SceneReader, teacher: tuple[str | None, str | None]) -> Similarity | None:
    """Free text against the images of a cached scene, if it keeps their features; the teacher is loaded when asked."""
    if cache.teacher is None or not scene.has("features/grid"):
        return None

    def search(text: str) -> np.ndarray:
        from hicl.pipeline.search import similarity
        from hicl.predict import embed_query

        return similarity(scene, embed_query(cache, text, *teacher))

    return search


def of_ply(
    path: Path,
    model: "Model | None",
    up: str | None,
    scale: float | None = None,
    teacher: tuple[str | None, str | None] = (None, None),
    pool: "Pool" = "sets",
) -> Cloud:
    """A PLY's points: colours, labels by the names in its comments, similarity and prediction; else the height."""
    from hicl.pipeline.datasets import ply

    vertex = ply.read_surface(path).vertex
    xyz, _ = near_zero(ply.xyz(vertex, path, np.float64))
    rgb, upward = ply.rgb(vertex, path), axis(up or "z")
    layers = {} if rgb is None else {"colours": Layer(rgb)}
    if "label" in (vertex.dtype.names or ()):
        label = np.nan_to_num(vertex["label"], nan=-1).astype(np.int64)
        layers["labels"] = class_layer(label, label_names(path))
    if "similarity" in (vertex.dtype.names or ()):
        layers["similarity"] = Layer(heat(vertex["similarity"]), note="dark to bright: little to much alike")
    search = None
    if model is not None:
        layers["prediction"], search = _answers(path, model, up, scale, teacher, pool)
    if not layers:
        height = xyz @ upward
        said = f"height, {height.min():.2f} to {height.max():.2f} m: the file has neither colours nor labels"
        layers["height"] = Layer(heat(height), note=said)
    return Cloud(path.name, xyz, layers, upward, _AHEAD, np.arange(len(xyz)), similarity=search)


def of_sweep(
    path: Path,
    model: "Model | None",
    up: str | None,
    scale: float | None = None,
    teacher: tuple[str | None, str | None] = (None, None),
    pool: "Pool" = "sets",
) -> Cloud:
    """A LiDAR's sweep: intensity and prediction. Points without a finite place are at 0 0 0."""
    from hicl.pipeline.datasets.nuscenes_points import read_sweep, taking_part

    rows = read_sweep(path)
    xyz = np.where(taking_part(rows)[0][:, None], rows[:, :3], 0)
    layers, search = {"intensity": Layer(heat(rows[:, 3]))}, None
    if model is not None:
        layers["prediction"], search = _answers(path, model, up, scale, teacher, pool)
    return Cloud(path.name, xyz, layers, axis(up or "z"), _AHEAD, np.arange(len(xyz)), similarity=search)


def _answers(
    path: Path,
    model: "Model",
    up: str | None,
    scale: float | None,
    teacher: tuple[str | None, str | None],
    pool: "Pool",
) -> tuple[Layer, Similarity]:
    """What a model says of a file's points, and how much they are like a text."""
    from hicl.predict import embed_query
    from hicl.scans import read_scan

    given = read_scan(path, model, scale, up)
    label = model.predict(given.xyz, given.values, sets=given.sets() if pool == "sets" else None).label[given.place]

    def search(text: str) -> np.ndarray:
        return model.similarity(given.xyz, given.values, embed_query(model, text, *teacher))[given.place]

    return class_layer(label, dict(enumerate(model.classes))), search


def class_layer(label: np.ndarray, names: dict[int, str]) -> Layer:
    """The colour of its class for each point, the same for a class in every file of one class list.

    label: int [N]; negative is none, and so are 255 and 65535 unless they are named otherwise. Labels that are too many
    for classes, or too large, such as instances, are coloured as sets are.
    """
    values, index, counts = np.unique(label, return_inverse=True, return_counts=True)
    values = values.astype(np.int64)
    if values[-1] > 65535 or (len(values) > NO_LABEL and not names):
        return set_layer(index)
    found = [names.get(v, "none" if v < 0 or v in (NO_LABEL, 65535) else f"class {v}") for v in values.tolist()]
    none = np.array([name == "none" for name in found])
    known = int(values.max(initial=-1, where=~none))
    table = class_colors(tuple(names.get(i, f"class {i}") for i in range(known + 1)))
    colors = np.where(none[:, None], class_colors(())[NO_LABEL], table[np.where(none, 0, values)])
    order = np.argsort(-counts, kind="stable")
    legend = [(found[i], tuple(colors[i].tolist()), float(counts[i] / len(label))) for i in order if not none[i]]
    if none.any():
        legend.append(("none", tuple(colors[none][0].tolist()), float(counts[none].sum() / len(label))))
    return Layer(colors[index], tuple(legend))


def set_layer(set_id: np.ndarray) -> Layer:
    """A random colour a set, the same each time. set_id: int [N], 0 and up."""
    return Layer(set_colors(set_id), note=f"{int(set_id.max()) + 1:,} sets, a random colour each")
