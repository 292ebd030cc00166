"""What a run leaves on disk: safetensors and JSON, never pickle, each replaced in one step.

A run's folder holds `config.toml`; while it trains `state.json` and the `state-<step>.safetensors` it names (network,
heads, optimisers, random state: all that --resume needs); at its end `model.json` and `model.safetensors` (network and
text embedding: all that inference needs, and no tensor of a correlation head).
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hicl.errors import HiclError
from hicl.files import part_of, replacing
from hicl.read import read_json

MODEL_FORMAT, STATE_FORMAT, VERSION = "hicl-model", "hicl-state", 1


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old or the new text and nothing between."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _replace_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
        except SafetensorError as error:  # a full disk, in words
            raise HiclError(f"{path}: can't be written: {str(error).splitlines()[0]}") from None


def save_state(run: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict) -> None:
    """Save a state to resume from; `state.json` names its tensors' file, so replacing it is what makes it current."""
    name = _state_name(step)
    _replace_tensors(run / name, tensors)
    meta = {"format": STATE_FORMAT, "version": VERSION, "step": step, "tensors": name} | meta
    replace_text(run / "state.json", json.dumps(meta, indent=1))
    _drop_tensors(run, but=name)


def load_state(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and meta data of the last saved state. Raises HiclError where there is none, or a damaged one."""
    path = run / "state.json"
    meta = _read_json(path, STATE_FORMAT, "nothing to resume here; start without --resume")
    step, log, identity = (meta.get(key) for key in ("step", "log", "identity"))
    _assert_sound(
        path,
        step=type(step) is int and 0 <= step < 10**8,
        tensors=type(step) is int and meta.get("tensors") == _state_name(step),  # and not a file elsewhere
        config=isinstance(meta.get("config"), dict),
        identity=isinstance(identity, dict) and {"classes", "width", "text", "data"} <= set(identity),
        log=isinstance(log, dict) and _is_log(log.get("rows"), log.get("sums")),
    )
    return _read_tensors(run / meta["tensors"]), meta


def _state_name(step: int) -> str:
    return f"state-{step:08d}.safetensors" if type(step) is int else ""


def _is_log(rows: Any, sums: Any) -> bool:
    """Whether these are what `log.Log.state` gives."""
    rows_sound = isinstance(rows, list) and all(
        isinstance(row, dict) and all(map(_is_number, row.values())) for row in rows
    )
    return rows_sound and isinstance(sums, dict) and all(map(_is_sum, sums.values()))


def _is_sum(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[1] > 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _assert_sound(path: Path, **sound: bool) -> None:
    wrong = [key for key, value in sound.items() if not value]
    if wrong:
        raise HiclError(f"{path}: {wrong[0]}: missing, or not what hicl writes there; the file is damaged")


def drop_state(run: Path) -> None:
    """Remove a finished run's state: it can't be trained on, its learning rate has reached 0."""
    (run / "state.json").unlink(missing_ok=True)
    _drop_tensors(run)


def _drop_tensors(run: Path, but: str = "") -> None:
    every = run / "state-*.safetensors"
    for pattern in (every.name, part_of(every).name):  # half-written ones of a killed run too
        for old in run.glob(pattern):
            if old.name != but:
                old.unlink(missing_ok=True)


def has_state(run: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (run / "state.json").exists()


def has_model(run: Path) -> bool:
    """Whether a run was finished in this folder."""
    return (run / "model.json").exists()


def save_model(run: Path, net: nn.Module, text: torch.Tensor, meta: dict) -> None:
    """Save what inference needs: the network's tensors as `net.*`, and `text` [C, d]."""
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    _replace_tensors(run / "model.safetensors", tensors | {"text": text})
    meta = {"format": MODEL_FORMAT, "version": VERSION} | meta
    replace_text(run / "model.json", json.dumps(meta, indent=1))


def load_model(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and meta data of a finished model. Raises HiclError where there is none, or a damaged one."""
    path, file = run / "model.json", run / "model.safetensors"
    meta = _read_json(path, MODEL_FORMAT, "no finished model; train one with `hicl train --out …`")
    classes = meta.get("classes")
    _assert_sound(
        path,
        classes=isinstance(classes, list) and len(classes) > 0 and all(isinstance(name, str) for name in classes),
        config=isinstance(meta.get("config"), dict),
        teacher=isinstance(meta.get("teacher"), dict | None),
    )
    tensors = _read_tensors(file)
    text = tensors.get("text")
    if text is None or text.ndim != 2 or text.dtype != torch.float32 or not text.numel():
        raise HiclError(f"{file}: no tensor 'text' of float32 [classes, width]; the file is damaged")
    if len(text) != len(meta["classes"]):
        raise HiclError(f"{file}: text of {len(text)} classes, but {path} names {len(meta['classes'])}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise HiclError(f"{file}: {name} is not finite; the file is damaged")
    return tensors, meta


def load_evaluation(run: Path, name: str) -> dict:
    """What `evaluate.save` wrote, by `answers.name_of`. Raises `FileNotFoundError`, or `HiclError` if it is damaged."""
    path = run / f"evaluation-{name}.json"
    found = read_json(path)
    kinds = {"miou": float, "accuracy": float, "iou": dict, "protocol": str, "data": str}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        raise HiclError(f"{path}: not what `hicl evaluate` writes; delete it and evaluate again")
    return found


def assert_fits(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, where: Path) -> None:
    """Compare the tensors `prefix + name` with a module, which may be one without memory (on `meta`).

    Raises:
        HiclError: names missing, names too many, or shapes or types that differ; it lists them.
    """
    own = module.state_dict()
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    wrong = [f"{prefix}{n} is missing" for n in own if n not in found]
    wrong += [f"{prefix}{n} is unknown" for n in found if n not in own]
    wrong += [
        f"{prefix}{n} is {_kind(found[n])} instead of {_kind(own[n])}"
        for n in own
        if n in found and _kind(found[n]) != _kind(own[n])
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise HiclError(f"{where}: does not fit this network: {shown}")


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def restore(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, where: Path) -> None:
    """Load the tensors `prefix + name` into a module, all of them or none.

    A checkpoint that silently doesn't match gives mIoU near 0 (CLIP2Scene issue 14).

    Raises:
        HiclError: as of `assert_fits`.
    """
    assert_fits(module, tensors, prefix, where)
    module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """An optimiser's state as named tensors; `names` of its parameters in their order."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"{prefix}{name}:{key}": value
        for name, parameter in zip(names, parameters, strict=True)
        for key, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, names: list[str], tensors: dict[str, torch.Tensor], prefix: str, where: Path
) -> None:
    """The way back of `optimiser_tensors`. Raises HiclError for a tensor too many, missing, or of another shape.

    None at all is right for an optimiser that hasn't stepped yet.
    """
    parameters = dict(zip(names, (p for group in optimiser.param_groups for p in group["params"]), strict=True))
    state: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
    for full, value in tensors.items():
        if full.startswith(prefix):
            name, _, key = full.removeprefix(prefix).rpartition(":")
            fits = name in parameters and value.is_floating_point()
            if not fits or (value.dim() and value.shape != parameters[name].shape):
                raise HiclError(f"{where}: does not fit this network: {full} {list(value.shape)}")
            # AdamW counts its steps on the CPU.
            state[name][key] = value.to(parameters[name].device) if value.dim() else value
    keys = {key for values in state.values() for key in values}
    missing = [f"{prefix}{name}:{key}" for name in names for key in sorted(keys - state[name].keys())]
    if missing:
        raise HiclError(f"{where}: does not fit this network: {'; '.join(missing[:5])} missing ({len(missing)} in all)")
    for name, values in state.items():
        if values:
            optimiser.state[parameters[name]].update(values)


def _read_json(path: Path, kind: str, missing: str) -> dict:
    try:
        meta = read_json(path)
    except FileNotFoundError:
        raise HiclError(f"{path}: {missing}") from None
    if not isinstance(meta, dict) or meta.get("format") != kind or meta.get("version") != VERSION:
        raise HiclError(f"{path}: not a {kind} of version {VERSION}")
    return meta


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise HiclError(f"{path}: unreadable: {str(error).splitlines()[0][:160]}") from None
