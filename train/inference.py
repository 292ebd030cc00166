"""A trained network on point clouds of any size: arrays in, classes out.

A cloud of more voxels than fit is cut into boxes. Each is run with all voxels that its own can depend on around it, and
on the same cells of the strided layers, so that a box's features are those of the whole cloud, to float rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from hicl.cache.reader import SceneReader
from hicl.errors import HiclError
from hicl.train import checkpoint, network
from hicl.train.config import FEATURES, Config, StreamConfig, check, stored
from hicl.train.kernels import GRID_MULTIPLE, grid_shape, voxel_features, voxelise
from hicl.train.layers import place_order
from hicl.train.network import Network
from hicl.train.pooling import set_means
from hicl.train.reading import network_input, point_features

# spconv numbers the cells of a grid by 32-bit integers on a CPU.
_MOST_CELLS = 2**31
# The smallest box worth cutting: below it nearly all work is for the halo.
_SMALLEST = 2 * GRID_MULTIPLE
# Voxels in a box with its halo. The published network takes about 1 GB for as many.
BOX_VOXELS = 600_000
_NUMBERS_AT_ONCE = 1 << 22  # of scores, or of features
_POOLED_WIDTH = 128  # about what the head reads


@dataclass(frozen=True)
class Prediction:
    """label [N] uint16: row of the text with the highest score. score [N] float32: its softmax, in 0..1."""

    label: np.ndarray
    score: np.ndarray


@dataclass
class Model:
    """A trained network, in evaluation mode, with the text it was trained for: [C, d] float32, unit length.

    stream: how its voxels were made. box_voxels: most voxels that the network sees at once.
    """

    net: Network
    text: torch.Tensor
    meta: dict
    stream: StreamConfig
    box_voxels: int = BOX_VOXELS

    @property
    def voxel_size(self) -> float:
        """Metres."""
        return self.stream.voxel_size

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the rows of `text`."""
        return tuple(self.meta["classes"])

    @property
    def teacher(self) -> dict | None:
        """Identity of the teacher whose text space it was trained in; None where labels came from images."""
        return self.meta.get("teacher")

    def predict(
        self, xyz: np.ndarray, values: np.ndarray, text: np.ndarray | None = None, sets: np.ndarray | None = None
    ) -> Prediction:
        """A class for each point.

        Args:
            xyz: [N, 3] float32, metres, z up.
            values: what the network reads of them, uint8: colours [N, 3], or intensities [N] where `stream.features`
                says so.
            text: [C, d] float32 of other words, in the space of the model's teacher; None: its own classes.
            sets: [N] int, from 0: log-probabilities are averaged over each set, whose points get one answer; None: a
                point gets its voxel's.

        Raises:
            ValueError: no points, a coordinate that isn't finite, a cloud of more than 2^20 voxels along an axis, or
                arrays of other shapes or types.
        """
        words, head = self._words(self.text if text is None else text), self.net.head
        # Scores are linear in what the head reads, so that its features, five times as wide, needn't be made.
        with torch.no_grad():
            weight, bias = words @ head.weight, words @ head.bias
        n, group_of_point, parts = self._answered(xyz, values, sets, len(words))
        label, score = np.empty(n, np.uint16), np.empty(n, np.float32)
        for rows, hidden in parts:
            best = torch.nn.functional.linear(hidden, weight, bias).softmax(dim=1).max(dim=1)
            label[rows] = best.indices.cpu().numpy()
            score[rows] = best.values.cpu().numpy()
        return Prediction(label[group_of_point], score[group_of_point])

    def probabilities(self, xyz: np.ndarray, values: np.ndarray, sets: np.ndarray | None = None) -> np.ndarray:
        """The probability of each of the model's classes at each point: float32 [N, C]. Arguments as of `predict`."""
        n, group_of_point, parts = self._answered(xyz, values, sets, len(self.text))
        result = np.empty((n, len(self.text)), np.float32)
        with torch.no_grad():
            for rows, hidden in parts:
                result[rows] = (self.net.head(hidden) @ self.text.T).softmax(dim=1).cpu().numpy()
        return result[group_of_point]

    def read(self, scene: SceneReader) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the network is given of a scene of a cache, its valid points.

        Returns:
            xyz, values and sets of these, as of `predict`, and place [N]: the number among them of each point of the
            scene; of one that isn't valid, the nearest one's.

        Raises:
            HiclError: the scene has nothing that the network could read.
        """
        array = FEATURES[self.stream.features].array
        if not scene.has(array):
            raise HiclError(f"{scene.path}: no {array}, which the model reads; take a model trained on such scenes")
        xyz, values, sets = scene.read("points/xyz"), scene.read(array), scene.read("sets/id")
        if not scene.has("points/valid"):
            return xyz, values, sets, np.arange(len(xyz))
        valid = scene.read("points/valid").astype(bool)
        if not valid.any():
            raise HiclError(f"{scene.path}: no valid point, so there is nothing to go by")
        return xyz[valid], values[valid], sets[valid], nearest_of(xyz, valid)

    def similarity(self, xyz: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Cosine of each point's feature with a text [d] of unit length: float32 [N]. Arguments as of `predict`."""
        word = self._words(np.asarray(query)[None])[0]
        coords, read, voxel_of_point = self._voxels(xyz, values)
        result = np.empty(len(coords), np.float32)
        for rows, features in self._features(coords, read):
            result[rows] = (torch.nn.functional.normalize(features, dim=1) @ word).cpu().numpy()
        return result[voxel_of_point]

    def features(self, xyz: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Voxel features [V, d] float32, not normalised, and voxel_of_point [N] int32. Arguments as of `predict`."""
        coords, read, voxel_of_point = self._voxels(xyz, values)
        result = np.empty((len(coords), self.text.shape[1]), np.float32)
        for rows, features in self._features(coords, read):
            result[rows] = features.cpu().numpy()
        return result, voxel_of_point

    def _words(self, text: np.ndarray | torch.Tensor) -> torch.Tensor:
        words = torch.as_tensor(text, dtype=torch.float32, device=self.text.device)
        if words.ndim != 2 or words.shape[1] != self.text.shape[1] or not 0 < len(words) <= 65_535:
            expected = f"[1 to 65535, {self.text.shape[1]}]"
            raise ValueError(f"text: expected {expected}, found {list(words.shape)}")
        return words

    def _voxels(self, xyz: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        array, channels, _ = FEATURES[self.stream.features]
        shape = [len(xyz), channels] if channels > 1 else [len(xyz)]
        if values.dtype != np.uint8 or list(values.shape) != shape or xyz.shape[1:] != (3,):
            found = f"{xyz.dtype} {list(xyz.shape)} and {values.dtype} {list(values.shape)}"
            raise ValueError(f"expected float32 [N, 3] and its {array} uint8 {shape}, found {found}")
        coords, representative, voxel_of_point = voxelise(xyz, self.voxel_size)
        read = voxel_features(values.reshape(-1, channels), representative, voxel_of_point, self.stream.colour)
        return coords, network_input(point_features(read), xyz, representative, self.stream), voxel_of_point

    def _answered(
        self, xyz: np.ndarray, values: np.ndarray, sets: np.ndarray | None, width: int
    ) -> tuple[int, np.ndarray, Iterator[tuple[np.ndarray, torch.Tensor]]]:
        """What has an answer of its own, voxels or sets: their number, the one of each point, and `_parts` of them."""
        coords, read, voxel_of_point = self._voxels(xyz, values)
        if sets is None:
            return len(coords), voxel_of_point, self._parts(coords, read, width)
        means = set_means(self._parts(coords, read, _POOLED_WIDTH), voxel_of_point, sets)
        rows = np.arange(len(means))
        step = max(1, _NUMBERS_AT_ONCE // width)
        return len(means), sets, ((rows[i : i + step], means[i : i + step]) for i in range(0, len(means), step))

    @torch.no_grad()
    def _features(self, coords: np.ndarray, read: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(rows, features [n, d] on the model's device) of parts that hold every voxel once."""
        for rows, hidden in self._parts(coords, read, self.text.shape[1]):
            yield rows, self.net.head(hidden)

    @torch.no_grad()
    def _parts(self, coords: np.ndarray, read: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(rows, what the head reads of them, on the model's device) of parts that hold every voxel once, small enough
        to make `width` numbers of each row."""
        if self.net.training:
            raise AssertionError("a network in training mode would change its batch statistics here")
        order = place_order(coords)  # once for all boxes, as the network wants them
        for chosen, inside, corner in boxes(coords[order], self.box_voxels, self.net.REACH):
            rows = order[chosen]
            own = np.insert(coords[rows] - corner, 0, 0, axis=1)
            grid = grid_shape(own[:, 1:])
            at, seen = (torch.from_numpy(array).to(self.text.device) for array in (own, read[rows]))
            own_rows, step = np.flatnonzero(inside), max(1, _NUMBERS_AT_ONCE // width)
            for there, hidden in self.net.trunk_parts(at, seen, 1, grid):
                in_part = own_rows[slice(*np.searchsorted(own_rows, (there.start, there.stop)))]
                for start in range(0, len(in_part), step):
                    part = in_part[start : start + step]
                    yield rows[part], hidden[torch.from_numpy(part - there.start)]
                del hidden  # before the next part needs as much


def settings_of(meta: dict) -> Config:
    """The settings that a model was trained with. Raises `HiclError`."""
    return check(stored(Config(), meta["config"], "config"))


def nearest_of(xyz: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """int [N]: the place among the valid points of each point itself, or of one that isn't valid of the nearest valid
    one. xyz: float32 [N, 3]; valid: bool [N], not all False."""
    nearest = np.cumsum(valid) - 1
    nearest[~valid] = cKDTree(xyz[valid]).query(xyz[~valid])[1]
    return nearest


def boxes(coords: np.ndarray, most: int, reach: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut a cloud into boxes whose voxels, with the halo, are at most `most` where boxes can be cut that small.

    Args:
        coords: [V, 3] int32, ≥ 0.
        reach: of the network, in voxels. The halo is this, rounded up to whole cells of the coarsest level, at whose
            borders boxes begin and end.

    Yields:
        rows [n] int64, the voxels of a box and its halo in their order; inside [n] bool, those of the box itself;
        corner [3] int32, a multiple of the coarsest cell, at or below all of them.
    """
    halo = -(-reach // GRID_MULTIPLE) * GRID_MULTIPLE
    pending = [(np.zeros(3, np.int64), np.array(grid_shape(coords), np.int64), np.arange(len(coords)))]
    while pending:
        low, high, near = pending.pop()
        with_halo = _within(coords[near], low - halo, high + halo)
        near = near[with_halo]
        inside = _within(coords[near], low, high)
        if not inside.any():
            continue
        axis = int(np.argmax(high - low))
        fits = len(near) <= most and np.prod(high - low + 2 * halo) < _MOST_CELLS
        if fits or high[axis] - low[axis] < 2 * _SMALLEST:
            yield near, inside, np.maximum(low - halo, 0).astype(np.int32)
            continue
        middle = low[axis] + (high[axis] - low[axis]) // (2 * GRID_MULTIPLE) * GRID_MULTIPLE
        upper_low, lower_high = low.copy(), high.copy()
        upper_low[axis] = lower_high[axis] = middle
        pending += [(low, lower_high, near), (upper_low, high, near)]


def _within(coords: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.all((coords >= low) & (coords < high), axis=1)


def load(where: Path, device: torch.device | str = "cpu") -> Model:
    """A finished run's model, by its folder or its `model.safetensors`.

    Raises:
        HiclError: there is none, or its tensors don't all match.
    """
    run = Path(where)
    if run.suffix == ".safetensors":
        if run.name != "model.safetensors":
            raise HiclError(f"{run}: not a finished model; name a run's folder or the model.safetensors in it")
        run = run.parent
    device = torch.device(device)
    tensors, meta = checkpoint.load_model(run)
    try:
        config = settings_of(meta)
    except HiclError as error:
        raise HiclError(f"{run / 'model.json'}: {error}") from None
    text = tensors.pop("text").to(device)
    with torch.device("meta"):  # before memory is asked for as the config says
        shape = network.make(config, text.shape[1])
    checkpoint.assert_fits(shape, tensors, "net.", run / "model.safetensors")
    net = network.build(config, text.shape[1], device)
    checkpoint.restore(net, tensors, "net.", run / "model.safetensors")
    strangers = [name for name in tensors if not name.startswith("net.")]
    if strangers:
        raise HiclError(f"{run / 'model.safetensors'}: holds tensors of no network: {', '.join(strangers[:5])}")
    return Model(net.eval(), text, meta, config.reading)
