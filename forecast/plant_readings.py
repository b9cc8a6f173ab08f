"""The readings that a plant is learnt from, as dense matrices of means over 300 s; told in parts, so that none must be
large."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.grids import Ints

Narrow = NDArray[np.float32]
Part = pl.DataFrame | Batch
Readings = Part | Iterable[Part]
"""a long frame (ts = END of the interval, series, value), a batch on a grid of 300 s, or any number of them one after the
other"""

STEP_S = 300
ROWS = 1_000_000
"""rows of a long frame that are taken at a time"""
LONGEST = 200_000
"""intervals: nearly two years; a time beyond them is a wrong clock"""


class Collected:
    """Means of the series `names` in intervals of 300 s, every `stride`-th of them; grows with the times that come."""

    def __init__(self, names: Sequence[str], stride: int = 1) -> None:
        """Nothing has been read yet."""
        self._where = {name: i for i, name in enumerate(names)}
        self._stride = stride
        self._first = 0
        """number of the first column: the end of its interval over 300 s and stride"""
        self._total = np.zeros((len(names), 0), dtype=np.float32)
        self._count = np.zeros((len(names), 0), dtype=np.uint16)

    def read(self, readings: Readings) -> None:
        """Take in everything; InputError where a column, the step or a time cannot be."""
        for part in (readings,) if isinstance(readings, pl.DataFrame | Batch) else readings:
            if isinstance(part, Batch):
                self._batch(part)
            else:
                for low in range(0, part.height, ROWS):
                    self._frame(part.slice(low, ROWS))

    def span(self) -> tuple[int, int]:
        """Return the numbers of the first interval and of the one after the last; equal where there is none."""
        return self._first * self._stride, (self._first + self._total.shape[1]) * self._stride

    def within(self, first: int, last: int) -> Narrow:
        """Return [S, T] the means of the intervals first..last (exclusive) that the stride keeps; NaN = absent."""
        low, high = -(-first // self._stride), -(-last // self._stride)
        out = np.full((len(self._where), max(0, high - low)), np.nan, dtype=np.float32)
        begin, end = max(low, self._first), min(high, self._first + self._total.shape[1])
        if begin < end:
            own = slice(begin - self._first, end - self._first)
            np.divide(
                self._total[:, own], self._count[:, own], out=out[:, begin - low : end - low], where=self._count[:, own] > 0
            )
        return out

    def _batch(self, batch: Batch) -> None:
        if batch.step_s != STEP_S:
            raise InputError(f"plant: {batch.target} comes in steps of {batch.step_s} s; give means over {STEP_S} s")
        rows = np.array([self._where.get(name, -1) for name in batch.names], dtype=np.int64)
        first = int(-(batch.ts[0] // STEP_S) % self._stride) if len(batch.ts) else 0
        values, cells = batch.values[rows >= 0, first :: self._stride], batch.ts[first :: self._stride] // STEP_S
        if not values.size:
            return
        column = self._room(cells // self._stride)
        place = (rows[rows >= 0], slice(int(column[0]), int(column[-1]) + 1))
        seen = np.isfinite(values)
        self._total[place] += np.where(seen, values, 0.0)
        self._count[place] += seen

    def _frame(self, frame: pl.DataFrame) -> None:
        missing = {"ts", "series", "value"} - set(frame.columns)
        if missing:
            raise InputError(f"plant: column {', '.join(sorted(missing))} is missing; give frames with ts, series and value")
        runs = (
            frame["series"].cast(pl.String).rle().struct.unnest()
        )  # sorted by series: few runs, and no text is compared twice
        names = runs["value"].replace_strict(self._where, default=-1, return_dtype=pl.Int64).to_numpy()
        rows = np.repeat(names, runs["len"].to_numpy())
        cells = -(-(frame["ts"].cast(pl.Datetime("us")).to_physical().to_numpy() // 1_000_000) // STEP_S)
        values = frame["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        good = (rows >= 0) & np.isfinite(values) & (cells % self._stride == 0)
        if not good.any():
            return
        column = self._room(cells[good] // self._stride)
        self._add(rows[good], column, values[good])

    def _add(self, rows: Ints, columns: Ints, values: NDArray[np.float64]) -> None:
        top, width = int(rows.min()), self._total.shape[1]
        height = int(rows.max()) - top + 1
        flat = (rows - top) * width + columns
        shape = (height, width)
        self._total[top : top + height] += np.bincount(flat, values, height * width).reshape(shape).astype(np.float32)
        self._count[top : top + height] += np.bincount(flat, minlength=height * width).reshape(shape).astype(np.uint16)

    def _room(self, numbers: Ints) -> Ints:
        """Return the columns of these intervals, which are there from now on."""
        low, high = int(numbers.min()), int(numbers.max()) + 1
        width = self._total.shape[1]
        if not width:
            self._first = low
        begin, end = min(low, self._first), max(high, self._first + width)
        if end - begin > LONGEST:
            raise InputError(
                f"plant: the readings span {(end - begin) * self._stride * STEP_S / 86_400:.0f} days; check the clocks"
            )
        if (begin, end) != (self._first, self._first + width):
            before, after = self._first - begin, end - self._first - width
            self._total = np.pad(self._total, ((0, 0), (before, after)))
            self._count = np.pad(self._count, ((0, 0), (before, after)))
            self._first = begin
        return numbers - self._first


def collected(frames: Mapping[str, Readings], names: Sequence[str]) -> tuple[int, int, dict[str, Narrow]]:
    """Return the first interval, the one after the last, and [S, T] by name; `outside` is one row, whatever its series are
    called. What has no reading at all is left out."""
    read: dict[str, Collected] = {}
    for name, readings in frames.items():
        read[name] = _Any() if name == "outside" else Collected(names)
        read[name].read(readings)
    spans = [one.span() for one in read.values() if one.span()[0] < one.span()[1]]
    if not spans:
        return 0, 0, {}
    first, last = min(low for low, _ in spans), max(high for _, high in spans)
    wide = {name: one.within(first, last) for name, one in read.items()}
    return first, last, {name: values for name, values in wide.items() if np.isfinite(values).any()}


class _Any(Collected):
    """One row of whatever series come."""

    def __init__(self) -> None:
        super().__init__(("",))

    def read(self, readings: Readings) -> None:
        """Take every series for the one."""
        for part in (readings,) if isinstance(readings, pl.DataFrame | Batch) else readings:
            if isinstance(part, Batch):
                for row in part.values:
                    one = Batch(target=part.target, step_s=part.step_s, ts=part.ts, names=("",), values=row[None])
                    super().read(one)
            else:
                super().read(part.with_columns(series=pl.lit("")))
