"""Dense arrays of the history's series: one cell per series and interval, and how they are joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import HistoryError

Floats = NDArray[np.float64]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The complete intervals between two moments. Interval i ends at (first + 1 + i) * step, in microseconds of Unix time."""

    step_us: int
    first: int
    cells: int
    as_of: datetime

    def params(self) -> dict[str, Any]:
        """Parameters of the queries; times naive UTC."""
        return {
            "step": self.step_us,
            "first": self.first + 1,
            "lo": _at(self.first * self.step_us),
            "hi": _at((self.first + self.cells) * self.step_us),
            "as_of": self.as_of.astimezone(UTC).replace(tzinfo=None),
        }


@dataclass(frozen=True, kw_only=True)
class Dense:
    """`values[i, cell]` of series `names[i]`, sorted; NaN = nothing had arrived."""

    names: tuple[str, ...]
    values: Floats


def make_grid(as_of: datetime, since: datetime, step_s: int) -> Grid:
    """Return the intervals that begin at or after `since` and end at or before `as_of`, both aware."""
    if as_of.tzinfo is None or since.tzinfo is None:
        raise HistoryError(f"as_of = {as_of}, since = {since}: both need a time zone, e.g. 2026-07-15T14:00:00Z")
    if not 1 <= step_s <= 86_400:
        raise HistoryError(f"step_s = {step_s}: must be 1 to 86400")
    step = step_s * 1_000_000
    first = -(-_micros(since) // step)
    return Grid(step_us=step, first=first, cells=_micros(as_of) // step - first, as_of=as_of)


def dense(frame: pl.DataFrame, grid: Grid) -> Dense:
    """Means from rows (key, cell, total, n)."""
    names = frame["key"].unique().sort()
    codes = frame["key"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    where = codes * grid.cells + frame["cell"].to_numpy()
    size = len(names) * grid.cells
    total = np.bincount(where, weights=frame["total"].to_numpy(), minlength=size)
    count = np.bincount(where, weights=frame["n"].to_numpy(), minlength=size)
    values = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return Dense(names=tuple(names.to_list()), values=values.reshape(len(names), grid.cells))


def summed(parts: Dense) -> Dense:
    """Return the sums of the series `whole/part`; what is NaN takes no part, and all NaN stays NaN."""
    return _combined(parts, np.add)


def highest(parts: Dense) -> Dense:
    """Return the maxima of the series `whole/part`, alike."""
    return _combined(parts, np.maximum)


def _combined(parts: Dense, join: np.ufunc) -> Dense:
    wholes = [name.rpartition("/")[0] for name in parts.names]
    names = tuple(sorted(set(wholes)))
    at = {name: i for i, name in enumerate(names)}
    values = np.full((len(names), parts.values.shape[1]), np.nan)
    for whole, row in zip(wholes, parts.values, strict=True):
        target = values[at[whole]]
        joined = join(target, row)  # NaN where either is
        values[at[whole]] = np.where(np.isnan(joined), np.where(np.isnan(target), row, target), joined)
    return Dense(names=names, values=values)


def union(*parts: Dense) -> Dense:
    """Return the series of all parts, sorted by name."""
    some = [part for part in parts if part.names]
    if len(some) < 2:
        return some[0] if some else parts[0]
    names = [name for part in some for name in part.names]
    order = sorted(range(len(names)), key=names.__getitem__)
    values = np.concatenate([part.values for part in some])
    return Dense(names=tuple(names[i] for i in order), values=values[order])


def of(rows: Mapping[str, Floats], grid: Grid) -> Dense:
    """Return series given by name."""
    names = tuple(sorted(rows))
    return Dense(names=names, values=np.array([rows[n] for n in names]).reshape(len(names), grid.cells))


def long(of: Dense, grid: Grid) -> pl.DataFrame:
    """Return the long frame (ts, series, value), sorted by series and ts."""
    at, cell = np.nonzero(~np.isnan(of.values))
    ends = (grid.first + 1 + cell.astype(np.int64)) * grid.step_us
    names = pl.Series("series", of.names, dtype=pl.String)
    return pl.DataFrame(
        {
            "ts": pl.Series(ends, dtype=pl.Int64).cast(pl.Datetime("us")),
            "series": names.gather(at),
            "value": of.values[at, cell],
        }
    )


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _at(micros: int) -> datetime:
    return (EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None)
