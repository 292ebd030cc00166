"""Every setting of a training run: frozen dataclasses, strict TOML, the presets and the five experiments.

The effective configuration is stored as `config.toml` with each result; a run can be repeated from that file.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hicl.config import check as config_check
from hicl.config import read_toml, setting, updated
from hicl.errors import HiclError

REFERENCE_EPOCHS = 120
MOST_WIDTH = 8192  # of a layer


class Features(NamedTuple):
    """What a network reads of a point: an array of the cache, uint8, its channels, and whether the height as well."""

    array: str
    channels: int
    height: bool = False

    @property
    def width(self) -> int:
        return self.channels + self.height


_HEIGHT = "+height"
FEATURES = {"colour": Features("points/rgb", 3), "intensity": Features("points/intensity", 1)}
FEATURES |= {name + _HEIGHT: features._replace(height=True) for name, features in FEATURES.items()}


@dataclass(frozen=True)
class Experiment:
    """What a row of Table 2 switches on."""

    labels: Literal["raw", "refined"]
    intra: bool = False
    inter: bool = False
    feedback: bool = False
    recipe: bool = False  # what `RecipeConfig` says
    title: str = ""
    paper: float | None = None  # mIoU of the paper's Table 2 on ScanNet val
    paper_nuscenes: float | None = None  # of its Table 1 on nuScenes val; it has no ablation there


EXPERIMENTS = {
    "I": Experiment("raw", title="baseline", paper=28.8),
    "II": Experiment("refined", title="+ intra-set refinement", paper=31.1),
    "III": Experiment("refined", intra=True, title="+ intra-scene correlation", paper=32.1),
    "IV": Experiment("refined", intra=True, inter=True, title="+ inter-scene correlation", paper=36.1),
    "V": Experiment("refined", True, True, True, title="+ feedback distillation", paper=36.6, paper_nuscenes=23.0),
    "VI": Experiment(
        "refined",
        intra=True,
        inter=True,
        feedback=True,
        recipe=True,
        title="+ labels by images and network together, and heights (ours)",
    ),
}

# What a network may learn from: its name, and its file in train/objectives/.
OBJECTIVES = {
    "hicl": "table2",
    "openscene": "openscene",
    "clip2scene": "clip2scene",
    "chen": "chen",
    "ppkt": "ppkt",
    "slidr": "slidr",
    "simipu": "simipu",
    "lground": "lground",
    "concepts": "concepts",
    "pointmcd": "pointmcd",
    "pointcontrast": "pointcontrast",
}


@dataclass(frozen=True)
class StreamConfig:
    """From scenes to batches."""

    voxel_size: float = setting(0.05, "Edge of a voxel", unit="metres", above=0)
    features: str = setting(
        "colour", "What the network reads of a point; height: above the floor", choices=tuple(FEATURES)
    )
    colour: str = setting(
        "first", "Colour, or intensity, of a voxel: its first point's, or the mean of all its points",
        choices=("first", "mean"),
    )  # fmt: skip
    views: int = setting(8, "At most so many random views a scene and step", above=0)
    rotate: bool = setting(True, "Rotate about z, uniform in 0..2 pi")
    flip: bool = setting(True, "Flip x and y, each with probability 1/2")
    scale: float = setting(0.0, "Scale by a factor uniform in 1 ± this", least=0, below=1)
    elastic: float = setting(0.0, "Largest displacement by a smooth random field; 0: off", unit="metres", least=0)
    jitter: float = setting(0.0, "Colour offset and contrast, as a part of the full range; 0: off", least=0)
    workers: int = setting(8, "Spawned processes that make batches; 0: the training process does", least=0)
    prefetch: int = setting(4, "Batches a worker prepares ahead", above=0)


@dataclass(frozen=True)
class ModelConfig:
    """The 3D network (METHOD 1.6 and 2.1): the paper's for rooms, or its for streets."""

    network: str = setting("minkunet", "MinkUNet14A, or SPVCNN", choices=("minkunet", "spvcnn"))
    stem: int = setting(32, "Width of the first layer", above=0)
    planes: tuple[int, ...] = setting((32, 64, 128, 256, 128, 128, 96, 96), "Eight widths, four down and four up")
    bn_momentum: float = setting(0.05, "Momentum of batch normalisation", above=0)


