"""The teacher: an open_clip model, frozen, read densely (MaskCLIP: Zhou, Loy & Dai, ECCV 2022).

CLIP pools its last feature map by attention; what a patch would contribute is its value, so the value path alone, sent
through the same projection as the pooled vector, lands in the text's space at every patch. Unlike CLIP2Scene's teacher
this one keeps CLIP's own image normalisation, QuickGELU and layer norms (its `model/maskclip_model.py` uses /255, exact
GELU and eps 1e-6).
"""

import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hicl.devices import computes_bf16
from hicl.errors import HiclError
from hicl.pipeline.features import Features, PatchGrid
from hicl.pipeline.hub import fetch, first_line
from hicl.pipeline.prompts import ClassList, ensemble, fill_templates
from hicl.pipeline.teacher import TeacherConfig
from hicl.pipeline.weights import fitted, read_weights

Tokens = torch.Tensor  # float32 [B, L, D]
ReadOut = Callable[[Tokens, Tokens, Tokens, int], Tokens]


def read_values(q: Tokens, k: Tokens, v: Tokens, heads: int) -> Tokens:
    """MaskCLIP: every token attends to itself alone."""
    return v


def read_key_key(q: Tokens, k: Tokens, v: Tokens, heads: int) -> Tokens:
    """Values averaged by the similarity of keys."""
    return _attend(k, k, v, heads)


def read_query_query(q: Tokens, k: Tokens, v: Tokens, heads: int) -> Tokens:
    """Values averaged by the similarity of queries."""
    return _attend(q, q, v, heads)


def _attend(q: Tokens, k: Tokens, v: Tokens, heads: int) -> Tokens:
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


