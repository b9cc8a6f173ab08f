"""A window of the history's series in memory, so that a forecast tick reads only what is new, once per interval."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from contracts.ports import Batch, HistoryReader
from forecast.batches import to_batch

OVERLAP = 3
"""steps read again each time: late rows change the newest means"""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Long rows (ts, series, value) up to the end of interval `slot`, and the batch made of them."""

    slot: int
    frame: pl.DataFrame
    batch: Batch


class SeriesCache:
    """Batches per (target, step) over the last `window`, read anew only when an interval has ended since."""

    def __init__(self, reader: HistoryReader) -> None:
        """`reader` is the only way in which data comes."""
        self._reader = reader
        self._known: dict[tuple[str, int], _Known] = {}

    def batch(self, target: str, step_s: int, window: timedelta, as_of: datetime) -> Batch | None:
        """Return the series of the last `window` before `as_of` (aware UTC, run time) on their grid; None without any row."""
        slot = int(as_of.timestamp()) // step_s
        known = self._known.get((target, step_s))
        if known is not None and known.slot == slot:
            return known.batch
        frame = self._rows(known, target, step_s, as_of - window, as_of)
        if frame.is_empty():
            return None
        batch = to_batch(frame, target, step_s, until=as_of, since=as_of - window)
        self._known[(target, step_s)] = _Known(slot=slot, frame=frame, batch=batch)
        return batch

    def _rows(self, known: _Known | None, target: str, step_s: int, since: datetime, as_of: datetime) -> pl.DataFrame:
        """Long rows since `since`: those known, and what the history has that is newer or may have changed."""
        if known is None:
            return self._reader.series(target, as_of=as_of, since=since, step_s=step_s)
        fresh_from = max(datetime.fromtimestamp((known.slot - OVERLAP) * step_s, UTC), since)
        fresh = self._reader.series(target, as_of=as_of, since=fresh_from, step_s=step_s)
        kept = known.frame.filter(
            (pl.col("ts") <= fresh_from.replace(tzinfo=None)) & (pl.col("ts") > since.replace(tzinfo=None))
        )
        return pl.concat([kept, fresh.select(kept.columns).cast(kept.schema)])
