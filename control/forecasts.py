"""Forecast blocks as rows of the topic `forecasts` and back, column by column: 10,000 series cost milliseconds."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from contracts.forecasts import UNITS, Block

RECORD_BYTES = 4_000_000
"""of values in one record, before compression"""


def frames_of(block: Block) -> Iterator[pl.DataFrame]:
    """Yield rows of the topic `forecasts`, in portions that fit into a record; a series without an opinion has none.

    Values are rounded to single precision: no forecast is surer than that, and it packs twice as well.
    """
    rows = max(1, RECORD_BYTES // max(1, 8 * block.values.shape[1] * block.values.shape[2]))
    for first in range(0, len(block.names), rows):
        frame = _frame(block, slice(first, first + rows))
        if frame.height:
            yield frame


def _frame(block: Block, part: slice) -> pl.DataFrame:
    some = block.spoken[part]
    values, known = block.values[part][some], block.known[part][some]
    count = known.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(count)])
    flat = values[known].astype(np.float32).astype(np.float64)
    valid_at = _micros(block.issued_at) + np.rint(block.lead_s * 1e6).astype(np.int64)
    height, width = len(count), len(block.levels)

    def told(column: tuple[Any, ...]) -> list[Any]:
        return [value for value, ok in zip(column[part], some, strict=True) if ok]

    columns: dict[str, Any] = {
        "ts": pl.repeat(block.issued_at.astimezone(UTC).replace(tzinfo=None), height, eager=True, dtype=pl.Datetime("us")),
        "forecast_id": pl.Series(told(block.ids), dtype=pl.String),
        "target": pl.repeat(block.target, height, eager=True),
        "series": pl.Series(told(block.names), dtype=pl.String),
        "model": pl.Series(told(block.models), dtype=pl.String),
        "champion": pl.repeat(block.champion, height, eager=True),
        "data_until": pl.Series(block.data_until_s[part][some] * 1_000_000).cast(pl.Datetime("us")),
        "unit": pl.repeat(UNITS[block.target], height, eager=True),
        "valid_at": _lists(np.broadcast_to(valid_at, known.shape)[known].view("datetime64[us]"), offsets),
        "levels": _lists(np.tile(np.asarray(block.levels), height), np.arange(height + 1) * width),
        "values": _lists(flat.reshape(-1), offsets * width),
        "degradations": pl.Series(pa.array(told(block.notes), pa.large_list(pa.large_string()))),
    }
    return pl.DataFrame(columns)


def _lists(flat: NDArray[Any], offsets: NDArray[np.int64]) -> pl.Series:
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat)))


def blocks_of(frame: pl.DataFrame) -> list[Block]:
    """Return the champions among rows of the topic `forecasts` as blocks; rows of one issue and one set of levels together."""
    champions = frame.filter(pl.col("champion"))
    blocks = []
    for part in champions.partition_by("target", "ts", maintain_order=True):
        levels = _shared(part["levels"])
        alike = [part] if levels is not None else _by_levels(part)
        blocks += [_block(rows) for rows in alike]
    return blocks


def _block(rows: pl.DataFrame) -> Block:
    first = rows.row(0, named=True)
    issued_at = first["ts"].replace(tzinfo=UTC)
    levels = tuple(first["levels"])
    values = rows["values"].explode().to_numpy()
    times = _shared(rows["valid_at"])
    if times is not None:
        cube = values.reshape(rows.height, len(times), len(levels))
    else:
        flat = rows["valid_at"].explode().to_physical().to_numpy()
        times, column = np.unique(flat, return_inverse=True)
        series = np.repeat(np.arange(rows.height), rows["valid_at"].list.len().to_numpy())
        cube = np.full((rows.height, len(times), len(levels)), np.nan)
        cube[series, column] = values.reshape(-1, len(levels))
    cube.flags.writeable = False
    return Block(
        target=first["target"],
        champion=True,
        issued_at=issued_at,
        lead_s=(times - _micros(issued_at)) / 1e6,
        levels=levels,
        names=tuple(rows["series"].to_list()),
        ids=tuple(rows["forecast_id"].to_list()),
        values=cube,
        data_until_s=rows["data_until"].dt.epoch("s").to_numpy(),
        models=tuple(rows["model"].to_list()),
        notes=tuple(map(tuple, rows["degradations"].to_list())),
    )


def _shared(lists: pl.Series) -> NDArray[Any] | None:
    """Return the list that all rows have (times as microseconds); None where they differ."""
    length = lists.list.len()
    if length.min() != length.max():
        return None
    flat = lists.explode().to_physical().to_numpy().reshape(len(lists), -1)
    return flat[0] if (flat == flat[0]).all() else None


def _by_levels(part: pl.DataFrame) -> list[pl.DataFrame]:
    key = part["levels"].cast(pl.List(pl.String)).list.join(" ").alias("__levels")
    return [rows.drop("__levels") for rows in part.with_columns(key).partition_by("__levels", maintain_order=True)]


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1e6)
