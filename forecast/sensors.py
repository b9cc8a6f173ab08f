"""What sensors that share their air show of its common temperature, and that temperature again from all of them.

    reading = rounded(offset + gain x level of the group)

One sensor of whole degrees says little about a move of a tenth of a kelvin. Eighty of them, each with an offset of its own, say
it well: somewhere one of them is about to change its figure. So the level is taken as that which would make the sensors'
expected readings add up to those that came. On the twin's aisle of 80 servers (seed 101) its error was .01 to .03 K, and .13
where a heat wave went 8 K below what was learnt. A sensor that stands apart by more than APART_K does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast.grids import Floats, Ints, last_seen

WHOLE_SHARE = 0.95
"""readings in whole degrees from which a sensor is taken to show nothing finer"""
GAIN_PRIOR_K2 = 20.0
"""weight of a gain of one, as the level's summed squared distance from its mean"""
SHIFTS_K = np.linspace(-0.4, 0.4, 33)
ROUNDS = 2
APART_K = 3.0
HALVINGS = 9
"""of a range of 2 K"""
MOST_COLUMNS = 1_000
"""of history that laws are learnt from; more are thinned out"""
MOST_SENSORS = 256
"""of a group that are asked for its level: more tell hardly more"""
CHUNK = 512
"""columns at a time: bounds the memory at thousands of sensors"""


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """Laws [S] of the sensors; `group` [S] is the position of each one's level."""

    group: Ints
    offset: Floats
    """degC"""
    gain: Floats
    step: Floats
    """degC; 0 = shows fractions"""

    def shown(self, rows: Ints, level: Floats) -> Floats:
        """Return the expected readings [..., R] of the sensors `rows` [R] at levels [..., R]."""
        return stepped(self.offset[rows] + self.gain[rows] * level, self.step[rows])

    def levels(self, rows: Ints, values: Floats, groups: int) -> Floats:
        """Return [G, T] the groups' levels from the readings [R, T] of the sensors `rows`; NaN where none is there."""
        out = np.full((groups, values.shape[1]), np.nan)
        for g in np.unique(self.group[rows]):
            mine = np.flatnonzero(self.group[rows] == g)
            mine = mine[:: max(1, -(-len(mine) // MOST_SENSORS))]
            own = rows[mine]
            for low in range(0, values.shape[1], CHUNK):
                part = values[mine, low : low + CHUNK]
                out[g, low : low + CHUNK] = _level(part, self.offset[own], self.gain[own], self.step[own])
        return out


def stepped(values: Floats, step: Floats) -> Floats:
    """Return values [..., S] as sensors with a resolution of `step` [S] show them; 0 = as they are."""
    whole = np.where(step > 0, step, 1.0)
    return np.where(step > 0, np.rint(values / whole) * whole, values)


def learnt(values: Floats, groups: Sequence[str]) -> tuple[Sensors, tuple[str, ...]]:
    """Return the laws of the sensors with readings `values` [S, T] (each with at least one), and the names of the groups in the
    order of their positions."""
    names = tuple(dict.fromkeys(groups))
    values = _thinned(values)
    group = np.array([names.index(own) for own in groups], dtype=np.int64)
    seen = ~np.isnan(values)
    whole = (np.nan_to_num(values) == np.rint(np.nan_to_num(values))) & seen
    step = np.where(whole.sum(axis=1) >= WHOLE_SHARE * np.maximum(seen.sum(axis=1), 1), 1.0, 0.0)
    offset, gain = np.zeros(len(values)), np.ones(len(values))
    for g in range(len(names)):
        mine = np.flatnonzero(group == g)
        offset[mine], gain[mine] = _laws(values[mine], step[mine])
    return Sensors(group=group, offset=offset, gain=gain, step=step), names


def _thinned(values: Floats) -> Floats:
    """Return about MOST_COLUMNS of the columns; a sensor that has nothing in them keeps its newest reading in the last one."""
    some = values[:, :: max(1, values.shape[1] // MOST_COLUMNS)].copy()
    none = np.isnan(some).all(axis=1)
    if none.any():
        some[none, -1] = last_seen(values[none])
    return some


def _laws(values: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Return offsets and gains [S] of one group's sensors: a regression on their mean, then offsets moved to where rounding
    explains most readings."""
    mean = np.nanmean(values, axis=1)
    apart = values - mean[:, None]
    common = _mean(apart, np.zeros(apart.shape[1]))
    centre = float(np.mean(mean))
    known = ~np.isnan(values)
    about = np.where(known, common - (np.where(known, common, 0.0).sum(axis=1) / known.sum(axis=1))[:, None], 0.0)
    gain = (np.nan_to_num(apart) * about).sum(axis=1) + GAIN_PRIOR_K2
    gain = np.clip(gain / ((about * about).sum(axis=1) + GAIN_PRIOR_K2), 0.5, 2.0)
    offset = mean - gain * centre - gain * np.where(known, common, 0.0).sum(axis=1) / known.sum(axis=1)
    if (step > 0).any():
        for _ in range(ROUNDS):
            level = np.concatenate(
                [_level(values[:, k : k + CHUNK], offset, gain, step) for k in range(0, values.shape[1], CHUNK)]
            )
            offset = offset + np.where(step > 0, _shift(values, offset[:, None] + gain[:, None] * level, step), 0.0)
    return offset, gain


def _shift(values: Floats, expected: Floats, step: Floats) -> Floats:
    """Return [S] the middle of the shifts with which rounding explains most readings."""
    off = np.stack([np.nanmean(np.abs(stepped((expected + k).T, step).T - values), axis=1) for k in SHIFTS_K])
    best = off <= off.min(axis=0) + 1e-9
    return np.asarray((best * SHIFTS_K[:, None]).sum(axis=0) / best.sum(axis=0), dtype=np.float64)


def _level(values: Floats, offset: Floats, gain: Floats, step: Floats) -> Floats:
    """Return [T] the level at which the expected readings' mean is that of the readings [S, T]."""
    alone = (values - offset[:, None]) / gain[:, None]
    middle = np.full(values.shape[1], np.nan)
    some = ~np.isnan(values).all(axis=0)
    middle[some] = np.nanmedian(alone[:, some], axis=0)
    counts = ~np.isnan(values) & (np.abs(alone - middle) <= APART_K)
    start = _mean(np.where(counts, alone, np.nan), middle)
    if not (step > 0).any():
        return start
    number = np.maximum(counts.sum(axis=0), 1)
    wanted = np.where(counts, values, 0.0).sum(axis=0) / number
    ends = []
    for least in (True, False):  # readings stand still over a small range of levels: its two ends
        low, high = start - 1.0, start + 1.0
        for _ in range(HALVINGS):
            half = 0.5 * (low + high)
            shown = stepped((offset[:, None] + gain[:, None] * half).T, step).T
            mean = np.where(counts, shown, 0.0).sum(axis=0) / number
            below = mean < wanted if least else mean <= wanted
            low, high = np.where(below, half, low), np.where(below, high, half)
        ends.append(0.5 * (low + high))
    return np.asarray(0.5 * (ends[0] + ends[1]), dtype=np.float64)


def _mean(values: Floats, instead: Floats) -> Floats:
    """Return the means [T] over the sensors that are there; `instead` where there is none."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), instead)