@dataclass(frozen=True)
class HeadConfig:
    """The two transformers of Eq. 3 to 7; gone at inference."""

    layers: int = setting(3, "Blocks a transformer", above=0)
    heads: int = setting(8, "Attention heads", above=0)
    ffn: int = setting(4, "Hidden width over d", above=0)
    tokens: int = setting(1024, "M, tokens a scene", above=0)
    token_label: str = setting(
        "set", "Label of a token that no chosen view shows: its set's; or own: none", choices=("set", "own")
    )
    block: str = setting("vit", "Block of a transformer; eq3: the plain block of the equations", choices=("vit", "eq3"))
    inter_input: str = setting(
        "intra", "What the inter-scene head reads: what the intra-scene head gives; raw: Eq. 7 to the letter",
        choices=("intra", "raw"),
    )  # fmt: skip


@dataclass(frozen=True)
class LossConfig:
    """How Eq. 8 is read (METHOD 7.2 rows 5 and 6), and the weights of the mean, all 1 in the paper."""

    kl_space: str = setting(
        "feature", "Softmax of L_kl over the d channels, or logits: over the classes", choices=("feature", "logits")
    )
    kl_temperature: float = setting(1.0, "Temperature of L_kl", above=0)
    kl_direction: str = setting(
        "teacher", "KL(f̂ ‖ f), or student: KL(f ‖ f̂)", choices=("teacher", "student")
    )  # fmt: skip
    mean_over: str = setting(
        "terms", "Mean of L_ce, L̂_ce and L_kl; labels: of the first two, with L_kl added", choices=("terms", "labels")
    )
    token_weight: float = setting(1.0, "Weight of L̂_ce", least=0)
    kl_weight: float = setting(1.0, "Weight of L_kl", least=0)


@dataclass(frozen=True)
class ContrastConfig:
    """What the objectives that contrast features share; `hicl` ignores it."""

    rows: int = setting(4096, "Pairs, or sets, a step that are told apart, over all processes", above=1)
    temperature: float = setting(0.07, "Temperature of InfoNCE", above=0)


@dataclass(frozen=True)
class Clip2SceneConfig:
    """Of `--objective clip2scene` alone."""

    grid: int = setting(
        0,
        "Edge of its spatio-temporal grids, whose points it draws together in place of the pixels' features; 0: none",
        unit="voxels",
        least=0,
    )


@dataclass(frozen=True)
class RecipeConfig:
    """What experiment VI adds to V, a switch or weight a part; I to V ignore it."""

    spread: bool = setting(True, "Every voxel, seen or not, learns what all images say of its set")
    balance: float = setting(
        0.8,
        "Power of the classes' frequencies among the labels that L_ce and L̂_ce take out of the scores; 0: off",
        least=0,
    )
    own_labels: bool = setting(
        True, "Labels of sets by the images and by the network's moving average together, from average_epoch on"
    )
    pull_weight: float = setting(0.0, "Weight of L_pull: cosine of a voxel to its set's mean, by the average", least=0)
    match_weight: float = setting(
        0.0, "Weight of L_match: similarity to the sets of other scenes, as the average has it", least=0
    )
    match_temperature: float = setting(0.1, "Temperature of L_match", above=0)
    average_epoch: float = setting(60.0, "Epoch from which on the moving average teaches, of 120", least=0)
    average_decay: float = setting(0.99, "What a step leaves of the moving average of the weights", least=0, below=1)
    memory: int = setting(0, "Scenes of earlier steps that the inter-scene head may attend to as well", least=0)
    height: bool = setting(True, "The network reads heights above the floor beside stream.features")
    set_share: float = setting(
        0.0, "Part of L_ce that is of whole sets, by the mean of their voxels' scores", least=0, below=1
    )


