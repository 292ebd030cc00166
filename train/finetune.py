"""Fine-tuning on people's labels: what a pre-trained network is worth to who has few of them.

Nothing else that trains reads `points/label` (`train/stream.py` can't), and of it only that of the scenes chosen here.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from hicl.cache.opening import open_cache
from hicl.cache.reader import CacheReader
from hicl.errors import HiclError
from hicl.files import locked
from hicl.progress import Progress
from hicl.train import checkpoint, distributed, inference, network, optimisers
from hicl.train.augment import augment
from hicl.train.config import FEATURES, Config, StreamConfig
from hicl.train.kernels import grid_shape, label_histogram, voxel_features, voxelise
from hicl.train.network import Network
from hicl.train.objectives.losses import pair_cross_entropy
from hicl.train.order import epoch_order
from hicl.train.reading import network_input


def labelled_scenes(names: list[str], share: float, seed: int) -> list[str]:
    """Whose labels are used: a share of the scenes, at least one, drawn by the seed; a larger share holds a smaller."""
    order = np.random.default_rng(seed).permutation(len(names))
    return sorted(names[i] for i in order[: max(1, round(share * len(names)))])


def model_digest(model: Path) -> str:
    """Of the weights of a run's folder, or of its file."""
    file = model / "model.safetensors" if model.is_dir() else model
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def finetune(
    cache_path: str | Path,
    model: Path,
    out: Path,
    share: float,
    linear: bool = False,
    from_scratch: bool = False,
    steps: int = 300,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a pre-trained network on the labels of a share of the training scenes; returns the run's folder `out`.

    The head is a new one, whoever pre-trained; it still ends in the space of the class list's text, so that the result
    is a model like any other. SGD with the settings of the pre-training, one cosine over the steps. The loss is the
    cross-entropy of all labelled points. How many steps there are doesn't depend on how many labels.

    Args:
        model: a finished run. share: of the split "train", above 0 and at most 1.
        linear: train the head alone; batch statistics stay too. from_scratch: the same network with random weights.
        say: told which scenes' labels are used.

    Raises:
        HiclError: as `inference.load`; a chosen scene has no true labels, or of other classes; `out` holds something.
    """
    cache, out = open_cache(cache_path), Path(out)
    if cache.truth_classes and tuple(cache.truth_classes) != tuple(cache.classes):
        raise HiclError(f"{cache.path}: its true labels are of other classes than its {len(cache.classes)}")
    if out.exists() and any(out.iterdir()):
        raise HiclError(f"{out}: holds something already; choose another --out")
    names = labelled_scenes(cache.scene_ids("train"), share, seed)
    for name in names:
        if not cache.scene(name).has("points/label"):
            raise HiclError(f"{cache.path}: scene {name} has no true labels to fine-tune on")
    say(f"labels of {len(names)} scenes, seed {seed}: {', '.join(names)}")
    group = distributed.start(device)
    trained = inference.load(model, group.device)
    config = inference.settings_of(trained.meta)
    if config.threads and group.device.type == "cpu":
        torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    text = torch.from_numpy(cache.text.copy()).to(group.device)
    net = network.build(config, text.shape[1], group.device)
    if not from_scratch:
        trunk = {key: value for key, value in trained.net.state_dict().items() if not key.startswith("head.")}
        net.load_state_dict(trunk, strict=False)
    meta = {
        "dataset": cache.dataset,
        "teacher": cache.teacher,
        "experiment": "from scratch" if from_scratch else trained.meta.get("experiment"),
        "config": dataclasses.asdict(config),
        "classes": list(cache.classes),
        "text": cache.fingerprint,
        "data": cache.split_fingerprint("train"),
        "labelled": names,
        "linear": linear,
        "pretrained": model_digest(model),
        "step": steps,
    }
    with locked(out):
        _train(net, text, cache, names, config, linear, steps, seed)
        checkpoint.save_model(out, net, text, meta)
    return out


def _train(
    net: Network,
    text: torch.Tensor,
    cache: CacheReader,
    names: list[str],
    config: Config,
    linear: bool,
    steps: int,
    seed: int,
) -> None:
    optim, learnt = config.optim, net.head if linear else net
    sgd = optimisers.sgd(learnt.parameters(), optim, text.device)
    net.train(not linear)  # the batch statistics of a linear probe stay
    with Progress("fine-tuning", steps, "step") as bar:
        for step, numbers in enumerate(_order(len(names), config.schedule.batch, seed, steps)):
            arrays = [_sample(cache, names[i], config.reading, [seed, step, i]) for i in numbers]
            coords = np.concatenate([np.insert(sample[0], 0, i, axis=1) for i, sample in enumerate(arrays)])
            features, histogram = (np.concatenate([sample[k] for sample in arrays]) for k in (1, 2))
            at, seen, labels = (torch.from_numpy(array).to(text.device) for array in (coords, features, histogram))
            with torch.set_grad_enabled(not linear):
                hidden = net.trunk(at, seen, len(arrays), grid_shape(coords[:, 1:]))
            total, count = pair_cross_entropy(net.head(hidden) @ text.T, labels)
            loss = total / count.clamp(min=1)
            if not torch.isfinite(loss):
                raise HiclError(f"the loss is not finite in step {step + 1}: lower optim.lr (now {optim.lr})")
            for parameters in sgd.param_groups:
                parameters["lr"] = optim.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            bar.note = f"ce {loss.item():.3f}"
            bar.update()


def _order(n_scenes: int, batch: int, seed: int, steps: int) -> Iterator[list[int]]:
    done = 0
    for epoch in range(steps):
        for numbers in epoch_order(n_scenes, batch, seed, epoch):
            if done == steps:
                return
            yield numbers
            done += 1


def _sample(cache: CacheReader, name: str, config: StreamConfig, seed: list[int]) -> tuple[np.ndarray, ...]:
    """Voxels [V, 3], their features [V, c] and how many of their points have each class [V, C], of one scene moved."""
    scene, reads = cache.scene(name), FEATURES[config.features]
    xyz, values, label = (scene.read(array) for array in ("points/xyz", reads.array, "points/label"))
    if scene.has("points/valid"):
        valid = scene.read("points/valid").astype(bool)
        xyz, values, label = xyz[valid], values[valid], label[valid]
    moved, features = augment(xyz, values, config, np.random.default_rng(seed))
    coords, representative, voxel_of_point = voxelise(moved, config.voxel_size)
    every, one = np.arange(len(xyz), dtype=np.int32), np.array([0, len(xyz)])
    for array in (every, one, label):
        array.flags.writeable = False  # as a cache's reader gives them, for which the kernel is compiled
    histogram = label_histogram(
        one, np.zeros(1, np.int64), every, label, voxel_of_point, len(coords), len(cache.classes)
    )
    read = voxel_features(features, representative, voxel_of_point, config.colour)
    return coords, network_input(read, moved, representative, config), histogram
