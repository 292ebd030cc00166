"""Configuration: frozen dataclasses, nested ones too, filled from TOML. Unknown keys and wrong types are errors."""

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from hicl.errors import HiclError
from hicl.read import read_bytes

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested tables. Raises `HiclError`."""
    try:
        return tomllib.loads(read_bytes(Path(path)).decode("utf-8"))
    except (FileNotFoundError, ValueError) as error:  # with numbers of too many digits
        raise HiclError(f"{path}: not a readable TOML file: {error}") from None
    except RecursionError:
        raise HiclError(f"{path}: not a readable TOML file: nested too deeply") from None


def updated(base: T, table: dict[str, Any], source: str) -> T:
    """`base` with the values of a nested table in their places. Raises `HiclError`, naming the source and the key."""
    return dataclasses.replace(base, **changes(base, table, source))


def changes(base: Any, table: dict[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """The table's values as fields of `base`, checked against their types."""
    if not isinstance(table, dict):
        raise HiclError(f"{source}: {prefix.rstrip('.')} must be a table")
    hints = typing.get_type_hints(type(base))
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = prefix + key
        if key not in hints:
            raise HiclError(f"{source}: unknown key {name!r}; known are {', '.join(hints)}")
        current = getattr(base, key)
        if dataclasses.is_dataclass(current):
            found[key] = dataclasses.replace(current, **changes(current, value, source, name + "."))
        else:
            found[key] = _cast(value, hints[key], name, source)
    return found


def _cast(value: Any, kind: Any, name: str, source: str) -> Any:
    if isinstance(kind, types.UnionType):  # `int | None`: absent means None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list | tuple):
            return tuple(_cast(part, typing.get_args(kind)[0], name, source) for part in value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    elif type(value) is kind and (kind is not int or abs(value) < 1 << 63):
        return value
    raise HiclError(f"{source}: {name} = {shown(value)} must be {getattr(kind, '__name__', kind)}")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, tables in tables
        return "…"
    return text if len(text) <= 80 else f"{text[:80]}…"


def flat(config: Any) -> dict[str, Any]:
    """Every value by its dotted key."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values |= {f"{field.name}.{key}": inner for key, inner in flat(value).items()}
        else:
            values[field.name] = value
    return values


def to_toml(config: Any) -> str:
    """A config of at most one level of tables as TOML that gives an equal one again."""
    scalars, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            lines = [f"{key} = {_toml(inner)}" for key, inner in flat(value).items()]
            tables.append("\n".join([f"[{field.name}]", *lines]))
        else:
            scalars.append(f"{field.name} = {_toml(value)}")
    return "\n\n".join(["\n".join(scalars), *tables]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
