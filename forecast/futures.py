"""What is known of the future: announced events and maintenance, applied to paths and bands, and the weather as a covariate.

An event says by which factor a series departs from its usual course between two times, and how sure that is. It is taken out of
the past before anything is learnt (divided by its factor, so that a launch is not expected again tomorrow) and put into the
forecast. Maintenance is a time about which the past and the models say nothing: masked in both, and named.

    [[event]]                                 # TOML; a time without an offset is UTC
    name = "launch"
    target = "load"
    series = "chat*"                          # a shell pattern
    from = 2026-07-01T10:00:00+02:00
    to = 2026-07-01T14:00:00+02:00
    factor = 1.8                              # times the usual course; 1 if left out
    sd = 0.3                                  # one sigma of the factor; 0 if left out
    [[event]]
    name = "row 3 down"
    target = "power"
    series = "row-3"
    from = 2026-07-02T06:00:00Z
    to = 2026-07-02T09:00:00Z
    maintenance = true
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.grids import Floats, Ints, epoch_s


@dataclass(frozen=True, kw_only=True)
class Event:
    """One announced departure from the usual course, over [from_s, to_s) in seconds UTC."""

    name: str
    target: str
    series: str
    """a shell pattern"""
    from_s: int
    to_s: int
    factor: float = 1.0
    sd: float = 0.0
    """one sigma of the factor"""
    maintenance: bool = False
    """nothing is known of the series in this time"""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What events do to each interval [S, H]: the usual mean times `factor` +- `sd`; not `known` under maintenance."""

    factor: Floats
    sd: Floats
    known: NDArray[np.bool_]
    names: tuple[tuple[str, ...], ...]
    """[S] of the events that touch each series"""


def events_of(text: str) -> tuple[Event, ...]:
    """Return the events of a TOML text. Raises InputError, one line that names the event and what to do."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"events: no TOML: {error}") from None
    unknown = set(given) - {"event"}
    if unknown or not isinstance(given.get("event", []), list):
        raise InputError(f"events: write [[event]] tables, not {', '.join(sorted(unknown)) or 'event = ...'}")
    return tuple(_event(i, table) for i, table in enumerate(given.get("event", []), start=1))


def effect_of(events: Sequence[Event], target: str, names: Sequence[str], ends_s: Ints, step_s: int) -> Effect:
    """Return what the events do to the means over the intervals of `step_s` that end at `ends_s` [H].

    An event that covers a share of an interval counts by this share. Events that overlap are taken as independent: their
    factors multiply, their relative variances add.
    """
    shape = (len(names), len(ends_s))
    factor, sd, known = np.ones(shape), np.zeros(shape), np.ones(shape, dtype=np.bool_)
    touched: list[list[str]] = [[] for _ in names]
    for event in events:
        rows = [s for s, name in enumerate(names) if event.target == target and fnmatchcase(name, event.series)]
        share = np.clip(np.minimum(ends_s, event.to_s) - np.maximum(ends_s - step_s, event.from_s), 0, step_s) / step_s
        if not rows or not share.any():
            continue
        for s in rows:
            touched[s].append(event.name)
        if event.maintenance:
            known[rows] &= share == 0
            continue
        own = 1.0 + share * (event.factor - 1.0)
        sd[rows] = np.hypot(sd[rows] * own, factor[rows] * share * event.sd)
        factor[rows] *= own
    return Effect(factor=factor, sd=sd, known=known, names=tuple(map(tuple, touched)))


def usual(batch: Batch, events: Sequence[Event]) -> Batch:
    """Return the batch as it would have been without the events: values divided by their factor, gaps where that is 0 or under
    maintenance. Nothing is copied where no event lies in the batch."""
    if not len(batch.ts) or not any(event.target == batch.target for event in events):
        return batch
    effect = effect_of(events, batch.target, batch.names, batch.ts, batch.step_s)
    if not any(effect.names):
        return batch
    known = effect.known & (effect.factor > 1e-6)
    values = np.where(known, batch.values / np.where(known, effect.factor, 1.0), np.nan)
    return replace(batch, values=values)


def apply(effect: Effect, medians: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Return medians and scale (one sigma) [S, H] with the events in them: the factor times both, its doubt in quadrature; NaN
    under maintenance."""
    moved = np.where(effect.known, medians * effect.factor, np.nan)
    return moved, np.where(effect.known, np.hypot(scale * effect.factor, medians * effect.sd), np.nan)


