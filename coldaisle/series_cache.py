"""A window of the history's series in memory, so that a forecast tick reads only what is new."""

from datetime import datetime, timedelta

import polars as pl

from contracts.ports import HistoryReader

OVERLAP = 3
"""steps read again each time: late rows change the newest means"""


class SeriesCache:
    """Long frames (ts, series, value) per (target, step): the last `window`, kept up to date by `read`."""

    def __init__(self, reader: HistoryReader) -> None:
        """`reader` is the only way in which data comes."""
        self._reader = reader
        self._frames: dict[tuple[str, int], pl.DataFrame] = {}

    def read(self, target: str, step_s: int, window: timedelta, as_of: datetime) -> pl.DataFrame:
        """Return the series of the last `window` before `as_of` (aware UTC, run time); a gap stays a gap."""
        since = as_of - window
        known = self._frames.get((target, step_s))
        if known is not None and not known.is_empty():
            newest: datetime = known["ts"].max()  # type: ignore[assignment]
            fresh_from = max(newest - OVERLAP * timedelta(seconds=step_s), since.replace(tzinfo=None))
            fresh = self._reader.series(target, as_of=as_of, since=fresh_from.replace(tzinfo=as_of.tzinfo), step_s=step_s)
            kept = known.filter((pl.col("ts") <= fresh_from) & (pl.col("ts") > since.replace(tzinfo=None)))
            frame = pl.concat([kept, fresh.select(kept.columns).cast(kept.schema)]).sort("series", "ts")
        else:
            frame = self._reader.series(target, as_of=as_of, since=since, step_s=step_s)
        self._frames[(target, step_s)] = frame
        return frame