# A dense read-out stands in for the attention of the last block; another one is one more small function.
DENSE: dict[str, ReadOut] = {"maskclip": read_values, "kk": read_key_key, "qq": read_query_query}


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
        import open_clip

        if config.dense not in DENSE:
            raise HiclError(f"--dense {config.dense}: unknown; known are {', '.join(DENSE)}")
        self._read_out = DENSE[config.dense]
        self.device = torch.device(device)
        self._bf16 = bf16 if bf16 is not None else computes_bf16(self.device.type)
        self.batch = batch or (_GPU_BATCH if self.device.type == "cuda" else None)
        name = config.clip
        if config.model_config is not None:
            name = _add_model(config.model_config)
        if name not in open_clip.list_models():
            raise HiclError(f"--clip {name}: not an open_clip model; `open_clip.list_models()` names them")
        with _quiet_libraries():
            try:
                model = open_clip.create_model(name, pretrained=None, load_weights=False)
            except Exception as error:  # whatever open_clip stumbles over in a user's own config
                raise HiclError(f"--clip {name}: open_clip can't build it ({first_line(error)})") from None
            preprocessing = _load_weights(model, name, config)
        self._model = model.requires_grad_(False).eval().to(self.device)
        self._tokenizer = open_clip.get_tokenizer(name)
        visual = self._model.visual
        if isinstance(visual, open_clip.transformer.VisionTransformer):
            if visual.attn_pool is not None or visual.proj is None:
                raise HiclError(f"--clip {name}: pools by cross-attention, which has no dense reading; use a plain ViT")
            self._grid, patch = self._grid_vit, visual.patch_size
        elif isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
            self._grid, patch = self._grid_resnet, (32, 32)
        else:
            raise HiclError(f"--clip {name}: a {type(visual).__name__} can't be read densely; use a ViT or an RN model")
        size = visual.image_size
        self.patches = PatchGrid(tuple(patch), config.short_side or (size if isinstance(size, int) else min(size)))
        if self.patches.short_side < max(patch):
            raise HiclError(f"--short-side {self.patches.short_side}: less than one patch of {patch[0]}x{patch[1]}")
        self._mean, self._std = (torch.tensor(x, device=self.device).view(3, 1, 1) for x in preprocessing)

    @property
    def dim(self) -> int:
        return self._model.text_projection.shape[-1]

    def encode_images(self, images: list[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] images of one size to unit-length features, float32 [B, h, w, d], on the patch grid."""
        return self._encode(np.stack([self.patches.resize(image) for image in images])).cpu().numpy()

    def encode_pixels(self, pixels: np.ndarray) -> Features:
        """Images of whole patches, uint8 [B, H, W, 3], to features in 8 bits."""
        return quantise(self._encode(pixels))

    @torch.inference_mode()
    def _encode(self, pixels: np.ndarray) -> torch.Tensor:
        step = self.batch or len(pixels)
        return torch.cat([self._encode_batch(pixels[i : i + step]) for i in range(0, len(pixels), step)])

    def _encode_batch(self, pixels: np.ndarray) -> torch.Tensor:
        count = len(pixels)
        if self.batch and count < self.batch:
            pixels = np.concatenate([pixels, np.zeros((self.batch - count, *pixels.shape[1:]), np.uint8)])
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            grid = self._grid((x - self._mean) / self._std)
        return F.normalize(grid[:count].float(), dim=-1)

    def _grid_vit(self, x: torch.Tensor) -> torch.Tensor:
        visual = self._model.visual
        x = visual.conv1(x)
        rows, columns = x.shape[-2:]
        cls = visual.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([cls, x.flatten(2).transpose(1, 2)], dim=1)
        x = visual.ln_pre(x + _positions(visual.positional_embedding, visual.grid_size, (rows, columns)))
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            x = block(x)
        attention = last.attn
        q, k, v = F.linear(last.ln_1(x), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        x = x + last.ls_1(attention.out_proj(self._read_out(q, k, v, attention.num_heads)))
        x = x + last.ls_2(last.mlp(last.ln_2(x)))
        x = visual.ln_post(x)[:, 1:] @ visual.proj
        return x.unflatten(1, (rows, columns))

    def _grid_resnet(self, x: torch.Tensor) -> torch.Tensor:
        visual = self._model.visual
        x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(x)))))
        rows, columns = x.shape[-2:]
        x, pool = x.flatten(2).transpose(1, 2), visual.attnpool
        x = self._read_out(pool.q_proj(x), pool.k_proj(x), pool.v_proj(x), pool.num_heads)
        return pool.c_proj(x).unflatten(1, (rows, columns))

    def encode_classes(self, classes: ClassList) -> np.ndarray:
        """Unit-length text embedding float32 [C, d]: the mean over 85 templates, and over a class's synonyms.

        Raises `HiclError` as `encode_texts` does.
        """
        filled = ([text for prompt in prompts for text in fill_templates(prompt)] for prompts in classes.prompts)
        return np.stack([ensemble(self.encode_texts(texts)) for texts in filled])

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Embedding float32 [T, d] of texts as they are, not normalised. Raises `HiclError` for one too long to read.

        Tokenizers cut what goes beyond the model's context without a word.
        """
        tokens = self._tokenizer(texts)
        context = tokens.shape[1]
        beyond = self._tokenizer(texts, context_length=4 * context)[:, context:]
        cut = (beyond != beyond[:, -1:]).any(dim=1)
        if cut.any():
            text = texts[int(cut.nonzero()[0])]
            raise HiclError(f"prompt {_shortened(text)!r}: longer than the {context} tokens that the teacher reads")
        return self._encode_tokens(tokens.to(self.device)).float().cpu().numpy()

    def _encode_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """The text half. What it pools is the end-of-text token, which sees no token behind it: short texts are read
        without their padding, which is most of CLIP's 77 tokens. (Where it is less than half, there is little to gain.)
        """
        import open_clip

        model, ends = self._model, tokens.argmax(dim=-1)
        length = int(ends.max()) + 1
        causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
        if not causal or not isinstance(model.text_projection, torch.Tensor) or 2 * length >= tokens.shape[1]:
            return model.encode_text(tokens)
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        return model.ln_final(x[torch.arange(len(x)), ends]) @ model.text_projection


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _positions(embedding: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Positional embedding for another grid: plain bicubic as MaskCLIP does it. open_clip's own resizing antialiases,
    which in torch is another cubic kernel: 5 % relative difference when going up."""
    if grid == size:
        return embedding
    cls, patches = embedding[:1], embedding[1:]
    image = patches.T.unflatten(1, grid)[None]
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return torch.cat([cls, image[0].flatten(1).T])


def _add_model(path: Path) -> str:
    """Make an open_clip model config known; it goes by the name of its file. Raises `HiclError` if it isn't one."""
    import open_clip

    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise HiclError(f"{path}: no such model config") from None
    except (OSError, ValueError) as error:
        raise HiclError(f"{path}: model config can't be read ({error})") from None
    # Checked before open_clip sees it: it reads every config again whenever one is added.
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise HiclError(f"{path}: not an open_clip model config; it needs embed_dim, vision_cfg and text_cfg")
    open_clip.add_model_config(path)
    return path.stem


def _load_weights(model: torch.nn.Module, name: str, config: TeacherConfig) -> tuple[tuple, tuple]:
    """Load every tensor, or raise `HiclError`. Returns the (mean, std) that the weights were trained with."""
    import open_clip
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    weights, path, settings = config.weights, config.weights_file, {}
    if path is None:
        settings = open_clip.get_pretrained_cfg(name, weights) or {}
        if not settings:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
            raise HiclError(f"--weights {weights}: neither a file nor a tag of {name} (its tags: {tags})")
        _assert_quick_gelu(model, name, weights, bool(settings.get("quick_gelu")))
        path = _download(settings, name, weights)
    model.load_state_dict(fitted(read_weights(path), model.state_dict(), path, name))
    return settings.get("mean") or OPENAI_DATASET_MEAN, settings.get("std") or OPENAI_DATASET_STD


def _assert_quick_gelu(model: torch.nn.Module, name: str, tag: str, expected: bool) -> None:
    """open_clip only warns where the activation isn't the one that the weights were trained with."""
    has = any(type(module).__name__ == "QuickGELU" for module in model.modules())
    if has != expected:
        other = f"{name}-quickgelu" if expected else name.removesuffix("-quickgelu")
        raise HiclError(f"--clip {name} --weights {tag}: the weights need {'Quick' * expected}GELU; use --clip {other}")


def _download(settings: dict, name: str, tag: str) -> Path:
    import open_clip

    if settings.get("hf_hub"):
        return fetch(settings["hf_hub"], tag)
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:  # network and file errors alike
        raise HiclError(
            f"--weights {tag}: can't be downloaded for {name} ({first_line(error)}); give a local file: --weights FILE"
        ) from None


@contextlib.contextmanager
def _quiet_libraries():
    """open_clip warns of a model without weights yet, huggingface_hub prints each retry; we say it in one line."""
    loggers = [logging.getLogger(name) for name in ("", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