def applied(
    effect: Effect,
    values: Floats,
    levels: Sequence[float],
    *,
    lower: float | Floats = float("-inf"),
    upper: float | Floats = float("inf"),
) -> Floats:
    """Return quantiles `values` [S, H, L] with the events in them, ordered, within the bounds (a number or [S]); NaN under
    maintenance. `levels` must hold .5, the median that the doubt of a factor is taken from."""
    middle = values[:, :, list(levels).index(0.5)]
    out = widened(values * effect.factor[:, :, None], levels, np.abs(middle) * effect.sd)
    low, high = np.reshape(lower, (-1, 1, 1)), np.reshape(upper, (-1, 1, 1))
    bound = np.clip(out, low, high) if any(effect.names) else out
    return np.where(effect.known[:, :, None], bound, np.nan)


def widened(values: Floats, levels: Sequence[float], sigma: Floats) -> Floats:
    """Return quantiles [S, H, L] with a further, independent error of `sigma` [S, H]: in quadrature to each level's distance
    from the median, which stays. Of use as well for what a covariate's error (sigma times the slope on it) adds to a band."""
    at = list(levels).index(0.5)
    away = values - values[:, :, at : at + 1]
    z = np.array([NormalDist().inv_cdf(p) for p in levels])
    wide = np.sign(z) * np.hypot(away, sigma[:, :, None] * z)
    return np.asarray(np.maximum.accumulate(values[:, :, at : at + 1] + wide, axis=2), dtype=np.float64)


def touching(effect: Effect, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return series -> the note that its forecast's future is an announced one; only series that an event touches."""
    return {name: (f"event: {', '.join(events)}",) for name, events in zip(names, effect.names, strict=True) if events}


def _event(number: int, table: Mapping[str, Any]) -> Event:
    name = str(table.get("name", f"number {number}"))
    allowed = {"name", "target", "series", "from", "to", "factor", "sd", "maintenance"}
    for wanted in ("target", "series", "from", "to"):
        if wanted not in table:
            raise InputError(f"event {name}: {wanted} is missing")
    if set(table) - allowed:
        raise InputError(f"event {name}: {min(set(table) - allowed)} is unknown; allowed are {', '.join(sorted(allowed))}")
    begin, end = (_moment(name, key, table[key]) for key in ("from", "to"))
    if end <= begin:
        raise InputError(f"event {name}: it must end after it begins")
    numbers = {key: table.get(key, default) for key, default in (("factor", 1.0), ("sd", 0.0))}
    for key, number_ in numbers.items():
        if isinstance(number_, bool) or not isinstance(number_, int | float) or not 0 <= number_ < 1e6:
            raise InputError(f"event {name}: {key} = {number_}; give a number from 0 on")
    maintenance = table.get("maintenance", False)
    if not isinstance(maintenance, bool) or (maintenance and {"factor", "sd"} & set(table)):
        raise InputError(f"event {name}: maintenance is true or false, and goes without factor and sd")
    return Event(
        name=name,
        target=str(table["target"]),
        series=str(table["series"]),
        from_s=begin,
        to_s=end,
        factor=float(numbers["factor"]),
        sd=float(numbers["sd"]),
        maintenance=maintenance,
    )


def _moment(name: str, key: str, given: object) -> int:
    """Return seconds UTC of a TOML date-time or of its text; without an offset it is UTC."""
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            given = None
    if not isinstance(given, datetime):
        raise InputError(f"event {name}: {key} must be a date with time, like 2026-07-01T10:00:00Z")
    return epoch_s(given.astimezone(UTC) if given.tzinfo else given)
