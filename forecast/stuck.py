"""Sensors that show one and the same reading while they should have moved."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from forecast.grids import DAY_S, Floats, Ints
from forecast.suspects import CELSIUS, Episode

Bools = NDArray[np.bool_]

SENSED = (*CELSIUS, "power", "ups_power")
"""what cannot truly stand still. Fans at full duty and an idle server can, and a client may poll like a clock"""
STUCK_S = 3_600
"""a shorter run of one reading is nothing [A]"""
MOVED_STEPS = 2.5
"""by how many of its own steps a sensor should have moved meanwhile. On a week of the twin's 80 inlets of whole degrees [F] 2.5
called none of the sound ones stuck and found 12 of 12 that stood while the truth moved by 3 K in 12 h, 5 of them within 4 h;
2 called 54 runs of sound ones stuck, 3 missed two"""
LONE = 3
"""without neighbours a run must be so many times the usual long one (the 95th percentile), and as many hours [A]"""
MOST_NEIGHBOURS = 64


def stuck(values: Floats, target: str, step_s: int, names: Sequence[str]) -> Iterator[Episode]:
    """Yield runs of one and the same reading, an hour or longer, of sensors that should have moved meanwhile.

    A run counts if the mean of all series (or where there are fewer than three the series itself a day earlier) moved over it
    by as much as stands for MOVED_STEPS of the series' own steps: the movement over the run, relative to that of the day before
    it, times the series' own movement of that day. Who is still while nothing moves is not called stuck: nobody could tell, and
    nothing is lost. Only what is SENSED is looked at, and a power of nothing is no stuck one.
    """
    if target not in SENSED:
        return
    least = max(STUCK_S // step_s, 3)
    sampled = values[:, :: max(least // 2, 1)]
    rows = np.flatnonzero((sampled[:, 1:] == sampled[:, :-1]).any(axis=1))
    common = _common(values, names) if rows.size and len(values) >= 3 else None
    usual = None if common is None else _ranges(common, DAY_S // step_s)
    for row in rows:
        series = values[row]
        seen = np.flatnonzero(~np.isnan(series))
        ends = np.append(np.flatnonzero(np.diff(series[seen]) != 0), len(seen) - 1)
        lengths = np.diff(ends, prepend=-1)
        if common is None or usual is None:
            suspect = lengths > LONE * max(least, int(np.sort(lengths)[int(0.95 * (len(lengths) - 1))]))
        else:
            suspect = (lengths >= least) & _closer(series[seen], ends - lengths + 1, common[seen], usual[seen])
        for i in np.flatnonzero(suspect):
            first, last = int(seen[ends[i] - lengths[i] + 1]), int(seen[ends[i]])
            if series[first] == 0.0 and target not in CELSIUS:
                continue
            moved = _should_have_moved(series, common, usual, first, last + 1, DAY_S // step_s)
            if moved >= MOVED_STEPS:
                newest = bool(ends[i] == len(seen) - 1)
                why = f"{series[first]:.6g} without a change, while it should have moved {moved:.0f} of its steps"
                yield Episode(row=int(row), first=first + 1, end=last + 1, why=why, open=newest)


def _closer(own: Floats, starts: Ints, common: Floats, usual: Floats) -> Bools:
    """Return for each run of `own` (which begin at `starts`) whether it is worth a closer look: as `_should_have_moved`, with
    the whole history's range and step in the place of a day's."""
    changes = np.abs(np.diff(own))
    changes = changes[changes > 0]
    if not changes.size:
        return np.zeros(len(starts), dtype=np.bool_)
    moved = np.fmax.reduceat(common, starts) - np.fmin.reduceat(common, starts)
    return np.asarray(moved * np.ptp(own) >= MOVED_STEPS * np.median(changes) * usual[starts], dtype=np.bool_)


def _common(values: Floats, names: Sequence[str]) -> Floats:
    """Return [T] the mean over (at most MOST_NEIGHBOURS of) the series, each from its own least and by its own spread.

    Many sensors of whole degrees, each with its own offset, show parts of a degree in their mean. The neighbours are spread
    over the names, so that the order of the series does not matter.
    """
    chosen = np.linspace(0, len(values) - 1, min(len(values), MOST_NEIGHBOURS)).astype(np.int64)
    some = values[np.argsort(np.array(names))[chosen]]
    spread = _range(some)
    some, spread = some[spread > 0], spread[spread > 0]
    if not len(some):
        return np.zeros(values.shape[1])
    scaled = (some - np.fmin.reduce(some, axis=1)[:, None]) / spread[:, None]
    count = (~np.isnan(scaled)).sum(axis=0)
    return np.where(count > 0, np.nansum(scaled, axis=0) / np.maximum(count, 1), np.nan)


def _ranges(common: Floats, day: int) -> Floats:
    """Return [T] by how much `common` moved in the day up to each column."""
    padded = np.concatenate([np.full(day, np.nan), common])
    windows = sliding_window_view(padded, day + 1)
    return np.asarray(np.fmax.reduce(windows, axis=1) - np.fmin.reduce(windows, axis=1), dtype=np.float64)


def _should_have_moved(own: Floats, common: Floats | None, usual: Floats | None, first: int, end: int, day: int) -> float:
    """Return by how many of its own steps the series should have moved over columns first..end-1; 0 where nobody can tell."""
    before = own[max(0, first - day) : first + 1]
    before = before[~np.isnan(before)]
    if before.size < day // 2:
        return 0.0
    changes = np.abs(np.diff(before))
    changes = np.sort(changes[changes > 0])
    if not changes.size:
        return 0.0
    step = float(changes[changes.size // 2])
    if common is None or usual is None:
        yesterday = own[max(0, first - day) : max(0, min(end - day, first))]
        return float(np.nan_to_num(_range(yesterday[None])[0]) / step)
    moved = float(_range(common[None, first:end])[0])
    return moved / float(usual[first]) * float(np.ptp(before)) / step if usual[first] > 0 else 0.0


def _range(values: Floats) -> Floats:
    """Return [S] greatest minus least; NaN where nothing is known."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    return np.asarray(np.fmax.reduce(values, axis=1) - np.fmin.reduce(values, axis=1), dtype=np.float64)
