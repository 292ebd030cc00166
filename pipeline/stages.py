"""The stages of one scene: each turns what a data set yields into arrays of the cache (cache/SPEC.md names them)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from hicl.cache.schema import NO_LABEL
from hicl.errors import FrameError, HiclError
from hicl.pipeline import calibration, normals, partition, refine
from hicl.pipeline.config import PreprocessConfig
from hicl.pipeline.datasets.scene import Camera, Frame, Points, Scene, Sweep
from hicl.pipeline.projection import Projector
from hicl.pipeline.sampling import SHARPNESS, denoised, label_pixels, scores_at
from hicl.pipeline.sight import toward_cameras
from hicl.pipeline.teacher.features import FeatureReader, Folded, class_scores
from hicl.pipeline.weld import weld
from hicl.upright import held

Arrays = dict[str, np.ndarray]


def make_points(points: Points) -> Arrays:
    """points/*: the surface, with unit normals of the mesh, of the source, or of each point's neighbourhood."""
    # Rounded, they take a third of the bytes; 1/2048 is far below what a scan knows of a direction.
    normal = np.rint(_unit_normals(points) * 1024) / np.float32(1024)
    arrays = {"points/xyz": points.xyz, "points/rgb": points.rgb, "points/normal": normal}
    if points.label is not None:
        arrays["points/label"] = points.label
    if points.keep_faces and points.faces is not None:
        arrays["points/face"] = points.faces
    return arrays


def _unit_normals(points: Points) -> np.ndarray:
    points, place = weld(points)
    found = _normals_of_places(points)
    return found if place is None else found[place]


def _normals_of_places(points: Points) -> np.ndarray:
    if points.faces is not None:
        return normals.unit(normals.mesh_normals(points.xyz, points.faces))
    if points.normal is not None:
        return points.normal
    neighbors, _ = normals.neighbors(points.xyz)
    return normals.pca_normals(points.xyz, neighbors, points.sight)


def make_sets(
    scene: Scene, points: Points, known: Arrays, config: PreprocessConfig, say: Callable[[str], None] = lambda _: None
) -> Arrays:
    """sets/id: the geometric consistency sets (HICL section 3.2), the scan's own where it brings them.

    known: points/xyz, views/pose, pairs/indptr and pairs/point; normals of a cloud that brings none are turned to the
    cameras that see it. say: gets a line where the scan's own can't be read and aren't insisted on.
    """
    shipped = None
    try:
        shipped = scene.shipped_sets() if config.sets in ("best", "shipped") else None
    except HiclError as error:
        if config.sets == "shipped":
            raise
        say(f"passed over {error}")
    if shipped is not None:
        return {"sets/id": partition.compact_ids(shipped)}
    if config.sets == "shipped":
        raise HiclError(f"{scene.id}: no .segs.json came with the scan; use --sets mesh, knn or best")
    if config.sets == "mesh" and points.faces is None:
        raise HiclError(f"{scene.id}: a cloud without faces has no mesh sets; use --sets knn or best")
    if points.faces is None and points.normal is None and points.sight is None:
        seen = (known[name] for name in ("points/xyz", "views/pose", "pairs/indptr", "pairs/point"))
        points = replace(points, sight=toward_cameras(*seen))
    return {"sets/id": sets_of(points, config)}


def sets_of(points: Points, config: PreprocessConfig) -> np.ndarray:
    """The sets of a surface, by its faces where it has some and others aren't asked for, then by the normals that the
    faces or its source give: int32 [N], from 0."""
    threshold, least = config.k_threshold, config.min_size
    points, place = weld(points)
    if points.faces is not None and config.sets != "knn":
        sets = partition.mesh_sets(points.xyz, points.faces, threshold, least)
    else:
        known = points.normal if points.faces is None else _normals_of_places(points)
        sets = partition.cloud_sets(points.xyz, known, points.sight, threshold, least)
    return sets if place is None else sets[place]


def make_sweep(points: Sweep) -> Arrays:
    """points/* of a key frame."""
    arrays = {"points/xyz": points.xyz, "points/intensity": points.intensity}
    arrays["points/valid"] = points.valid.astype(np.uint8)
    if points.age is not None:
        arrays["points/sweep"] = points.age
    if points.label is not None:
        arrays["points/label"] = points.label
    return arrays


def make_sweep_sets(points: Sweep, config: PreprocessConfig) -> Arrays:
    """sets/id of a key frame: those of its valid points, and one last set of all others."""
    xyz = points.xyz[points.valid]
    toward = (points.sensor - xyz).astype(np.float32)
    found = partition.sweep_sets(xyz, toward, config.k_threshold, config.min_size)
    sets = np.full(len(points.xyz), found.max(initial=-1) + 1, np.int32)
    sets[points.valid] = found
    return {"sets/id": sets}


def doubts(arrays: Arrays, left_out: int, config: PreprocessConfig) -> list[str]:
    """What a user should know of a scene before its labels are trusted, a line each.

    arrays: sets/id and views/pose. left_out: points of its source without a finite place.
    """
    found = [f"{left_out:,} points without finite coordinates are left out"] if left_out else []
    median = int(np.median(np.bincount(arrays["sets/id"])))
    if median < config.min_size:
        found.append(
            f"half of its sets have {median} points or fewer, less than --min-size {config.min_size}, so the vote can "
            "do little: does the surface hang together?"
        )
    if name := held(arrays["views/pose"]):
        found.append(
            f"its cameras hold {name} up, not z; a network that learns from it fits only scans that lie the same way "
            "(--level turns it; `hicl predict --up z` leaves a scan as it lies)"
        )
    return found


def usable_frames(
    scene: Scene, colors: bool, skipped: dict[str, str], tick: Callable[[], None]
) -> Iterator[tuple[int, Frame]]:
    """Frames that can be used, one at a time; the others go into `skipped` with the reason. colors: whether their
    images are wanted, and have to decode."""
    for frame_id in scene.frame_ids.tolist():
        try:
            frame = scene.frame(frame_id)
            _ = colors and frame.color
        except FrameError as error:
            skipped[scene.frame_name(frame_id)] = str(error)
        else:
            yield frame_id, frame
        tick()


def make_views(
    frames: list[tuple[int, np.ndarray]], cameras: list[Camera], pairs: list[tuple[np.ndarray, np.ndarray]]
) -> Arrays:
    """views/* and pairs/{indptr,point,pixel} from (frame id, pose), camera and (point, pixel) of each view."""
    counts = [len(point) for point, _ in pairs]
    return {
        "views/frame": np.array([frame_id for frame_id, _ in frames], np.int32),
        "views/pose": np.stack([pose for _, pose in frames]).astype(np.float64),
        "views/intrinsics": np.array([[camera.fx, camera.fy, camera.cx, camera.cy] for camera in cameras]),
        "views/size": np.array([[camera.height, camera.width] for camera in cameras], np.int32),
        "pairs/indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "pairs/point": np.concatenate([point for point, _ in pairs]),
        "pairs/pixel": np.concatenate([pixel for _, pixel in pairs]),
    }


def make_camera_views(cameras: list[tuple[Camera, np.ndarray]], pairs: list[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    """The same of one view each of some cameras, from (camera, pose) and (point, pixel) of each."""
    poses = [(n, pose) for n, (_, pose) in enumerate(cameras)]
    return make_views(poses, [camera for camera, _ in cameras], pairs)


class Views:
    """Collects views and features in one pass over the frames, so that an image is decoded once and dropped.

    xyz None: the views are up to date, only features are wanted. reader None: no features. why: said where no frame
    sees anything.
    """

    def __init__(
        self,
        scene: Scene,
        xyz: np.ndarray | None,
        reader: FeatureReader | None,
        config: PreprocessConfig,
        why: str = "few frames, or of another place",
    ):
        self._why = why
        self._scene, self._xyz, self._reader, self._config = scene, xyz, reader, config
        self._projector = Projector(xyz) if xyz is not None else None
        self._frames: list[tuple[int, np.ndarray]] = []
        self._cameras: list[Camera] = []
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, frame_id: int, frame: Frame) -> None:
        self._frames.append((frame_id, frame.pose))
        cameras = frame.cameras or (self._scene.depth_camera, self._scene.color_camera)
        self._cameras.append(cameras[1])
        if self._projector is not None:
            gaps = self._config.max_gap, self._config.gap_growth
            self._pairs.append(self._projector.project(frame.pose, frame.depth, *cameras, *gaps))
        if self._reader is not None:
            self._reader.add(frame.color)

    def arrays(self, skipped: dict[str, str]) -> Arrays:
        """Raises `HiclError` if no frame could be used, or none of them sees the surface."""
        if not self._frames:
            reason = next(iter(skipped.values()))
            raise HiclError(f"{self._scene.id}: none of its {len(skipped)} frames can be used; the first: {reason}")
        arrays: Arrays = {}
        if self._projector is not None:
            if not any(len(point) for point, _ in self._pairs):
                raise HiclError(
                    f"{self._scene.id}: no point is visible in any of {len(self._frames)} frames; {self._why}"
                )
            arrays |= make_views(self._frames, self._cameras, self._pairs)
        if self._reader is not None:
            arrays["features/grid"], arrays["features/scale"] = self._reader.features()
        return arrays


def label_from_features(
    text: np.ndarray, arrays: Arrays, config: PreprocessConfig, folded: Folded | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """pairs/raw from the teacher's features: classes are scored on the patches, scores are sampled at the pixels. And
    what the scores of all pairs of a set sum up to, float64 [K, C].

    text: float32 [C, d]; arrays: sets/id, features/grid, features/scale, views/size, pairs/indptr, pairs/{point,pixel}.
    folded: other words that count as classes, or as none: a pair that those fit best has no label, and gives its set
    what it says of the classes all the same.
    """
    indptr, pixel, raw = arrays["pairs/indptr"], arrays["pairs/pixel"], []
    point, sets = arrays["pairs/point"], arrays["sets/id"]
    votes = np.zeros((int(sets.max(initial=-1)) + 1, len(text)))
    score = folded.scores if folded else class_scores
    sureness, sharpness = config.prompt_denoising, SHARPNESS

    def scores_of(view: int) -> np.ndarray:
        return score(arrays["features/grid"][view], arrays["features/scale"][view], text)

    if sureness and config.fit_temperature:
        sharpness = calibration.fitted_sharpness(*calibration.sample(scores_of, arrays))
    for view, (start, end) in enumerate(pairwise(indptr)):
        scores = scores_of(view)
        scores = denoised(scores, sureness, sharpness) if sureness else scores
        at = pixel[start:end], tuple(arrays["views/size"][view].tolist())
        raw.append(label_pixels(scores, *at))
        refine.add_scores(votes, scores_at(scores[:, :, : len(text)], *at), point[start:end], sets)
    labels = np.concatenate(raw)
    return np.where(labels < len(text), labels, NO_LABEL).astype(np.uint8), votes


def make_labels(raw: np.ndarray, votes: np.ndarray, arrays: Arrays, config: PreprocessConfig) -> Arrays:
    """pairs/raw, pairs/refined (HICL section 3.2: the mode over each projected set) and points/spread.

    Where there are masks (pairs/mask), they vote in an image as sets do, before the sets, after them, in their place,
    or not at all.

    votes: float64 [K, C], what all pairs of a set say together: their scores' sums, or counts of labels.
    """
    point, indptr, sets = (arrays[name] for name in ("pairs/point", "pairs/indptr", "sets/id"))
    mask, masks = arrays.get("pairs/mask"), config.masks
    spread = refine.elected(votes)[sets]
    refined = raw
    if mask is not None and masks in ("before", "alone"):
        refined = refine.vote_in_masks(refined, mask, indptr)
    if mask is None or masks != "alone":
        by_set = config.vote
        refined = spread[point] if by_set == "scores" else refine.vote(refined, point, indptr, sets, scope=by_set)
    if mask is not None and masks == "after":
        refined = refine.vote_in_masks(refined, mask, indptr)
    return {"pairs/raw": raw, "pairs/refined": refined, "points/spread": spread}
