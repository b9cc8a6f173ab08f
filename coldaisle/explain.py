"""From a validation error to one line that names key, value and what is allowed."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from contracts.errors import ConfigError

T = TypeVar("T")
_PATH = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")


def read_toml(file: Path, kind: type[T]) -> T:
    """Return the settings in a TOML file; ConfigError names file, key, value and what is allowed."""
    try:
        table = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"config {file}: {error.strerror}; give one with --config") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config {file}: not TOML: {error}") from None
    return convert(table, kind, f"config {file}")


def convert(table: Mapping[str, Any], kind: type[T], where: str) -> T:
    """Return `table` as `kind`; ConfigError starts with `where` and names key, value and what is allowed."""
    try:
        return msgspec.convert(table, kind, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain(str(error), table, kind)}") from None


def explain(message: str, table: Any, kind: Any) -> str:
    """Return one line for msgspec's message about `table`."""
    match = _PATH.search(message)
    what = message[: match.start()] if match else message
    path = match["path"] if match else ""
    value, info = table, inspect.type_info(kind)
    for step in re.findall(r"\.\.\.|[^.\[\]]+", path):
        value = _value(value, step)
        info = _inside(info, step)
    key = path or "(top)"
    if isinstance(info, inspect.StructType):
        return f"{key}: {what}; {allowed(info)}"
    return f"{key} = {value!r}: {what}; {allowed(info)}"


def allowed(info: inspect.Type) -> str:
    """Say in words what a type takes."""
    if isinstance(info, inspect.LiteralType):
        return "allowed are " + ", ".join(repr(v) for v in info.values)
    if isinstance(info, inspect.StructType):
        return "allowed are the keys " + ", ".join(f.encode_name for f in info.fields)
    if isinstance(info, inspect.CustomType):
        return f"allowed is a {info.cls.__name__.lower()}"
    if isinstance(info, inspect.UnionType):
        return " or ".join(allowed(t).removeprefix("allowed is ") for t in info.types)
    bounds = [
        f"{sign} {getattr(info, name)}"
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(info, name, None) is not None
    ]
    name = type(info).__name__.removesuffix("Type").lower()
    return f"allowed is {name}" + (" " + " and ".join(bounds) if bounds else "")


def _decode(kind: type, value: Any) -> Any:
    """Paths are written as text."""
    if issubclass(kind, Path) and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"Expected a path, got `{type(value).__name__}`")


def _value(value: Any, step: str) -> Any:
    """The value one step further down; `...` (any value of a table) shows the whole table."""
    if step == "...":
        return value
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(value, list | tuple) and step.isdigit():
        return value[int(step)]
    return value


def _inside(info: inspect.Type, step: str) -> inspect.Type:
    """The type one step further down."""
    if isinstance(info, inspect.UnionType):
        structs = [t for t in info.types if isinstance(t, inspect.StructType | inspect.DictType)]
        info = structs[0] if structs else info
    if isinstance(info, inspect.StructType):
        return next((f.type for f in info.fields if f.encode_name == step), info)
    if isinstance(info, inspect.DictType):
        return info.value_type
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return info.item_type
    return info