@dataclass(frozen=True)
class ScheduleConfig:
    """Epochs, batches and phases."""

    epochs: int = setting(REFERENCE_EPOCHS, "Epochs; the phases keep their proportions", above=0)
    batch: int = setting(8, "Scenes a step, over all processes", above=0)
    attention_epoch: float = setting(10.0, "Epoch from which on L̂_ce counts, of 120", least=0)
    feedback_epoch: float = setting(20.0, "Epoch from which on L_kl counts, of 120", least=0)
    absolute: bool = setting(False, "The two epochs as they are; else in proportion to 120")
    evaluate_every: int = setting(0, "Epochs between evaluations on the split val; 0: none", least=0)


@dataclass(frozen=True)
class OptimConfig:
    """SGD for the network, AdamW for the heads, one cosine for both (METHOD 7.2 row 17)."""

    lr: float = setting(0.2, "Learning rate of the network", least=0)
    momentum: float = setting(0.9, "Momentum of the network", least=0)
    dampening: float = setting(0.1, "Dampening of the momentum", least=0)
    weight_decay: float = setting(1e-4, "Weight decay of the network", least=0)
    head_lr: float = setting(2e-4, "Learning rate of the transformers", least=0)
    head_weight_decay: float = setting(0.01, "Weight decay of the transformers", least=0)
    bf16: str = setting(
        "auto", "bfloat16 in the dense layers; auto: on a GPU that has it", choices=("auto", "on", "off")
    )
    save_every: int = setting(200, "Steps between states that --resume can continue from", above=0)


