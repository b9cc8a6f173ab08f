"""What a backtest reads: any long table on its own grid, and that grid as it was known at each moment, cleaned only then.

The order matters: cut first, clean then. A hole is one only once it has ended, a unit's step is believed after an hour; a table
that was cleaned as a whole would tell a model of the past what only the future showed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.batches import collection_gaps, to_batch, utc
from forecast.grids import DAY_S, Floats, day_steps, restricted
from forecast.inputs import MOST_STEPS, bounds_of, clean

FEWEST_DAYS = 4
"""history without which a series is not judged: its first days teach, the next calibrate, the last are scored"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A long table on its grid: nothing cleaned yet but what cannot be a reading at all (absent, infinite, out of range)."""

    batch: Batch
    left_out: tuple[tuple[str, str], ...]
    """(series, why it is not judged)"""
    notes: tuple[tuple[str, str], ...]
    """(series, what was wrong with its rows)"""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A batch as it was known at its last column."""

    batch: Batch
    notes: tuple[tuple[str, ...], ...]
    """[S] what was masked, of the last day"""


def tabled(frame: pl.DataFrame, target: str, *, step_s: int | None = None, cutoff: datetime | None = None) -> Table:
    """Put a long table (ts = END of the interval, series, value[, gap]) on a grid of `step_s` (default: the most frequent
    distance between two times of a series). Rows after `cutoff` are not read. Other columns are not used.

    Raises InputError where columns are missing, are of the wrong kind, or no series has four days between its ends.
    """
    if frame.is_empty() or not {"ts", "series", "value"} <= set(frame.columns):
        columns = ", ".join(frame.columns) or "none"
        raise InputError(f"series: columns {columns}, {frame.height} rows; give rows with ts, series and value")
    rows = _rows(frame, cutoff)
    if rows.is_empty():
        raise InputError(f"series: no row has a time and a series{f' at or before {cutoff}' if cutoff else ''}")
    step_s = step_s or _step_s(rows)
    day_steps(step_s)
    rows, notes = _told(rows, target, step_s)
    us = rows["us"]
    first, last = -(-int(us.min()) // (step_s * 1_000_000)), -(-int(us.max()) // (step_s * 1_000_000))  # type: ignore[arg-type]
    since, until = (datetime.fromtimestamp(at * step_s, UTC) for at in (first - 1, last))
    least, most = bounds_of(target)
    # Not as `target`: of a load to_batch looks for holes over the whole table, which no moment of the past could.
    batch = to_batch(rows, "", step_s, until, since, lower=least, upper=most)
    left_out = {name: why for name, row in zip(batch.names, batch.values, strict=True) if (why := _short(row, step_s))}
    kept = [i for i, name in enumerate(batch.names) if name not in left_out]
    if not kept:
        told = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:3])
        raise InputError(f"series: none of {len(left_out)} can be judged: {told}{'; ...' if len(left_out) > 3 else ''}")
    names = tuple(batch.names[i] for i in kept)
    return Table(
        batch=replace(batch, target=target, names=names, values=batch.values[kept], notes=()),
        left_out=tuple(sorted(left_out.items())),
        notes=notes,
    )


def known_at(batch: Batch, column: int) -> Known:
    """Return the batch as a forecaster would have had it at `column`: nothing later is in it, cleaned by what it holds.

    All columns up to `column` stay, also leading ones without any reading.
    """
    known = restricted(batch, column)
    values = known.values.copy()
    if batch.target == "load":
        values[:, collection_gaps(values, batch.step_s)] = np.nan
    found = clean(replace(known, values=values))
    width = found.batch.values.shape[1]
    whole = np.full_like(values, np.nan)
    whole[:, values.shape[1] - width :] = found.batch.values
    return Known(batch=replace(known, values=whole), notes=found.notes)


def outcomes(batch: Batch, known: Sequence[Known], since: int) -> Floats:
    """Return the readings [S, C] of the columns from `since` to the end of the last of `known`, each if it was believed at the
    first of these moments that had it. They are as they came: a step to another unit is not undone."""
    parts = []
    for moment in known:
        end = moment.batch.values.shape[1]
        parts.append(np.where(np.isnan(moment.batch.values[:, since:]), np.nan, batch.values[:, since:end]))
        since = end
    return np.concatenate(parts, axis=1)


def _rows(frame: pl.DataFrame, cutoff: datetime | None) -> pl.DataFrame:
    """Return (ts, us, series, value[, gap]) in the table's order, of rows with a time and a series."""
    try:
        given = frame.with_columns(
            utc(frame["ts"]).alias("ts"), pl.col("series").cast(pl.String), pl.col("value").cast(pl.Float64)
        )
        if "gap" in frame.columns:
            given = given.with_columns(pl.col("gap").cast(pl.Boolean))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"series: value must be numbers, gap true or false: {str(error).splitlines()[0]}") from None
    given = given.with_columns(pl.col("ts").to_physical().alias("us")).filter(
        pl.col("us").is_not_null() & pl.col("series").is_not_null()
    )
    if cutoff is not None:
        given = given.filter(pl.col("us") <= int(cutoff.timestamp() * 1_000_000))
    return given


def _step_s(rows: pl.DataFrame) -> int:
    stamps = rows.select("us", "series").unique().sort("series", "us")
    gaps = stamps.select((pl.col("us").diff().over("series") // 1_000_000).alias("gap")).filter(pl.col("gap") > 0)["gap"]
    if gaps.is_empty():
        raise InputError(f"series: one point per series; a backtest needs {FEWEST_DAYS} days of them")
    return int(gaps.mode().min())  # type: ignore[arg-type]


def _told(rows: pl.DataFrame, target: str, step_s: int) -> tuple[pl.DataFrame, tuple[tuple[str, str], ...]]:
    """Return the rows without those years (of 5 min steps) from all others, and (series, what was wrong with its rows)."""
    least, most = bounds_of(target)
    value, us = pl.col("value"), pl.col("us")
    near = (us - pl.lit(int(rows["us"].median()))).abs() < MOST_STEPS // 2 * step_s * 1_000_000  # type: ignore[arg-type]
    counts = rows.group_by("series").agg(
        (~near).sum().alias("far"),
        (us.diff() < 0).sum().alias("backwards"),
        (pl.len() - us.n_unique()).alias("repeated"),
        value.is_infinite().sum().alias("infinite"),
        (value.is_finite() & ((value < least) | (value > most))).sum().alias("outside"),
    )
    words: Mapping[str, str] = {
        "far": "times: {} rows far from all others, left out",
        "backwards": "times: {} rows earlier than the row before, put in order",
        "repeated": "repeated: {} times given twice, averaged (local time without offset? a clock set back?)",
        "infinite": "infinite: {} readings masked",
        "outside": f"out of range: {{}} readings not within {least:.6g} to {most:.6g}",
    }
    notes = [
        (str(row["series"]), said.format(f"{row[key]:,}"))
        for row in counts.sort("series").iter_rows(named=True)
        for key, said in words.items()
        if row[key]
    ]
    return rows.filter(near), tuple(notes)


def _short(values: Floats, step_s: int) -> str:
    """Return why a series cannot be judged; empty where it can."""
    seen = np.flatnonzero(~np.isnan(values))
    if not seen.size:
        return "no reading at all"
    days = (seen[-1] - seen[0] + 1) * step_s / DAY_S
    if days < FEWEST_DAYS:
        return f"{days:.1f} days of history; {FEWEST_DAYS} are needed"
    return ""
