"""A window of the history's series in memory, so that a forecast tick reads only what is new, once per interval."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch, HistoryReader
from forecast.batches import to_batch
from forecast.inputs import bounds_of

OVERLAP = 3
"""steps read again each time: late rows change the newest means"""
CHUNK = timedelta(days=1)
"""read at first; then as much at once as has about so many rows: a month of a large site would not fit into memory"""
CHUNK_ROWS = 2_000_000
SLACK = 256
"""columns between two moves of the window"""
MANY = 512
"""of more series than this single precision is kept"""


class SeriesWindow:
    """Batches per (target, step) over the last `window`, read anew only when an interval has ended since.

    The batches share memory with the window: they hold until the next one of the same kind is asked for."""

    def __init__(self, reader: HistoryReader) -> None:
        """`reader` is the only way in which data comes."""
        self.reader = reader
        self._kept: dict[tuple[str, int], _Kept] = {}

    def batch(self, target: str, step_s: int, window: timedelta, as_of: datetime) -> Batch | None:
        """Return the series of the last `window` before `as_of` (aware UTC, run time) on their grid; None without any row."""
        slot, columns = int(as_of.timestamp()) // step_s, int(window.total_seconds()) // step_s
        kept = self._kept.get((target, step_s))
        if kept is None or kept.columns != columns or slot < kept.slot:
            kept = self._kept[target, step_s] = _Kept(target, step_s, columns, slot - columns)
        if kept.slot < slot:
            self._read(kept, slot, as_of)
        return kept.batch()

    def _read(self, kept: "_Kept", slot: int, as_of: datetime) -> None:
        """Read from where the window ends, some steps again, up to `slot`."""
        first = max(kept.slot - OVERLAP, slot - kept.columns)
        kept.advance(slot)
        at, end = (datetime.fromtimestamp(edge * kept.step_s, UTC) for edge in (first, slot))
        span = CHUNK
        while at < end:
            until = min(at + span, end)
            frame = self.reader.series(kept.target, as_of=as_of, since=at, until=until, step_s=kept.step_s)
            if not frame.is_empty():
                kept.put(to_batch(frame, kept.target, kept.step_s, until=until, since=at))
            span = (until - at) * max(1.0, CHUNK_ROWS / max(frame.height, CHUNK_ROWS / 1_000))
            at = until


class _Kept:
    """The matrix of one target: names as they came, columns ending at the end of interval `slot`."""

    def __init__(self, target: str, step_s: int, columns: int, slot: int) -> None:
        self.target, self.step_s, self.columns, self.slot = target, step_s, columns, slot
        self._names: list[str] = []
        self._row: dict[str, int] = {}
        self._values: NDArray[Any] = np.empty((0, columns + SLACK))
        self._end = columns
        self._notes: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._batch: Batch | None = None

    def advance(self, slot: int) -> None:
        """Move the window's end to `slot`; the new columns are gaps until something is put there."""
        new, self.slot = slot - self.slot, slot
        if new >= self.columns:
            self._values[:] = np.nan
            self._end = self.columns
        elif self._end + new > self._values.shape[1]:
            kept = self.columns - new
            self._values[:, :kept] = self._values[:, self._end - kept : self._end].copy()
            self._values[:, kept:] = np.nan
            self._end = self.columns
        else:
            self._end += new
        self._batch = None

    def put(self, batch: Batch) -> None:
        """Take over what was read anew of all series."""
        rows = self._rows(batch.names)
        column = self._end - self.slot + batch.ts // self.step_s - 1
        inside = (column >= self._end - self.columns) & (column < self._end)
        self._values[np.ix_(rows, column[inside])] = batch.values[:, inside]
        self._notes |= {name: (self.slot, notes) for name, notes in zip(batch.names, batch.notes, strict=False) if notes}
        self._batch = None

    def batch(self) -> Batch | None:
        """Return the window; the same batch until something changes."""
        if self._batch is None and self._names:
            oldest = self.slot - 86_400 // self.step_s
            self._notes = {name: told for name, told in self._notes.items() if told[0] > oldest}
            least, most = bounds_of(self.target)
            self._batch = Batch(
                target=self.target,
                step_s=self.step_s,
                ts=np.arange(self.slot - self.columns + 1, self.slot + 1, dtype=np.int64) * self.step_s,
                names=tuple(self._names),
                values=self._values[: len(self._names), self._end - self.columns : self._end],
                lower=least,
                upper=most,
                notes=tuple(self._notes[n][1] if n in self._notes else () for n in self._names) if self._notes else (),
            )
        return self._batch

    def _rows(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the rows of `names`; new ones get theirs."""
        for name in names:
            if name not in self._row:
                self._row[name] = len(self._names)
                self._names.append(name)
        if len(self._names) > len(self._values):
            kind = np.float32 if len(self._names) > MANY else np.float64
            grown = np.full((len(self._names), self._values.shape[1]), np.nan, dtype=kind)
            grown[: len(self._values)] = self._values
            self._values = grown
        return np.array([self._row[name] for name in names], dtype=np.int64)
