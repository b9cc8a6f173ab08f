"""The check at the boundary: rows with impossible values are dropped with their reason, the rest of the batch lives."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

import msgspec
import polars as pl

from contracts.control import Rejected
from contracts.schemas import SCHEMAS, Column, Schema
from ingest.codec import decode_rows, frame_of
from ingest.records import SAMPLE_CHARS, Malformed, sample_of

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What of a batch can be used, and what was dropped: one Rejected per reason, with the number of rows."""

    good: pl.DataFrame
    rejected: tuple[Rejected, ...] = ()


def check(topic: str, frame: pl.DataFrame, at: datetime, source: str) -> Checked:
    """Split the rows of a frame of the declared schema (from `frame_of` or `decode`).

    Rejected are: NaN or an infinite value, a value outside the column's range, NULL in a required column, a `ts` before 2000 or
    more than a day after `at` (aware, the run's time). A row is counted under the first reason found, in the columns' order.
    """
    schema = SCHEMAS[topic]
    # Nearly every batch is clean: a few aggregates tell, and only a suspect column pays for the reasons.
    rules = [
        rule for column in schema.columns if _suspect(column, frame.get_column(column.name), at) for rule in _rules(column, at)
    ]
    rules += _agreements(topic, frame)
    if not rules:
        return Checked(good=frame)
    reason = pl.coalesce([pl.when(bad).then(pl.lit(text)) for bad, text in rules]).alias("__reason")
    marked = frame.with_columns(reason)
    rejected = tuple(
        Rejected(
            at=at,
            topic=topic,
            source=source,
            reason=str(rows["__reason"][0]),
            rows=rows.height,
            sample=_sample(schema, rows.drop("__reason")),
        )
        for rows in marked.filter(pl.col("__reason").is_not_null()).partition_by("__reason", maintain_order=True)
    )
    return Checked(good=marked.filter(pl.col("__reason").is_null()).drop("__reason"), rejected=rejected)


def read(topic: str, value: bytes, headers: Mapping[str, str], at: datetime, source: str) -> Checked:
    """Decode and check one message of a columnar topic. Never raises for bad input: it all comes back as Rejected."""
    try:
        frame, bad = decode_rows(topic, value, headers)
    except Malformed as error:
        return Checked(good=frame_of(topic, {}), rejected=(rejected_message(topic, value, error.reason, at, source),))
    by_reason: dict[str, Rejected] = {}
    for row in bad:
        seen = by_reason.get(row.reason)
        by_reason[row.reason] = Rejected(
            at=at,
            topic=topic,
            source=source,
            reason=row.reason,
            rows=1 if seen is None else seen.rows + 1,
            sample=row.sample if seen is None else seen.sample,
        )
    checked = check(topic, frame, at, source)
    return Checked(good=checked.good, rejected=(*by_reason.values(), *checked.rejected))


def rejected_message(topic: str, value: bytes, reason: str, at: datetime, source: str) -> Rejected:
    """Return a whole message that could not be read, as it is kept."""
    return Rejected(at=at, topic=topic, source=source, reason=reason, sample=sample_of(value))


def _suspect(column: Column, series: pl.Series, at: datetime) -> bool:
    """Whether a column may hold anything that is not allowed."""
    if column.required and series.null_count():
        return True
    if column.dtype == "list_f64":
        return not isfinite(series.explode().sum())
    if column.dtype in ("f32", "f64") and not isfinite(series.sum()):  # NaN and infinity survive a sum
        return True
    low, high = _bounds(column, at)
    if (low is None and high is None) or series.null_count() == len(series):
        return False
    least: Any = series.min()
    most: Any = series.max()
    return (low is not None and least < low) or (high is not None and most > high)


def _rules(column: Column, at: datetime) -> list[tuple[pl.Expr, str]]:
    """What makes a row bad in this column, as (expression, reason); expressions are NULL or False for good rows."""
    value, name = pl.col(column.name), column.name
    rules = []
    if column.required:
        rules.append((value.is_null(), f"{name} is NULL"))
    if column.dtype in ("f32", "f64"):
        rules.append((value.is_nan(), f"{name} is NaN"))
        rules.append((value.is_infinite(), f"{name} is infinite"))
    if column.dtype == "list_f64":
        rules.append((~value.list.eval(pl.element().is_finite()).list.all(), f"{name} holds a value that is not finite"))
    low, high = _bounds(column, at)
    if name == "ts":
        rules.append((value < low, "ts is before the year 2000"))
        rules.append((value > high, "ts is more than a day ahead"))
        return rules
    if low is not None:
        rules.append((value < low, f"{name} is below {low:g} {column.unit}".rstrip()))
    if high is not None:  # NaN counts as greater than everything in polars; it was named before
        rules.append((value > high, f"{name} is above {high:g} {column.unit}".rstrip()))
    return rules


def _agreements(topic: str, frame: pl.DataFrame) -> list[tuple[pl.Expr, str]]:
    """What makes a row bad by columns that do not agree with each other."""
    if topic != "forecasts":
        return []
    wanted = pl.col("valid_at").list.len() * pl.col("levels").list.len()
    bad = (pl.col("values").list.len() != wanted) | (wanted == 0)
    return [(bad, "values has not one entry per time and level")] if frame.select(bad.any()).item() else []


def _bounds(column: Column, at: datetime) -> tuple[Any, Any]:
    """The lowest and highest value allowed; of `ts` as naive UTC."""
    if column.name == "ts":
        return OLDEST.replace(tzinfo=None), (at + AHEAD).astimezone(UTC).replace(tzinfo=None)
    return column.low, column.high


def _sample(schema: Schema, rows: pl.DataFrame) -> str:
    """The first row as JSON: its keys and all that it says, without what is NULL. JSON has no NaN: it becomes text."""
    row = {name: value for name, value in rows.row(0, named=True).items() if value is not None or name in schema.keys}
    shown = {name: str(value) if isinstance(value, float) and not isfinite(value) else value for name, value in row.items()}
    return msgspec.json.encode(shown).decode()[:SAMPLE_CHARS]
