"""Settings: frozen dataclasses, nested ones too, whose fields say of themselves what they are.

A field made by `setting` carries its help, unit, choices and bounds. The command line's options, the keys of a TOML
file, `hicl config` and docs/settings.md are made from that one declaration. Unknown keys and wrong types are errors.
"""

import dataclasses
import difflib
import json
import math
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hicl.errors import HiclError
from hicl.read import read_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
_ABOUT = "setting"
_IN_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class About:
    """What a setting says of itself.

    unit: of its value. choices: the only values it may have. above, least, below: bounds, the first and last exclusive.
    shown: its default in words, where the value itself (often None) isn't telling. recorded: False for what says which
    scenes to make or where files are, and not how a scene is made.
    """

    help: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    above: float | None = None
    least: float | None = None
    below: float | None = None
    shown: str = ""
    recorded: bool = True


@dataclass(frozen=True)
class Setting:
    """A field of a settings dataclass: its dotted key, the type of its value (None apart), default and description."""

    key: str
    kind: Any
    default: Any
    about: About

    def what(self) -> str:
        """Help with choices and unit, on one line."""
        choices = f" ({', '.join(self.about.choices)})" if self.about.choices else ""
        return f"{self.about.help}{choices}{f', in {self.about.unit}' if self.about.unit else ''}"

    def shown(self) -> str:
        """The default, as a page shows it."""
        return self.about.shown or _toml(self.default).strip('"')

    def describe(self) -> str:
        """What it is, and its default."""
        return f"{self.what()}. [default: {self.shown()}]"


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field of a settings dataclass; `about` as of `About`."""
    return dataclasses.field(default=default, metadata={_ABOUT: About(help, **about)})


def settings_of(kind: type, prefix: str = "") -> Iterator[Setting]:
    """Every setting of a settings dataclass, nested ones behind their section's name and a dot, in order."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from settings_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            about = field.metadata[_ABOUT]
            yield Setting(prefix + field.name, _without_none(hints[field.name]), field.default, about)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested tables. Raises `HiclError`."""
    try:
        return tomllib.loads(read_bytes(Path(path)).decode("utf-8"))
    except FileNotFoundError:
        raise HiclError(f"{path}: no such file") from None
    except ValueError as error:  # with numbers of too many digits
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
            raise HiclError(
                f"{source}: unknown key {shown(name)}; {_nearest(name, [prefix + key for key in flat(base)])}"
            )
        current = getattr(base, key)
        if dataclasses.is_dataclass(hints[key]):
            found[key] = dataclasses.replace(current, **changes(current, value, source, name + "."))
        else:
            found[key] = _cast(value, hints[key], name, source)
    return found


def _nearest(name: str, known: list[str]) -> str:
    """What may have been meant: by the key's last part, in any section."""
    by_part = {key.rpartition(".")[2]: key for key in known}
    near = difflib.get_close_matches(name.rpartition(".")[2], by_part, 1)
    return f"did you mean {by_part[near[0]]!r}?" if near else f"known are {', '.join(known)}"


def _without_none(kind: Any) -> Any:
    """`int` of `int | None`."""
    if isinstance(kind, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not types.NoneType)
    return kind


def _cast(value: Any, kind: Any, name: str, source: str) -> Any:
    kind = _without_none(kind)  # absent means None
    if isinstance(kind, types.GenericAlias):
        if isinstance(value, list | tuple):
            return tuple(_cast(part, typing.get_args(kind)[0], name, source) for part in value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    elif type(value) is kind and (kind is not int or abs(value) < 1 << 63):
        return value
    raise HiclError(f"{source}: {name} = {shown(value)} must be {_IN_WORDS.get(kind, 'a list')}")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, tables in tables
        return "…"
    return text if len(text) <= 80 else f"{text[:80]}…"


def check(config: T, spelled: Callable[[str], str] = str) -> T:
    """`config` itself, if every value is among its choices and within its bounds; else a `HiclError` that names it.

    spelled: how the user knows a key, such as an option.
    """
    values = flat(config)
    for setting in settings_of(type(config)):
        value, about = values[setting.key], setting.about
        said = f"{spelled(setting.key)} {value:.80}" if isinstance(value, str) else f"{spelled(setting.key)} {value}"
        if value is None:
            continue
        if about.choices and value not in about.choices:
            raise HiclError(f"{said}: unknown; known are {', '.join(about.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise HiclError(f"{said}: must be a finite number")
        if about.above is not None and not value > about.above:
            raise HiclError(f"{said}: must be greater than {about.above:g}")
        if about.least is not None and not value >= about.least:
            raise HiclError(f"{said}: must be at least {about.least:g}")
        if about.below is not None and not value < about.below:
            raise HiclError(f"{said}: must be smaller than {about.below:g}")
    return config


def flat(config: Any) -> dict[str, Any]:
    """Every value by its dotted key."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values |= {f"{field.name}.{key}": inner for key, inner in flat(value).items()}
        else:
            values[field.name] = value
    return values


def recorded(config: Any) -> dict[str, Any]:
    """The values, by dotted key, that say how a result was made."""
    values = flat(config)
    return {setting.key: values[setting.key] for setting in settings_of(type(config)) if setting.about.recorded}


def to_toml(config: Any, comments: bool = False) -> str:
    """A config of at most one level of tables as TOML that gives an equal one again.

    comments: with each setting's help above it, and as its default the value in `config`. What is None isn't in a TOML
    file: it is left out, or a comment.
    """
    values, lines, section = flat(config), [], ""
    for setting in sorted(settings_of(type(config)), key=lambda setting: "." in setting.key):
        table, _, name = setting.key.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        value = values[setting.key]
        if comments:
            told = dataclasses.replace(setting, default=value).describe()
            lines += ["", *textwrap.wrap(told, 116, initial_indent="# ", subsequent_indent="# ")]
            lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
        elif value is not None:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines).strip() + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's basic strings escape as JSON's do
    return repr(value)