@dataclass(frozen=True)
class Config:
    """One run. `experiment` is I to V of Table 2, or VI, ours; everything else is shared between them."""

    objective: str = setting("hicl", "What the network learns from; hicl: an experiment", choices=tuple(OBJECTIVES))
    experiment: str = setting("V", "Row of Table 2", choices=tuple(EXPERIMENTS))
    seed: int = setting(0, "Seed of weights, order, augmentation and tokens", least=0)
    preset: str = setting(
        "scannet", "What the other settings begin from: scannet and nuscenes, the paper's, or miniature and street"
    )
    threads: int = setting(0, "Threads of PyTorch on a CPU; 0: its own choice", least=0)
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    clip2scene: Clip2SceneConfig = field(default_factory=Clip2SceneConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def name(self) -> str:
        """What a run is called by: V, or ppkt."""
        return self.experiment if self.objective == "hicl" else self.objective

    @property
    def reading(self) -> StreamConfig:
        """`stream`, with what the experiment has its network read of a point."""
        asked = self.objective == "hicl" and EXPERIMENTS[self.experiment].recipe and self.recipe.height
        if not asked or FEATURES[self.stream.features].height:
            return self.stream
        return replace(self.stream, features=self.stream.features + _HEIGHT)


PRESETS = {
    # The paper's: ScanNet, 120 epochs of 1201 scans, batch 8, 5 cm, d = 512. Should reach Table 2's numbers.
    "scannet": Config(),
    # The embedded miniature: the same code in a size that two CPU cores train in minutes. 60 rooms of about 6,000
    # voxels of 10 cm; one thread, because two runs side by side use two cores better than two threads of one (1.15
    # times as fast as one), and no process that makes batches, as a batch takes a 25th of a step and the process as
    # much memory as the run. A twelfth of the paper's steps leaves a network that still underfits, which decided the
    # rest, on rooms of seed 7: two scenes a step and not four, since more steps helped more than larger ones; and
    # L_kl, in the space of logits, beside the mean of the other losses, since within the mean a term near 0 took a
    # third of their weight.
    "miniature": Config(
        preset="miniature",
        threads=1,
        stream=StreamConfig(voxel_size=0.1, workers=0),
        model=ModelConfig(stem=16, planes=(16, 32, 48, 64, 48, 48, 32, 32)),
        heads=HeadConfig(tokens=256, heads=2),
        loss=LossConfig(kl_space="logits", mean_over="labels"),
        contrast=ContrastConfig(rows=1024),  # a table of 4,096 by 4,096 would take longer than the network
        schedule=ScheduleConfig(epochs=50, batch=2),
        optim=OptimConfig(save_every=50),
    ),
    # The paper's other half: 30 epochs of nuScenes' 28,130 training key frames, batch 8, phases at epochs 10 and 20 of
    # these 30. What the paper doesn't say is CLIP2Scene's: SPVCNN on voxels of 10 cm, intensity, rotation and flips,
    # all six cameras. Should reach 23.0.
    "nuscenes": Config(
        preset="nuscenes",
        stream=StreamConfig(voxel_size=0.1, features="intensity"),
        model=ModelConfig("spvcnn", planes=(32, 64, 128, 256, 256, 128, 96, 96), bn_momentum=0.1),
        schedule=ScheduleConfig(epochs=30, attention_epoch=40.0, feedback_epoch=80.0),
    ),
    # Procedural streets in a size that two CPU cores train in minutes: 9,000 voxels of 30 cm a key frame, the size of a
    # traffic cone. What decided the miniature's learning decides here too, the number of steps first of all: after 10
    # epochs of 54 key frames V has 15.1 mIoU, after 30 20.8.
    "street": Config(
        preset="street",
        threads=1,
        stream=StreamConfig(voxel_size=0.3, features="intensity", colour="mean", workers=0),
        model=ModelConfig("spvcnn", stem=16, planes=(16, 16, 32, 48, 48, 32, 16, 16)),
        heads=HeadConfig(tokens=256, heads=2),
        loss=LossConfig(kl_space="logits", mean_over="labels"),
        contrast=ContrastConfig(rows=1024),
        schedule=ScheduleConfig(epochs=30, batch=2),
        optim=OptimConfig(save_every=50),
    ),
}

# What may differ between a run and its continuation: how it is computed, not what.
FREE_ON_RESUME = ("threads", "stream.workers", "stream.prefetch", "optim.save_every", "schedule.evaluate_every")


def load(preset: str = "miniature", file: Path | None = None, overrides: dict[str, object] | None = None) -> Config:
    """A checked configuration: the preset, then the TOML file, then overrides by dotted key (`{"schedule.batch": 4}`).

    Raises:
        HiclError: unknown preset, key or choice, a value of the wrong type or out of range, an unreadable file.
    """
    table = read_toml(file) if file is not None else {}
    preset = table.get("preset", preset)
    if preset not in PRESETS:
        raise HiclError(f"preset {preset!r} is unknown; there are {', '.join(PRESETS)}")
    config = updated(PRESETS[preset], table, str(file))
    for key, value in (overrides or {}).items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        config = updated(config, nested, "--set")
    return check(config)


def stored(base: Config, settings: dict[str, Any], where: str) -> Config:
    """The settings that a run noted, as a checkpoint holds them. What it didn't know yet is as in `base`; but runs of a
    recipe from before there were heights read none. (Others ignore that setting, and are no other runs for it.)

    Raises `HiclError`, naming where they stood.
    """
    recipe = settings.get("recipe")
    with_recipe = [name for name, experiment in EXPERIMENTS.items() if experiment.recipe]
    if isinstance(recipe, dict) and settings.get("experiment") in with_recipe:
        settings = settings | {"recipe": {"height": False} | recipe}
    return updated(base, settings, where)


def check(config: Config) -> Config:
    """`config` itself, if all its values can be trained with; else a `HiclError` that names the key."""
    widths = (config.model.stem, *config.model.planes)
    if len(widths) != 9 or not 1 <= min(widths) <= max(widths) <= MOST_WIDTH:
        raise HiclError(
            f"model.planes {list(widths[1:10])}: must be eight widths, four down and four up, and with model.stem"
            f" {widths[0]} from 1 to {MOST_WIDTH}"
        )
    return config_check(config)


def phase_epochs(schedule: ScheduleConfig) -> tuple[float, float]:
    """Epochs at which L̂_ce and L_kl begin: 10 and 20 of 120, in proportion unless `absolute`."""
    return scaled(schedule.attention_epoch, schedule), scaled(schedule.feedback_epoch, schedule)


def scaled(epoch: float, schedule: ScheduleConfig) -> float:
    """An epoch of 120 as one of this schedule's."""
    return epoch if schedule.absolute else epoch * (schedule.epochs / REFERENCE_EPOCHS)
