"""Train a teacher of the miniature's: `python -m hicl.pipeline.miniature.train_teacher rooms|streets --out DIR`.

A CLIP in small: open_clip's own model, a ResNet with a block a stage (CLIP's ModifiedResNet) and a two-layer text
tower, trained from scratch to match photographs and captions of scenes that no data set holds (seeds from 10,000,000
on). Image-level pairs only; dense labels appear in the last line it prints, which measures its dense reading on scenes
of yet other seeds and changes nothing. That reading is wrong for about half of the pixels, as CLIP's is, because the
model is small, young and never saw a mask.

Tried and left: ViTs of three layers (patches of 8 and 16 pixels, averaged instead of pooled by the class token). They
train five times as many photographs a second and still read frames worse: 25 % of the pixels and 8 % mean IoU after
224,000 photographs, where the ResNet had 37 % and 12 % after 45,000. One of four layers, 128 wide, with a class token,
patches of 16 pixels and the words of the ResNet that ships to begin with, read in windows of a photograph's size: 21 %
and 3 % of eight rooms after 164,000 photographs, of which that ResNet reads 54 % and 23 %. Attention that learns where
to look: in so small a model it leaves the other patches' values untrained, and frames were read at 40 % and 12 % where
uniform attention had 41 % and 16 %, both after 58,000 photographs.

One choice differs from CLIP: two captions in a batch often name the same things, so a pair's target is not one-hot but
the overlap of the names (intersection over union), normalised over the batch.

The teacher of streets goes on from the rooms', as far as their shapes agree: it knows captions' templates, and some of
what edges and corners are. The script needs less than 25 minutes on two cores. On one machine the same seed gives the
same weights.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from hicl.pipeline.miniature.photos import Photographer, caption
from hicl.pipeline.miniature.subjects import SUBJECTS, Frames, Subject
from hicl.pipeline.miniature.writing import FIRST_TEACHER_SEED
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.processes import pool

CROP = 96  # pixels of a training photograph, cut from frames at about the scale they are read at
CELL = 32  # pixels a grid cell covers, CLIP's ResNets' stride
WORD_RATE = 5.0
HELD_OUT_SEED = 2 * FIRST_TEACHER_SEED

CONTEXT = 24  # words of a caption, about


Batch = tuple[np.ndarray, list[str], list[frozenset[str]]]
"""Pictures uint8 [B, s, s, 3], captions, the names in them."""


def config_of(subject: Subject) -> dict[str, Any]:
    """The open_clip config of a subject's teacher, for frames at the size they are read at."""
    return {
        "embed_dim": 64,
        "vision_cfg": {"image_size": subject.read_size, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }


def collect(subject: Subject, seed: int, scenes: int, frames: int, workers: int) -> list[Frames]:
    """Frames of `scenes` scenes, rendered by `workers` processes."""
    subject.shoot(seed, 0, 1)  # compiles the kernels once, before the workers would all do it
    with pool(workers) as processes:
        todo = processes.map(subject.shoot, [seed] * scenes, range(scenes), [frames] * scenes, chunksize=4)
        return list(tqdm(todo, "scenes", total=scenes, unit="scene", disable=None))


def pair_loss(
    image: torch.Tensor, text: torch.Tensor, names: list[frozenset[str]], scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric contrastive loss of B pairs whose targets are the overlaps of their names.

    image, text: float32 [B, d], unit length. scale: the temperature's inverse.
    """
    words = sorted(set().union(*names))
    column = {word: i for i, word in enumerate(words)}
    has = torch.zeros(len(names), len(words) + 1)
    for row, used in enumerate(names):
        # A caption that names nothing only matches captions that name nothing.
        has[row, [column[w] for w in used] or [len(words)]] = 1
    both = has @ has.T
    overlap = both / (has.sum(1)[:, None] + has.sum(1)[None] - both)
    target = overlap / overlap.sum(1, keepdim=True)
    logits = scale * image @ text.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def build(config: dict) -> Any:
    """The open_clip model for training on crops: as `config`, but for square images of CROP pixels."""
    import open_clip

    vision = open_clip.CLIPVisionCfg(**config["vision_cfg"] | {"image_size": CROP})
    model = open_clip.CLIP(config["embed_dim"], vision, open_clip.CLIPTextCfg(**config["text_cfg"]))
    # Attention that stays uniform, without positions: what the crop is pooled from is then just what a patch's value
    # path says, on average, so that the dense reading is trained along with the pooled one.
    pool = model.visual.attnpool
    for parameter in (pool.positional_embedding, *pool.q_proj.parameters(), *pool.k_proj.parameters()):
        torch.nn.init.zeros_(parameter).requires_grad_(False)
    model.visual.to(memory_format=torch.channels_last)  # convolutions are twice as fast so
    return model


def go_on_from(model: torch.nn.Module, teacher: str) -> None:
    """Give the model the weights of a teacher that is there, but for the positions, which stay out of use."""
    from safetensors.torch import load_file

    path = TeacherConfig(teacher, teacher).weights_file
    assert path is not None
    state = {name: tensor for name, tensor in load_file(path).items() if "attnpool.positional" not in name}
    model.load_state_dict(state, strict=False)


def normalise(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] with CLIP's mean and deviation."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - mean) / std


def batch(photographer: Photographer, seed: int, step: int, size: int) -> Batch:
    """The batch of a step, by its number."""
    rng = np.random.default_rng([5, seed, step])
    shots = [photographer.shot(rng) for _ in range(size)]
    lines = [caption(rng, names, photographer.subject) for _, names in shots]
    return np.stack([picture for picture, _ in shots]), [line for line, _ in lines], [used for _, used in lines]


def batches(photographer: Photographer, seed: int, steps: int, size: int) -> Iterator[Batch]:
    """`steps` batches, each drawn while the one before is learned from."""
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(batch, photographer, seed, 0, size)
        for step in range(steps):
            ready = coming.result()
            coming = ahead.submit(batch, photographer, seed, step + 1, size)
            yield ready


def train(model: Any, photographer: Photographer, seed: int, steps: int, size: int, peak: float) -> None:
    """AdamW with warm-up and cosine decay; the image tower in bfloat16."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    words = [model.token_embedding.weight]
    decayed = [p for n, p in model.named_parameters() if p.ndim > 1 and "embedding" not in n]
    plain = [p for n, p in model.named_parameters() if p.ndim < 2 or ("embedding" in n and p is not words[0])]
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": plain, "weight_decay": 0.0},
        {"params": words, "weight_decay": 0.0, "lr": WORD_RATE * peak},  # a word is seen far less often than a weight
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    warm = max(1, min(100, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm, 0.5 + 0.5 * np.cos(np.pi * i / steps))
    )
    model.train()
    mean_loss = None
    with tqdm(batches(photographer, seed, steps, size), "training", total=steps, unit="step", disable=None) as bar:
        for pictures, lines, names in bar:
            with torch.autocast("cpu", torch.bfloat16):
                image = model.encode_image(normalise(pictures).contiguous(memory_format=torch.channels_last))
            image = F.normalize(image.float(), dim=-1)
            text = F.normalize(model.encode_text(tokenizer(lines)), dim=-1)
            loss = pair_loss(image, text, names, model.logit_scale.exp().clamp(max=50))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
            bar.set_postfix(loss=f"{mean_loss:.3f}")
    model.eval()


def save(model: torch.nn.Module, subject: Subject, out: Path) -> None:
    """Write the config and the weights (float16), positions stretched from the crop's grid to a frame's."""
    from safetensors.torch import save as to_bytes

    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    key = "visual.attnpool.positional_embedding"
    grid, wide = CROP // CELL, subject.read_size // CELL
    image = state[key][1:].T.reshape(1, -1, grid, grid)
    image = F.interpolate(image, size=(wide, wide), mode="bicubic", align_corners=False)
    state[key] = torch.cat([state[key][:1], image[0].flatten(1).T])
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{subject.teacher}.json").write_text(json.dumps(config_of(subject), indent=1) + "\n")
    half = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in state.items()}
    (out / f"{subject.teacher}.safetensors").write_bytes(to_bytes(half))


def evaluate(subject: Subject, out: Path, frames: list[Frames]) -> dict:
    """How well the saved teacher reads frames densely: evaluation only, nothing is chosen or learned by it.

    Returns pixel accuracy, mean IoU over the classes that occur, and IoU and recall by class, over labelled pixels.
    """
    from hicl.pipeline.classes import ClassList
    from hicl.pipeline.teacher.clip import Teacher

    name, size = out / subject.teacher, len(subject.classes)
    teacher = Teacher(TeacherConfig(clip=f"{name}.json", weights=f"{name}.safetensors"))
    text = torch.from_numpy(teacher.encode_classes(ClassList(tuple(w[0] for w in subject.classes), subject.classes)))
    to_class = np.full(256, size)
    to_class[list(subject.to_class)] = list(subject.to_class.values())
    confusion = np.zeros((size, size), np.int64)
    for scene in frames:
        scores = torch.from_numpy(teacher.encode_images(list(scene.picture))) @ text.T
        shape = scene.thing.shape[1:]
        scores = F.interpolate(scores.permute(0, 3, 1, 2), size=shape, mode="bilinear", align_corners=False)
        guess, truth = scores.argmax(1).numpy(), to_class[scene.thing]
        known = truth < size
        confusion += np.bincount(truth[known] * size + guess[known], minlength=size**2).reshape(size, size)
    hit, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou, recall = hit / np.maximum(true + said - hit, 1), hit / np.maximum(true, 1)
    return {
        "accuracy": hit.sum() / true.sum(),
        "miou": iou[true > 0].mean(),
        "classes": {c: (float(iou[i]), float(recall[i])) for i, (c, *_) in enumerate(subject.classes) if true[i]},
        "confusion": confusion,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("of", choices=SUBJECTS, help="what it is to know")
    parser.add_argument("--out", type=Path, required=True, help="folder for the config and the weights")
    parser.add_argument("--seed", type=int, default=FIRST_TEACHER_SEED, help="of scenes and training")
    parser.add_argument("--scenes", type=int, help="[default: what it takes]")
    parser.add_argument("--frames", type=int, help="a scene [default: what it takes]")
    parser.add_argument("--steps", type=int, help="[default: what it takes]")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    if not FIRST_TEACHER_SEED <= args.seed < HELD_OUT_SEED:
        parser.error(f"--seed must lie from {FIRST_TEACHER_SEED} to {HELD_OUT_SEED - 1}: the teachers' own scenes")
    logging.getLogger().setLevel(logging.ERROR)
    # Tensors are so small that a second thread gains little, and loses a lot on a busy machine.
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    subject = SUBJECTS[args.of]
    scenes, count = args.scenes or subject.scenes, args.frames or subject.frames
    photographer = Photographer(collect(subject, args.seed, scenes, count, args.workers), CROP, subject)
    model = build(config_of(subject))
    if subject.begins:
        go_on_from(model, subject.begins)
    train(model, photographer, args.seed, args.steps or subject.steps, args.batch, args.lr)
    save(model, subject, args.out)
    report(subject, args.out, args.workers)
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes in all")


def report(subject: Subject, out: Path, workers: int = 2) -> None:
    """Print the dense check on 28 held-out scenes."""
    measured = evaluate(subject, out, collect(subject, HELD_OUT_SEED, 28, 6, workers))
    for name, (iou, recall) in measured["classes"].items():
        print(f"{name:20s} IoU {100 * iou:5.1f}   recall {100 * recall:5.1f}")
    print(f"held-out pixels: accuracy {100 * measured['accuracy']:.1f} %, mean IoU {100 * measured['miou']:.1f} %")


if __name__ == "__main__":
    main()
