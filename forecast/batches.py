"""From a long frame to the regular grid that forecasters read."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.grids import Floats, epoch_s
from forecast.inputs import TOLD_S, bounds_of
from forecast.suspects import SURE_REQUESTS


def to_batch(
    frame: pl.DataFrame,
    target: str,
    step_s: int,
    until: datetime,
    since: datetime,
    *,
    names: Sequence[str] | None = None,
    lower: float | None = None,
    upper: float | None = None,
) -> Batch:
    """Put a long frame (ts, series, value[, gap]) on the grid of intervals that end in (since, until].

    `ts` is the END of an interval (see `utc`); a time between two grid points counts to the interval in which it lies, several
    values of one interval are averaged. Readings that are absent, infinite, outside [lower, upper] (default: what the target
    can be at all) or marked `gap` do not count; an interval without any is NaN; of `load` also those in which every series
    reads zero although traffic is never that thin (a hole in the collection). The batch's notes name what was infinite, out of
    range or given twice in the last day. `names` fixes the series and their order; otherwise they are the frame's, sorted.
    Raises InputError where a column is missing, times are no times, or nothing lies between since and until.
    """
    missing = {"ts", "series", "value"} - set(frame.columns)
    if missing:
        raise InputError(f"{target}: column {', '.join(sorted(missing))} is missing; give a frame with ts, series and value")
    least, most = bounds_of(target)
    least, most = least if lower is None else lower, most if upper is None else upper
    first, last = epoch_s(since) // step_s + 1, epoch_s(until) // step_s
    if last < first:
        raise InputError(f"{target}: no whole interval of {step_s} s between {since} and {until}; choose an earlier since")
    wanted = tuple(names) if names is not None else tuple(sorted(frame["series"].unique().to_list()))
    ts = np.arange(first, last + 1, dtype=np.int64) * step_s
    given = _given(frame, step_s * 1_000_000, first, last)
    lately = given.filter(pl.col("us") > (last * step_s - TOLD_S) * 1_000_000)
    notes = _notes(lately, wanted, least, most)
    good = pl.col("value").is_finite() & (pl.col("value") >= least) & (pl.col("value") <= most)
    values = _gridded(given.filter(good), wanted, step_s, first, len(ts))
    if target == "load":
        values[:, collection_gaps(values, step_s)] = np.nan
    return Batch(target=target, step_s=step_s, ts=ts, names=wanted, values=values, lower=least, upper=most, notes=notes)


def utc(ts: pl.Series) -> pl.Series:
    """Return times as naive UTC microseconds. The rule at the edge: a time with an offset or a zone is converted, a naive time
    IS UTC: local times without offset would say one hour twice in autumn and leave one out in spring.

    Takes dates with time, dates, and ISO 8601 text, with and without offset (text may mix them). Raises InputError otherwise.
    """
    if isinstance(ts.dtype, pl.Datetime):
        naive = ts if ts.dtype.time_zone is None else ts.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return naive.dt.cast_time_unit("us")
    if ts.dtype in (pl.Date, pl.Null):
        return ts.cast(pl.Datetime("us"))
    if ts.dtype != pl.String:
        raise InputError(f"ts: {ts.dtype} is no time; give dates with time, or text like 2026-07-15T14:00:00+02:00")
    text = ts.str.strip_chars().str.replace("[zZ]$", "+00:00").str.replace(" ", "T", literal=True)
    stated = text.str.contains(r"[+-]\d{2}:?\d{2}$") & text.str.contains("T", literal=True)
    whole = pl.select(pl.when(stated).then(text).otherwise(text + "+00:00")).to_series()
    times = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", time_zone="UTC", strict=False)
    wrong = times.is_null() & ts.is_not_null()
    if wrong.any():
        raise InputError(f"ts: {ts.filter(wrong)[0]!r} is no time; write it like 2026-07-15T14:00:00+02:00")
    return times.dt.replace_time_zone(None)


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


def _given(frame: pl.DataFrame, step_us: int, first: int, last: int) -> pl.DataFrame:
    """Return (us, series, value) of the readings in the grid's intervals first..last that are there and not marked as gaps."""
    keep = pl.col("value").is_not_null() & pl.col("value").is_not_nan()
    keep &= (pl.col("us") > (first - 1) * step_us) & (pl.col("us") <= last * step_us)
    if "gap" in frame.columns:
        keep &= ~pl.col("gap").fill_null(value=False)
    return (
        frame.with_columns(
            utc(frame["ts"]).to_physical().alias("us"), pl.col("series").cast(pl.String), pl.col("value").cast(pl.Float64)
        )
        .filter(keep)
        .select("us", "series", "value")
    )


def _notes(given: pl.DataFrame, names: Sequence[str], least: float, most: float) -> tuple[tuple[str, ...], ...]:
    """Return per series what was wrong with its readings; () where nothing was wrong at all."""
    value = pl.col("value")
    counts = given.group_by("series").agg(
        (value.is_infinite()).sum().alias("infinite"),
        (value.is_finite() & ((value < least) | (value > most))).sum().alias("outside"),
        (pl.len() - pl.col("us").n_unique()).alias("again"),
    )
    told: dict[str, tuple[str, ...]] = {}
    for name, infinite, outside, again in counts.filter(pl.sum_horizontal("infinite", "outside", "again") > 0).iter_rows():
        told[name] = (
            *((f"infinite: {infinite} readings masked",) if infinite else ()),
            *((f"out of range: {outside} readings not within {least:.6g} to {most:.6g}",) if outside else ()),
            *(
                (f"repeated: {again} times given twice, averaged (local time without offset? a clock set back?)",)
                if again
                else ()
            ),
        )
    return tuple(told.get(name, ()) for name in names) if told else ()


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
