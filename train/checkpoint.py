"""A run's tensors on disk: safetensors and never pickle, each file replaced in one step. `run_folder` has the rest."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hicl.errors import HiclError
from hicl.files import replacing
from hicl.train import run_folder


def _replace_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
        except SafetensorError as error:  # a full disk, in words
            raise HiclError(f"{path}: can't be written: {str(error).splitlines()[0]}") from None


def save_state(run: Path, step: int, tensors: dict[str, torch.Tensor], meta: dict) -> None:
    """Save a state to resume from; `state.json` names its tensors' file, so replacing it is what makes it current."""
    name = run_folder.state_name(step)
    _replace_tensors(run / name, tensors)
    meta = {"format": run_folder.STATE, "version": run_folder.VERSION, "step": step, "tensors": name} | meta
    run_folder.replace_text(run / "state.json", json.dumps(meta, indent=1))
    run_folder.drop_tensors(run, but=name)


def load_state(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and meta data of the last saved state. Raises HiclError where there is none, or a damaged one."""
    meta = run_folder.state_meta(run)
    return _read_tensors(run / meta["tensors"]), meta


def save_model(run: Path, net: nn.Module, text: torch.Tensor, meta: dict) -> None:
    """Save what inference needs: the network's tensors as `net.*`, and `text` [C, d]."""
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    _replace_tensors(run / "model.safetensors", tensors | {"text": text})
    meta = {"format": run_folder.MODEL, "version": run_folder.VERSION} | meta
    run_folder.replace_text(run / "model.json", json.dumps(meta, indent=1))


def load_model(run: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and meta data of a finished model. Raises HiclError where there is none, or a damaged one."""
    meta, file = run_folder.model_meta(run), run / "model.safetensors"
    tensors = _read_tensors(file)
    text = tensors.get("text")
    if text is None or text.ndim != 2 or text.dtype != torch.float32 or not text.numel():
        raise HiclError(f"{file}: no tensor 'text' of float32 [classes, width]; the file is damaged")
    if len(text) != len(meta["classes"]):
        raise HiclError(f"{file}: text of {len(text)} classes, but model.json names {len(meta['classes'])}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise HiclError(f"{file}: {name} is not finite; the file is damaged")
    return tensors, meta


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


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise HiclError(f"{path}: unreadable: {str(error).splitlines()[0][:160]}") from None
