"""From a long frame to the regular grid that forecasters read."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.grids import Floats, epoch_s

SURE_REQUESTS = 20.0
"""with this many requests expected in an interval, none at all is a hole in the collection (Poisson: p < 3e-9)"""


def to_batch(
    frame: pl.DataFrame,
    target: str,
    step_s: int,
    until: datetime,
    since: datetime,
    *,
    names: Sequence[str] | None = None,
    lower: float = 0.0,
    upper: float = float("inf"),
) -> Batch:
    """Put a long frame (ts, series, value[, gap]) on the grid of intervals that end in (since, until].

    `ts` is the END of an interval, naive UTC; a time between two grid points counts to the interval in which it lies, several
    values of one interval are averaged. Intervals without a value, with one outside [lower, upper], or marked `gap` are NaN; of
    `load` also those in which every series reads zero although traffic is never that thin (a hole in the collection).
    `names` fixes the series and their order; otherwise they are those of the frame, sorted.
    Raises InputError where a column is missing or nothing lies between since and until.
    """
    missing = {"ts", "series", "value"} - set(frame.columns)
    if missing:
        raise InputError(f"{target}: column {', '.join(sorted(missing))} is missing; give a frame with ts, series and value")
    first, last = epoch_s(since) // step_s + 1, epoch_s(until) // step_s
    if last < first:
        raise InputError(f"{target}: no whole interval of {step_s} s between {since} and {until}; choose an earlier since")
    wanted = tuple(names) if names is not None else tuple(sorted(frame["series"].unique().to_list()))
    ts = np.arange(first, last + 1, dtype=np.int64) * step_s
    values = _gridded(_usable(frame, lower, upper), wanted, step_s, first, len(ts))
    if target == "load":
        values[:, collection_gaps(values, step_s)] = np.nan
    return Batch(target=target, step_s=step_s, ts=ts, names=wanted, values=values, lower=lower, upper=upper)


def collection_gaps(load: Floats, step_s: int) -> NDArray[np.bool_]:
    """Return [T] True where nothing was collected: runs of two or more intervals in which all series are zero or absent,
    although even their 10th percentiles (of what is above zero) add up to 20 requests an interval."""
    thin = 0.0
    for row in load:
        busy = row[row > 0]
        thin += float(np.percentile(busy, 10)) * step_s if busy.size else 0.0
    silent = np.asarray(~np.any(load > 0, axis=0), dtype=np.bool_)
    if thin < SURE_REQUESTS:
        return np.zeros(load.shape[1], dtype=np.bool_)
    before = np.concatenate([[False], silent[:-1]])
    after = np.concatenate([silent[1:], [False]])
    return np.asarray(silent & (before | after), dtype=np.bool_)


def _usable(frame: pl.DataFrame, lower: float, upper: float) -> pl.DataFrame:
    value = pl.col("value").cast(pl.Float64)
    keep = value.is_not_null() & value.is_finite() & (value >= lower) & (value <= upper)
    if "gap" in frame.columns:
        keep = keep & ~pl.col("gap").fill_null(value=False)
    return frame.filter(keep).select(
        pl.col("ts").cast(pl.Datetime("us")).to_physical().alias("us"), pl.col("series").cast(pl.String), value.alias("value")
    )


def _gridded(frame: pl.DataFrame, names: Sequence[str], step_s: int, first: int, columns: int) -> Floats:
    """Return the means [S, columns]; the grid's first interval has number `first` (its end over step_s)."""
    order = pl.DataFrame(
        {"series": list(names), "row": np.arange(len(names), dtype=np.int64)}, schema_overrides={"series": pl.String}
    )
    known = frame.join(order, on="series", how="inner")
    column = -(-known["us"].to_numpy() // (step_s * 1_000_000)) - first
    inside = (column >= 0) & (column < columns)
    flat = known["row"].to_numpy()[inside] * columns + column[inside]
    size = len(names) * columns
    count = np.bincount(flat, minlength=size)
    total = np.bincount(flat, weights=known["value"].to_numpy()[inside], minlength=size)
    means = np.full(size, np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means.reshape(len(names), columns)
