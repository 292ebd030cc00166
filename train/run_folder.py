"""What a run leaves on disk, apart from its tensors; who asks for no more than this needs no PyTorch.

A run's folder holds `config.toml`; while it trains `state.json` and the `state-<step>.safetensors` it names (network,
heads, optimisers, random state: all that --resume needs); at its end `model.json` and `model.safetensors` (network and
text embedding: all that inference needs, and no tensor of a correlation head).
"""

from pathlib import Path
from typing import Any

from hicl.errors import HiclError
from hicl.files import part_of, replacing
from hicl.read import read_json

MODEL, STATE, VERSION = "hicl-model", "hicl-state", 1


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, sees the old or the new text and nothing between."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def has_state(run: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (run / "state.json").exists()


def has_model(run: Path) -> bool:
    """Whether a run was finished in this folder."""
    return (run / "model.json").exists()


def model_meta(run: Path) -> dict:
    """Meta data of a finished model. Raises HiclError where there is none, or a damaged one."""
    path = run / "model.json"
    meta = _read_json(path, MODEL, "no finished model; train one with `hicl train --out …`")
    classes = meta.get("classes")
    _assert_sound(
        path,
        classes=isinstance(classes, list) and len(classes) > 0 and all(isinstance(name, str) for name in classes),
        config=isinstance(meta.get("config"), dict),
        teacher=isinstance(meta.get("teacher"), dict | None),
    )
    return meta


def state_meta(run: Path) -> dict:
    """Meta data of the last saved state. Raises HiclError where there is none, or a damaged one."""
    path = run / "state.json"
    meta = _read_json(path, STATE, "nothing to resume here; start without --resume")
    step, log, identity = (meta.get(key) for key in ("step", "log", "identity"))
    _assert_sound(
        path,
        step=type(step) is int and 0 <= step < 10**8,
        tensors=type(step) is int and meta.get("tensors") == state_name(step),  # and not a file elsewhere
        config=isinstance(meta.get("config"), dict),
        identity=isinstance(identity, dict) and {"classes", "width", "text", "data"} <= set(identity),
        log=isinstance(log, dict) and _is_log(log.get("rows"), log.get("sums")),
    )
    return meta


def state_name(step: int) -> str:
    """Of the file of a state's tensors."""
    return f"state-{step:08d}.safetensors"


def load_evaluation(run: Path, name: str) -> dict:
    """What `evaluate.save` wrote, by `answers.name_of`. Raises `FileNotFoundError`, or `HiclError` if it is damaged."""
    path = run / f"evaluation-{name}.json"
    found = read_json(path)
    kinds = {"miou": float, "accuracy": float, "iou": dict, "protocol": str, "data": str}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        raise HiclError(f"{path}: not what `hicl evaluate` writes; delete it and evaluate again")
    return found


def drop_state(run: Path) -> None:
    """Remove a finished run's state: it can't be trained on, its learning rate has reached 0."""
    (run / "state.json").unlink(missing_ok=True)
    drop_tensors(run)


def drop_tensors(run: Path, but: str = "") -> None:
    """Remove the tensors of states, but for a file of this name."""
    every = run / "state-*.safetensors"
    for pattern in (every.name, part_of(every).name):  # half-written ones of a killed run too
        for old in run.glob(pattern):
            if old.name != but:
                old.unlink(missing_ok=True)


def _read_json(path: Path, kind: str, missing: str) -> dict:
    try:
        meta = read_json(path)
    except FileNotFoundError:
        raise HiclError(f"{path}: {missing}") from None
    if not isinstance(meta, dict) or meta.get("format") != kind or meta.get("version") != VERSION:
        raise HiclError(f"{path}: not a {kind} of version {VERSION}")
    return meta


def _assert_sound(path: Path, **sound: bool) -> None:
    wrong = [key for key, value in sound.items() if not value]
    if wrong:
        raise HiclError(f"{path}: {wrong[0]}: missing, or not what hicl writes there; the file is damaged")


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
