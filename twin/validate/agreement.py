"""What a comparison with a published figure comes to, and the register of all such comparisons.

A check is a function (data folder or None) -> list of Agreement, registered by `@check(NAME)` in a file of this folder. What
needs data that is not at hand raises `NoData` (through `data_file`) and becomes a named "skipped", which is never ok.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

import twin.validate

Kind = Literal["fitted", "checked", "blind"]
"""fitted: the figure itself was used to choose constants; checked: constants came from elsewhere or from other rows of the
same source; blind: the figure was looked at only after all constants stood"""
Outcome = Literal["ok", "off", "reported", "skipped"]
"""reported: a figure without a bound, for the reader to judge"""
Check = Callable[[Path | None], "list[Agreement]"]
Progress = Callable[[str, int, int], None]
"""(check about to run, checks done, checks in all); at the end ("", all, all)"""


class NoData(Exception):  # noqa: N818 - an absence, not an error
    """A check needs a file that is not at hand; the text names it."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure beside what was published or demanded."""

    name: str
    """dotted, unique: "splitwise.decode.held_out" """
    what: str
    """one line for the reader"""
    unit: str = ""
    measured: float | None = None
    published: float | None = None
    """the source's figure; None where only a bound is known"""
    low: float | None = None
    high: float | None = None
    """measured must lie in [low, high]; None = open"""
    kind: Kind
    outcome: Outcome
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Say whether the figure keeps its bound."""
        return self.outcome == "ok"


def bounded(
    name: str,
    what: str,
    measured: float,
    *,
    kind: Kind,
    low: float | None = None,
    high: float | None = None,
    published: float | None = None,
    unit: str = "",
    detail: str = "",
) -> Agreement:
    """Return the agreement of a figure that must lie in [low, high]; a figure that is not a number is off."""
    if low is None and high is None:
        raise ValueError(f"{name}: a bounded figure needs low or high")
    inside = (low is None or measured >= low) and (high is None or measured <= high) and measured == measured
    return Agreement(
        name=name,
        what=what,
        unit=unit,
        measured=measured,
        published=published,
        low=low,
        high=high,
        kind=kind,
        outcome="ok" if inside else "off",
        detail=detail,
    )


def reported(
    name: str, what: str, measured: float, *, kind: Kind, published: float | None = None, unit: str = "", detail: str = ""
) -> Agreement:
    """Return a figure that has no bound."""
    return Agreement(
        name=name, what=what, unit=unit, measured=measured, published=published, kind=kind, outcome="reported", detail=detail
    )


def skipped(name: str, why: str) -> Agreement:
    """Return the mark of a check that did not run."""
    return Agreement(name=name, what="not run", kind="checked", outcome="skipped", detail=why)


def data_file(data: Path | None, name: str) -> Path:
    """Return the path of a data file; NoData when there is no folder or no such file in it."""
    if data is None:
        raise NoData(f"needs {name}: give the data folder (--data or COLDAISLE_DATA)")
    path = data / name
    if not path.exists():
        raise NoData(f"needs {name}, which is not in the data folder")
    return path


_CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Register a check under `name`; when it raises NoData it returns one "skipped" of that name."""

    def register(function: Check) -> Check:
        def checked(data: Path | None) -> list[Agreement]:
            try:
                return function(data)
            except NoData as absent:
                return [skipped(name, str(absent))]

        if name in _CHECKS:
            raise ValueError(f"two checks are called {name}")
        _CHECKS[name] = checked
        return checked

    return register


def checks() -> dict[str, Check]:
    """Return all checks of this folder by name, in alphabetical order of the files."""
    for module in sorted(pkgutil.iter_modules(twin.validate.__path__), key=lambda each: each.name):
        importlib.import_module(f"twin.validate.{module.name}")
    return dict(_CHECKS)


def run(data: Path | None, only: Iterable[str] = (), progress: Progress | None = None) -> list[Agreement]:
    """Run the checks named in `only` (all when empty) and return what each found; KeyError for an unknown name."""
    known = checks()
    names = list(only) or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise KeyError(f"no such check: {', '.join(unknown)}; there are {', '.join(known)}")
    found: list[Agreement] = []
    for done, name in enumerate(names):
        if progress is not None:
            progress(name, done, len(names))
        found += known[name](data)
    if progress is not None:
        progress("", len(names), len(names))
    return found


def as_json(agreements: Iterable[Agreement]) -> list[dict[str, Any]]:
    """Return plain values for json.dumps; `ok` is written out."""
    return [{**msgspec.to_builtins(one), "ok": one.ok} for one in agreements]
