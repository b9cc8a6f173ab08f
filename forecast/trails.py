"""What the newest minutes of 2 s row power say at many moments at once: trailing means, restlessness, the maximum that came."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from forecast.grids import Floats, Ints

Bools = NDArray[np.bool_]

MEANS_S = (10, 30, 60, 120, 300, 900)
"""trailing means; the level is that over LEVEL_S, the others tell by how much it moves"""
LEVEL_S = 120
RESTLESS_S = (120, 900)
"""the scale is the root of the mean of the two variances: quick to see a change, slow enough to be steady"""
FRESH_S = 10
"""an origin needs a sample at most so old"""
MOST_MISSING = 0.1
"""share of a window's samples without which its maximum still counts"""
FEATURES = 6


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What is known at origins, all in W but `x`."""

    level: Floats
    """[R, O] mean of the last LEVEL_S; NaN where nothing was measured in the last 15 min"""
    scale: Floats
    """[R, O] standard deviation of a sample around a steady level, from differences of neighbours; NaN without two"""
    x: Floats
    """[R, O, FEATURES] differences of the trailing means from the level, then the rise expected over 5 min"""


def usable(power_w: Floats, rows: int) -> Floats:
    """Return `power_w` with what is no power (infinite, negative) as NaN. Raises InputError when it is not [rows, some]."""
    power_w = np.asarray(power_w, dtype=np.float64)
    if power_w.ndim != 2 or len(power_w) != rows or not power_w.shape[1]:
        raise InputError(
            f"row maxima: power of shape {power_w.shape}; give [{rows}, samples], a row for each that was learnt of"
        )
    return np.where(np.isfinite(power_w) & (power_w >= 0), power_w, np.nan)


def origins_of(until_s: int, columns: int, step_s: int, since_s: int, every_s: int) -> Ints:
    """Return the columns that hold the newest sample at each whole multiple of `every_s` from `since_s` on, the last column
    left away; the last of `columns` ends at `until_s`. The same times whatever the first column is."""
    begin_s = until_s - (columns - 1) * step_s
    first_s = -(-max(begin_s, since_s) // every_s) * every_s
    return np.arange(first_s - begin_s, (columns - 1) * step_s, every_s, dtype=np.int64) // step_s


def looks(power_w: Floats, origins: Ints, step_s: int, rise_w: Floats | None = None) -> Looks:
    """Return what is known at `origins` (columns, [O] or [R, O]) of `power_w` [R, T]; nothing after an origin is read.

    `rise_w` [R, O]: by how much the 300 s mean will change in 300 s, as a level forecast says; absent or NaN, the row's own
    trend (its last 5 min against its last 15) stands for it.
    """
    where = np.broadcast_to(origins, (len(power_w), np.shape(origins)[-1]))
    first = np.argmax(~np.isnan(power_w), axis=1)[:, None]
    base = np.nan_to_num(np.take_along_axis(power_w, first, axis=1))  # sums of small numbers keep their digits
    means = _trailing(power_w - base, where, [max(1, s // step_s) for s in MEANS_S])
    for i in range(len(MEANS_S) - 2, -1, -1):  # where the newest seconds are missing, the longer mean stands for the shorter
        means[i] = np.where(np.isnan(means[i]), means[i + 1], means[i])
    change = np.diff(power_w, axis=1, prepend=np.nan)
    variance = _trailing(np.square(change) / 2.0, where, [max(2, s // step_s) for s in RESTLESS_S])
    variance[0] = np.where(np.isnan(variance[0]), variance[1], variance[0])
    level = means[MEANS_S.index(LEVEL_S)]
    trend = means[MEANS_S.index(300)] - means[MEANS_S.index(900)]
    rise = trend if rise_w is None else np.where(np.isnan(rise_w), trend, rise_w)
    others = [means[i] - level for i, s in enumerate(MEANS_S) if s not in (LEVEL_S, 900)]
    scale = np.sqrt(0.5 * variance[0] + 0.5 * variance[1])
    return Looks(level=level + base, scale=scale, x=np.stack([*others, rise, trend - rise], axis=-1))


def maxima(power_w: Floats, origins: Ints, steps: int) -> Floats:
    """Return [R, O] the highest of the `steps` samples after each origin [O]; NaN where the window is not over or has holes."""
    total = power_w.shape[1]
    if total <= steps:
        return np.full((len(power_w), len(origins)), np.nan)
    highest = np.where(np.isnan(power_w), -np.inf, power_w)
    reach = 1
    while 2 * reach <= steps:  # the maximum over 2, 4, 8, ... samples from each column on
        highest[:, : total - reach] = np.maximum(highest[:, : total - reach], highest[:, reach:])
        reach *= 2
    first, last = origins + 1, origins + 1 + steps - reach
    over = origins + steps < total
    best = np.maximum(highest[:, np.where(over, first, 0)], highest[:, np.where(over, last, 0)])
    count = np.concatenate([np.zeros((len(power_w), 1), dtype=np.int64), np.cumsum(~np.isnan(power_w), axis=1)], axis=1)
    seen = count[:, np.where(over, origins + steps + 1, 0)] - count[:, np.where(over, first, 0)]
    return np.where(over & (seen >= (1.0 - MOST_MISSING) * steps) & (seen > 0), best, np.nan)


def last_seen(power_w: Floats) -> Ints:
    """Return [R] the column of each row's newest sample; -1 where there is none."""
    seen = ~np.isnan(power_w)
    last = power_w.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    return np.asarray(np.where(seen.any(axis=1), last, -1), dtype=np.int64)


def fresh(power_w: Floats, origins: Ints, step_s: int) -> Bools:
    """Return [R, O] whether a sample at most FRESH_S old is there at the origin."""
    seen = np.where(np.isnan(power_w), -(10**9), np.arange(power_w.shape[1])[None])
    newest = np.maximum.accumulate(seen, axis=1)[:, origins]
    return np.asarray((origins[None] - newest) * step_s <= FRESH_S)


def _trailing(values: Floats, where: Ints, steps: list[int]) -> list[Floats]:
    """Return, for each number of steps, [R, O] the mean of what is known in so many columns up to `where`; NaN of nothing."""
    rows = len(values)
    row = np.arange(rows)[:, None]
    known = ~np.isnan(values)
    total = np.concatenate([np.zeros((rows, 1)), np.cumsum(np.where(known, values, 0.0), axis=1)], axis=1)
    count = np.concatenate([np.zeros((rows, 1), dtype=np.int64), np.cumsum(known, axis=1)], axis=1)
    out: list[Floats] = []
    for n in steps:
        low = np.maximum(where + 1 - n, 0)
        of = count[row, where + 1] - count[row, low]
        summed = total[row, where + 1] - total[row, low]
        out.append(np.where(of > 0, summed / np.maximum(of, 1), np.nan))
    return out
