"""TOML files that a person writes: read, converted to types, and every mistake named with file, key and value."""

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from contracts.errors import ConfigError

T = TypeVar("T")
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"[^.\[\]]+")


def read(path: Path) -> dict[str, Any]:
    """Return a file's values; ConfigError when it is not TOML. FileNotFoundError passes: the caller knows what there is."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not TOML: {error}") from None


def shipped(folder: Path, name: str, kind: str) -> Path:
    """Return the path of the file that `name` stands for: a TOML file's path as it is, else one of `folder`.

    ConfigError lists what there is.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.toml")))
        raise ConfigError(f"no {kind} {name}: name a TOML file or one of {there}")
    return path


def convert(values: dict[str, Any], kind: type[T], where: str) -> T:
    """Return `values` as `kind`; ConfigError says file (`where`), key, value and what is allowed, in one line."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_said(str(error), values)}") from None


def _said(message: str, values: dict[str, Any]) -> str:
    """Turn msgspec's "Expected ... - at `$.a.b[0]`" into "a.b[0] = value: expected ..."."""
    match = _PLACE.match(message)
    if match is None or not match["path"]:
        return message
    value: Any = values
    for step in _STEP.findall(match["path"]):
        try:
            value = value[int(step)] if isinstance(value, list | tuple) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            return message  # the path leads through a key of a map ([...]): the message names it better
    if isinstance(value, dict | list):
        return f"{match['path']}: {match['what']}"
    return f"{match['path']} = {value!r}: {match['what'][0].lower()}{match['what'][1:]}"
