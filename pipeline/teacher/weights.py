"""Files of weights as they are passed around: safetensors, state dicts, TorchScript. Nothing in them is executed."""

import collections
import pickle
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from hicl.errors import HiclError
from hicl.read import told_apart

State = dict[str, torch.Tensor]

_SIZES = {"input_resolution", "context_length", "vocab_size"}
_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.)+")  # by data-parallel training, by torch.compile

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")


def read_weights(path: Path) -> State:
    """A flat state dict of a .safetensors, a .pt or a TorchScript file. Raises `HiclError` for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with open(path, "rb") as file:
            head = file.read(512)
        said = told_apart(head) or _told_apart(path, head)
        if said:
            raise HiclError(f"{path}: not a file of weights{said}")
        if path.suffix == ".safetensors" or _is_safetensors(head):
            state = load_file(path)
        elif _holds(path, "/constants.pkl"):
            state = _read_script(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except HiclError:
        raise
    except FileNotFoundError:
        raise HiclError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise HiclError(f"{path}: not a readable safetensors file ({error})") from None
    except Exception as error:  # whatever the contents make torch, pickle and zipfile stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise HiclError(f"{path}: not a plain file of weights ({reason}); convert it to .safetensors") from None
    inner = state.get("state_dict", state) if isinstance(state, dict) else None
    state = {k: v for k, v in inner.items() if k not in _SIZES} if isinstance(inner, dict) else {}
    if not state or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise HiclError(f"{path}: not a file of weights (expected a dictionary of tensors)")
    return {_WRAPPED.sub("", key): value for key, value in state.items()}


def _told_apart(path: Path, head: bytes) -> str:
    """What other file of a model people take for its weights, to go into an error; "" if it may be them."""
    if head.lstrip().startswith(b"{"):
        return " (JSON: a model's config, or the list of its parts; give the file of weights itself, in one piece)"
    if _holds(path, ".npy"):
        return " (NumPy arrays, as big_vision publishes; open_clip publishes the same model as .safetensors)"
    return ""


def _is_safetensors(head: bytes) -> bool:
    """Whatever a file is called: 8 bytes say how long the JSON behind them is, at most 100 MB."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _holds(path: Path, ending: str) -> bool:
    """Whether a file is a ZIP archive with an entry of such a name."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(ending) for name in archive.namelist())


def _read_script(path: Path) -> State:
    """Tensors of a TorchScript archive by their dotted names, such as OpenAI's own ViT-B-16.pt.

    `torch.jit.load` would compile the program in it, and run what it calls `__setstate__`. Here the program is left
    alone: modules are read as the bare attributes that the archive's data.pkl gives them, by an unpickler that knows
    tensors, lists of numbers and nothing else. Layout: pytorch/pytorch, torch/csrc/jit/serialization/pickler.cpp.
    """
    with zipfile.ZipFile(path) as archive:
        (data,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]*/data\.pkl", name))
        with archive.open(_stored(archive, data)) as file:
            root = _unpickler(file, archive, data.removesuffix("data.pkl")).load()
    state: State = {}
    todo, seen = [("", root)], set()
    while todo:
        prefix, module = todo.pop()
        attributes = getattr(module, "attributes", None)
        if isinstance(attributes, dict) and id(module) not in seen:
            seen.add(id(module))
            todo += [(f"{prefix}{name}.", value) for name, value in attributes.items()]
            tensors = {name: value for name, value in attributes.items() if isinstance(value, torch.Tensor)}
            state |= {f"{prefix}{name}": value for name, value in tensors.items()}
    return state


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An entry that isn't packed, so that it can't be larger than its file."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is packed")
    return entry


def _unpickler(file: IO[bytes], archive: zipfile.ZipFile, folder: str) -> pickle.Unpickler:
    # All that a pickle can call is made here anew, so that what it may do to one of them ends with it.
    class Module:
        def __setstate__(self, attributes: Any) -> None:
            self.attributes = attributes

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        return torch.as_strided(storage, size, stride, offset)

    def first(value: Any, *_: Any) -> Any:
        return value

    storages: dict[str, torch.Tensor] = {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "__torch__" or module.startswith("__torch__."):
                return Module
            if module == "torch" and name in _STORAGES:
                return _STORAGES[name]
            if module == "torch.jit._pickle" and name in _LISTS:
                return first
            known = {"torch._utils _rebuild_tensor_v2": tensor, "collections OrderedDict": collections.OrderedDict}
            if f"{module} {name}" not in known:
                raise pickle.UnpicklingError(f"holds a {module}.{name}, which is no weight")
            return known[f"{module} {name}"]

        def persistent_load(self, pid: Any) -> torch.Tensor:
            _, dtype, key, _, count = pid
            if key not in storages:
                content = np.frombuffer(archive.read(_stored(archive, f"{folder}data/{key}")), np.uint8)
                if len(content) != count * dtype.itemsize:
                    raise ValueError(f"data/{key} has {len(content)} bytes for {count} numbers")
                storages[key] = torch.from_numpy(content.copy()).view(dtype)
            return storages[key]

    return Unpickler(file)
