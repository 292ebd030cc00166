"""Every setting of a training run: frozen dataclasses, strict TOML, the two presets and the five experiments.

The effective configuration is stored as `config.toml` with each result; a run can be repeated from that file.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from hicl.config import flat, read_toml, shown, updated
from hicl.errors import HiclError

REFERENCE_EPOCHS = 120
MOST_WIDTH = 8192  # of a layer


@dataclass(frozen=True)
class StreamConfig:
    """From scenes to batches."""

    voxel_size: float = 0.05  # metres
    colour: str = "first"  # of a voxel: its first point's; or "mean": that of all its points
    views: int = 8  # at most so many random views a scene and step
    rotate: bool = True  # about z, uniform in 0..2 pi
    flip: bool = True  # x and y, each with probability 1/2
    scale: float = 0.0  # factor uniform in 1 ± scale
    elastic: float = 0.0  # largest displacement in metres of the smooth random field; 0 = off
    jitter: float = 0.0  # colour offset and contrast, as a part of the full range; 0 = off
    workers: int = 8  # spawned processes; 0 = in the training process
    prefetch: int = 4  # batches a worker prepares ahead


@dataclass(frozen=True)
class ModelConfig:
    """The 3D network (METHOD 1.6)."""

    stem: int = 32
    planes: tuple[int, ...] = (32, 64, 128, 256, 128, 128, 96, 96)
    bn_momentum: float = 0.05


@dataclass(frozen=True)
class HeadConfig:
    """The two transformers of Eq. 3 to 7; gone at inference."""

    layers: int = 3
    heads: int = 8
    ffn: int = 4  # hidden width over d
    tokens: int = 1024  # M, a scene
    token_label: str = "set"  # of a token that no chosen view shows: its set's; or "own": none
    block: str = "vit"  # or "eq3": the plain block of the equations
    inter_input: str = "intra"  # cascade; or "raw": Eq. 7 to the letter


@dataclass(frozen=True)
class LossConfig:
    """How Eq. 8 is read (METHOD 7.2 rows 5 and 6), and the weights of the mean, all 1 in the paper."""

    kl_space: str = "feature"  # softmax over the d channels; or "logits": over the classes
    kl_temperature: float = 1.0
    kl_direction: str = "teacher"  # KL(f̂ ‖ f); or "student": KL(f ‖ f̂)
    mean_over: str = "terms"  # L_ce, L̂_ce and L_kl; or "labels": the first two, and L_kl is added to their mean
    token_weight: float = 1.0
    kl_weight: float = 1.0


@dataclass(frozen=True)
class ScheduleConfig:
    """Epochs, batches and phases."""

    epochs: int = REFERENCE_EPOCHS
    batch: int = 8  # scenes a step, over all processes
    attention_epoch: float = 10.0  # from here L̂_ce
    feedback_epoch: float = 20.0  # from here L_kl
    absolute: bool = False  # else the two are in proportion to 120 epochs
    evaluate_every: int = 0  # epochs between evaluations on the validation scenes; 0 = at the end only


@dataclass(frozen=True)
class OptimConfig:
    """SGD for the network, AdamW for the heads, one cosine for both (METHOD 7.2 row 17)."""

    lr: float = 0.2
    momentum: float = 0.9
    dampening: float = 0.1
    weight_decay: float = 1e-4
    head_lr: float = 2e-4
    head_weight_decay: float = 0.01
    bf16: str = "auto"  # autocast of the dense layers: "on", "off", or "auto": on a GPU that has it
    save_every: int = 200  # steps between states that --resume can continue from


@dataclass(frozen=True)
class Config:
    """One run. `experiment` is I to V of Table 2; everything else is shared between the five."""

    experiment: str = "V"
    seed: int = 0
    preset: str = "scannet"
    threads: int = 0  # of PyTorch on the CPU; 0 = PyTorch's own choice
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(frozen=True)
class Experiment:
    """What a row of Table 2 switches on."""

    labels: str  # "raw" or "refined"
    intra: bool = False
    inter: bool = False
    feedback: bool = False
    title: str = ""
    paper: float = 0.0  # mIoU of the paper's Table 2 on ScanNet val


EXPERIMENTS = {
    "I": Experiment("raw", title="baseline", paper=28.8),
    "II": Experiment("refined", title="+ intra-set refinement", paper=31.1),
    "III": Experiment("refined", intra=True, title="+ intra-scene correlation", paper=32.1),
    "IV": Experiment("refined", intra=True, inter=True, title="+ inter-scene correlation", paper=36.1),
    "V": Experiment("refined", intra=True, inter=True, feedback=True, title="+ feedback distillation", paper=36.6),
}

PRESETS = {
    # The paper's: ScanNet, 120 epochs of 1201 scans, batch 8, 5 cm, d = 512. Should reach Table 2's numbers.
    "scannet": Config(),
    # The embedded miniature: the same code in a size that two CPU cores train in minutes. 60 rooms of about 6,000
    # voxels of 10 cm; one thread, because two runs side by side use two cores better than two threads of one (1.15
    # times as fast as one). A twelfth of the paper's steps leaves a network that still underfits, which decided the
    # rest, on rooms of seed 7: two scenes a step and not four, since more steps helped more than larger ones; and
    # L_kl, in the space of logits, beside the mean of the other losses, since within the mean a term near 0 took a
    # third of their weight.
    "miniature": Config(
        preset="miniature",
        threads=1,
        stream=StreamConfig(voxel_size=0.1, workers=1),
        model=ModelConfig(stem=16, planes=(16, 32, 48, 64, 48, 48, 32, 32)),
        heads=HeadConfig(tokens=256, heads=2),
        loss=LossConfig(kl_space="logits", mean_over="labels"),
        schedule=ScheduleConfig(epochs=50, batch=2),
        optim=OptimConfig(save_every=50),
    ),
}

# What may differ between a run and its continuation: how it is computed, not what.
FREE_ON_RESUME = ("threads", "stream.workers", "stream.prefetch", "optim.save_every")

_CHOICES = {
    "experiment": tuple(EXPERIMENTS),
    "preset": tuple(PRESETS),
    "stream.colour": ("first", "mean"),
    "heads.block": ("vit", "eq3"),
    "heads.inter_input": ("intra", "raw"),
    "heads.token_label": ("set", "own"),
    "loss.kl_space": ("feature", "logits"),
    "loss.mean_over": ("terms", "labels"),
    "loss.kl_direction": ("teacher", "student"),
    "optim.bf16": ("auto", "on", "off"),
}
_POSITIVE = (
    *("stream.voxel_size", "stream.views", "stream.prefetch", "model.stem", "heads.layers", "heads.heads"),
    *("heads.ffn", "heads.tokens", "loss.kl_temperature", "schedule.epochs", "schedule.batch", "optim.save_every"),
)
_NOT_NEGATIVE = (
    *("seed", "threads", "stream.workers", "stream.scale", "stream.elastic", "stream.jitter", "loss.token_weight"),
    *("loss.kl_weight", "schedule.attention_epoch", "schedule.feedback_epoch", "schedule.evaluate_every"),
    *("optim.lr", "optim.momentum", "optim.dampening", "optim.weight_decay", "optim.head_lr"),
    "optim.head_weight_decay",
)


def load(preset: str = "miniature", file: Path | None = None, overrides: dict[str, object] | None = None) -> Config:
    """A checked configuration: the preset, then the TOML file, then overrides by dotted key (`{"schedule.batch": 4}`).

    Raises:
        HiclError: unknown preset, key or choice, a value of the wrong type or out of range, an unreadable file.
    """
    table = read_toml(file) if file is not None else {}
    preset = table.get("preset", preset)
    if preset not in PRESETS:
        raise HiclError(f"preset {shown(preset)} is unknown; there are {', '.join(PRESETS)}")
    config = updated(PRESETS[preset], table, str(file))
    for key, value in (overrides or {}).items():
        nested: object = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        config = updated(config, nested, f"option {key}")
    return check(config)


def check(config: Config) -> Config:
    """`config` itself, if all its values can be trained with; else a HiclError that names the key."""

    values = flat(config)
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            raise HiclError(f"{name} = {shown(values[name])} is unknown; there are {', '.join(choices)}")
    for name in _POSITIVE:
        if not 0 < values[name] < math.inf:
            raise HiclError(f"{name} = {values[name]} must be greater than 0")
    for name in _NOT_NEGATIVE:
        if not 0 <= values[name] < math.inf:
            raise HiclError(f"{name} = {values[name]} must not be negative")
    if config.stream.scale >= 1:
        raise HiclError(f"stream.scale = {config.stream.scale} must be smaller than 1")
    planes = config.model.planes
    if len(planes) != 8 or not 1 <= min(*planes, config.model.stem) <= max(*planes, config.model.stem) <= MOST_WIDTH:
        raise HiclError(
            f"model.planes = {list(planes)[:9]} and stem = {config.model.stem} must be eight widths, four down and four"
            f" up, and one, from 1 to {MOST_WIDTH}"
        )
    return config


def phase_epochs(schedule: ScheduleConfig) -> tuple[float, float]:
    """Epochs at which L̂_ce and L_kl begin: 10 and 20 of 120, in proportion unless `absolute`."""
    factor = 1.0 if schedule.absolute else schedule.epochs / REFERENCE_EPOCHS
    return schedule.attention_epoch * factor, schedule.feedback_epoch * factor
