"""The teacher: an open_clip model, frozen, read densely (MaskCLIP: Zhou, Loy & Dai, ECCV 2022).

CLIP pools its last feature map by attention; what a patch would contribute is its value, so the value path alone, sent
through the same projection as the pooled vector, lands in the text's space at every patch. Unlike CLIP2Scene's teacher
this one keeps CLIP's own image normalisation, QuickGELU and layer norms (its `model/maskclip_model.py` uses /255, exact
GELU and eps 1e-6).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hicl.devices import computes_bf16, fastest_products
from hicl.errors import HiclError
from hicl.pipeline.classes import ClassList
from hicl.pipeline.teacher import readouts, towers
from hicl.pipeline.teacher.choice import TeacherConfig
from hicl.pipeline.teacher.features import IMAGES_AT_ONCE, Features, Folded, PatchGrid
from hicl.pipeline.teacher.model import build
from hicl.pipeline.teacher.prompts import ensemble, fill_templates
from hicl.pipeline.teacher.texts import TextTower
from hicl.pipeline.teacher.towers.tower import assert_pools
from hicl.pipeline.teacher.windows import Windows

_GPU_BATCH = 32


def quantise(grid: torch.Tensor) -> Features:
    """float [..., d] -> codes int8 [..., d] and scale float32 [...]; scale · codes is the grid but for rounding.

    A patch's largest component becomes 127. Half the bytes of float16: see `tests/benchmarks/bench_bytes.py` for the
    labels that this changes.
    """
    largest, top = grid.abs().amax(dim=-1), grid.new_tensor(127)  # a number divided by a tensor is rounded twice
    codes = (grid * (top / largest.clamp(min=1e-36))[..., None]).round().to(torch.int8)
    return codes.cpu().numpy(), (largest / 127).cpu().numpy()


class Teacher:
    """A frozen model on a device. Raises `HiclError` where the model, its weights or its architecture won't do.

    bf16: whether images are read in bfloat16; None: on a GPU that has it. (`tests/benchmarks/bench_bytes.py` counts the
    labels that this changes.)
    batch: images computed at a time, filled up with black ones: a library may choose another algorithm for another
    number, and the last bits of an image's features mustn't depend on what it is read beside. None: 32 on a GPU; as
    many as are given on a CPU, where black ones would cost time.

    Attributes: batch; dim: width d of the joint space; patches: the grid that it cuts images into.
    """

    def __init__(self, config: TeacherConfig, device: str = "cpu", bf16: bool | None = None, batch: int | None = None):
        self.device = torch.device(device)
        self._bf16 = bf16 if bf16 is not None else computes_bf16(self.device.type)
        self.batch = batch or (_GPU_BATCH if self.device.type == "cuda" else None)
        model, name, preprocessing = build(config)
        self._model: Any = model.requires_grad_(False).eval().to(self.device)  # has what open_clip gave it
        self._tower = towers.of(self._model.visual, name)
        self.dim = assert_pools(self._tower, self.device, name)
        self._read_out = readouts.load(config.dense, self._tower.depth, f"--clip {name}")
        self._texts, self._templates = TextTower(self._model, name, config.weights_file), config.templates
        side, patch = config.short_side or towers.short_side(self._model.visual), self._tower.patch
        if side < max(patch):
            raise HiclError(f"--short-side {side}: less than one patch of {patch[0]}x{patch[1]}")
        self._windows = Windows.of(patch, config.window, config.window_stride) if config.window else None
        self._smooth = config.key_smoothing
        self.patches = PatchGrid(patch, side, preprocessing.interpolation, preprocessing.resize == "squash")
        self._mean, self._std = (
            torch.tensor(x, device=self.device).view(3, 1, 1) for x in (preprocessing.mean, preprocessing.std)
        )

    def encode_images(self, images: list[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] images of one size to unit-length features, float32 [B, h, w, d], on the patch grid."""
        return self._encode(np.stack([self.patches.resize(image) for image in images])).cpu().numpy()

    def encode_pixels(self, pixels: np.ndarray) -> Features:
        """Images of whole patches, uint8 [B, H, W, 3], to features in 8 bits."""
        return quantise(self._encode(pixels))

    @torch.inference_mode()
    def _encode(self, pixels: np.ndarray) -> torch.Tensor:
        return self._windows.read(pixels, self._encode_all) if self._windows else self._encode_all(pixels)

    def _encode_all(self, pixels: np.ndarray) -> torch.Tensor:
        step = self.batch or IMAGES_AT_ONCE
        return torch.cat([self._encode_batch(pixels[i : i + step]) for i in range(0, len(pixels), step)])

    def _encode_batch(self, pixels: np.ndarray) -> torch.Tensor:
        count = len(pixels)
        if self.batch and count < self.batch:
            pixels = np.concatenate([pixels, np.zeros((self.batch - count, *pixels.shape[1:]), np.uint8)])
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        with fastest_products(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            grid = self._tower.grid((x - self._mean) / self._std, self._read_out, self._smooth)
        return F.normalize(grid[:count].float(), dim=-1)

    def encode_classes(self, classes: ClassList) -> np.ndarray:
        """Unit-length text embedding float32 [C, d]: the mean over the templates, if any, and a class's synonyms.

        Raises `HiclError` as `encode_texts` does.
        """
        return self._encode_prompts(classes.prompts)

    def encode_folded(self, classes: ClassList) -> Folded | None:
        """The words that fold into classes, or None where there are none. Raises `HiclError` as `encode_texts` does."""
        if not classes.folded:
            return None
        places, prompts = zip(*classes.folded, strict=True)
        return Folded(self._encode_prompts(prompts), np.array(places))

    def _encode_prompts(self, of_words: Sequence[tuple[str, ...]]) -> np.ndarray:
        fill = fill_templates if self._templates == "all" else lambda prompt: [prompt.strip('"')]
        filled = ([text for prompt in prompts for text in fill(prompt)] for prompts in of_words)
        return np.stack([ensemble(self.encode_texts(texts)) for texts in filled])

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Embedding float32 [T, d] of texts as they are, not normalised. Raises `HiclError` for one too long."""
        return self._texts.encode(texts)
