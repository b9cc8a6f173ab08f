"""Newest value per thing and column, by the observation's own time: batches may come late and out of order."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

EPOCH = np.datetime64(0, "us")


class Newest:
    """`size` things with float columns. Equal times: the later batch wins."""

    def __init__(self, size: int, columns: Sequence[str]) -> None:
        """Start with nothing seen: NaN everywhere."""
        self._values = {name: np.full(size, np.nan) for name in columns}
        self._ts = {name: np.full(size, np.iinfo(np.int64).min, dtype=np.int64) for name in columns}

    def fold(self, frame: pl.DataFrame, where: NDArray[np.int64]) -> None:
        """Fold the rows of `frame` at positions `where` (-1 = pass over); `ts` is naive UTC; NULL tells nothing."""
        ts = frame["ts"].cast(pl.Datetime("us")).to_physical().to_numpy()
        for name, values in self._values.items():
            if name not in frame.columns:
                continue
            new = frame[name].cast(pl.Float64).to_numpy()
            rows = np.flatnonzero((where >= 0) & ~np.isnan(new))
            rows = rows[ts[rows] >= self._ts[name][where[rows]]]
            rows = rows[np.argsort(ts[rows], kind="stable")]  # with repeated positions the last assignment stays
            values[where[rows]] = new[rows]
            self._ts[name][where[rows]] = ts[rows]

    def forget(self, where: NDArray[np.int64], ts: NDArray[np.int64]) -> None:
        """Set every column of these things to unknown as of `ts` (microseconds), unless something newer is known."""
        for name, values in self._values.items():
            older = self._ts[name][where] <= ts
            values[where[older]] = np.nan
            self._ts[name][where[older]] = ts[older]

    def values(self, name: str) -> NDArray[np.float64]:
        """A read-only copy of a column."""
        copy = self._values[name].copy()
        copy.flags.writeable = False
        return copy

    def age_s(self, now: datetime) -> NDArray[np.float64]:
        """Seconds since the newest sample of the first column; inf = never. `now` is naive UTC."""
        newest = next(iter(self._ts.values()))
        micros = (np.datetime64(now, "us") - EPOCH).astype(np.int64)
        with np.errstate(over="ignore"):
            age = np.where(newest == np.iinfo(np.int64).min, np.inf, (micros - newest) / 1e6)
        age.flags.writeable = False
        return np.asarray(age)
