"""Newest value per thing and column, by the observation's own time: batches may come late and out of order.

Most frames tell of everything at once, later than any before. Such a frame's columns take the place of those that are known as
they are: nothing is copied. So no array is written to that came from outside, or that was handed out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from control.placed import Places

Floats = NDArray[np.float64]

NEVER = -np.inf


class Times(NamedTuple):
    """When the rows of a frame were: microseconds since 1970."""

    each: Floats
    """[rows]; NaN = nobody knows"""
    first: float
    """NaN where that of any is not known"""
    last: float

    @staticmethod
    def of(each: Floats) -> "Times":
        """Return the times of a frame of one row at least."""
        return Times(each, float(np.minimum.reduce(each)), float(np.fmax.reduce(each)))


class Newest:
    """`size` things with float columns. Equal times: the later batch wins."""

    def __init__(self, size: int, columns: Sequence[str]) -> None:
        """Start with nothing seen: NaN everywhere."""
        self._all = slice(0, size)
        self._latest = NEVER
        """no value is newer"""
        self._values: dict[str, NDArray[Any]] = {name: np.full(size, np.nan) for name in columns}
        self._ts = {name: np.full(size, NEVER) for name in columns}
        self._own: set[str] = set(columns)
        """columns of which values and times may be written to"""

    def fold(self, columns: Mapping[str, NDArray[Any]], times: Times, places: Places) -> None:
        """Fold columns of a frame at `places`; NaN tells nothing."""
        later, at = times.first >= self._latest, times.each[places.rows]
        for name in self._values:
            new = columns.get(name)
            if new is None:
                continue
            new = new[places.rows]
            if later and places.once and not _any_nan(new):
                if isinstance(places.things, slice) and places.things == self._all:
                    self._values[name], self._ts[name] = new, at
                    self._own.discard(name)
                else:
                    self._write(name, places.things, new, at)
            else:
                self._sift(name, new, at, places)
        self._latest = max(self._latest, times.last)

    def _sift(self, name: str, new: NDArray[Any], at: Floats, places: Places) -> None:
        """Take what of `new` [n] says anything, and is not older than what is known."""
        things = places.things
        if isinstance(things, slice):
            things = np.arange(things.start, things.stop)
        rows = np.flatnonzero(~np.isnan(new))
        rows = rows[at[rows] >= self._ts[name][things[rows]]]
        if not places.once:
            rows = rows[np.argsort(at[rows], kind="stable")]  # with repeated positions the last assignment stays
        if len(rows):
            self._write(name, things[rows], new[rows], at[rows])

    def forget(self, things: NDArray[np.int64], ts: Floats) -> None:
        """Set every column of these things to unknown as of `ts` (microseconds), unless something newer is known."""
        newest_last = np.argsort(ts, kind="stable")
        things, ts = things[newest_last], ts[newest_last]
        for name, known in self._ts.items():
            older = known[things] <= ts
            self._write(name, things[older], np.nan, ts[older])

    def _write(self, name: str, things: Any, new: Any, at: Floats) -> None:
        if name not in self._own:
            self._values[name], self._ts[name] = self._values[name].astype(np.float64), self._ts[name].copy()
            self._own.add(name)
        self._values[name][things] = new
        self._ts[name][things] = at

    def values(self, name: str) -> Floats:
        """A column as it is now, read-only; the same array as long as nothing new came."""
        values = self._values[name] = self._values[name].astype(np.float64, copy=False)
        values.flags.writeable = False
        self._own.discard(name)
        return values

    def age_s(self, now: float) -> Floats:
        """Seconds since the newest sample of the first column; inf = never. `now` in microseconds."""
        age: Floats = now - next(iter(self._ts.values()))
        age /= 1e6
        age.flags.writeable = False
        return age


def _any_nan(values: NDArray[Any]) -> bool:
    least = np.minimum.reduce(values) if len(values) else 0.0
    return bool(least != least)
