"""SQL as files: the schema, the views and the SRE's query book, found by name. Imports nothing of ours.

A query file starts with a comment: its title, then one line per parameter, `-- $name = default: what it is` (without
`= default` the caller must give it). Text below the comment is one SELECT with `$name` parameters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_PARAMETER = re.compile(r"^\$(?P<name>\w+)(?:\s*=\s*(?P<default>[^:]+))?:\s*(?P<doc>.+)$")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A `$name` of a query. `default` is text as a person would type it; None = must be given."""

    name: str
    default: str | None
    doc: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """One file of the query book."""

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    text: str

    def bind(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the values of all parameters: those given, else the defaults.

        Raises KeyError (one line, naming what there is) for a parameter that is unknown or missing.
        """
        given = given or {}
        known = {p.name for p in self.parameters}
        if unknown := sorted(set(given) - known):
            raise KeyError(f"query {self.name} has no parameter {unknown[0]!r}; it takes {', '.join(sorted(known)) or 'none'}")
        values = {p.name: given.get(p.name, p.default) for p in self.parameters}
        if missing := [p for p in self.parameters if p.name not in given and p.default is None]:
            raise KeyError(f"query {self.name} needs {missing[0].name}: {missing[0].doc}")
        return values


def names(folder: str) -> tuple[str, ...]:
    """Return the names of the files in `schema`, `views` or `queries`, sorted."""
    return tuple(sorted(file.stem for file in (FOLDER / folder).glob("*.sql")))


@cache
def text(folder: str, name: str) -> str:
    """Return the text of one file. KeyError lists what there is."""
    if name not in names(folder):
        raise KeyError(f"no {folder} file {name!r}; there are {', '.join(names(folder))}")
    return (FOLDER / folder / f"{name}.sql").read_text(encoding="utf-8")


def query(name: str) -> Query:
    """Return a query of the book by name. KeyError lists what there is."""
    source = text("queries", name)
    title: list[str] = []
    parameters: list[Parameter] = []
    for line in source.splitlines():
        if not line.startswith("--"):
            break
        words = line[2:].strip()
        if match := _PARAMETER.match(words):
            default = match["default"]
            parameters.append(
                Parameter(name=match["name"], default=default.strip() if default is not None else None, doc=match["doc"])
            )
        elif words:
            title.append(words)
    return Query(name=name, title=" ".join(title), parameters=tuple(parameters), text=source)
