"""The course of a shared level between two intervals of the grid: the regression's while it serves, else the level's own.

All of it is told anew from the newest minutes, so that nothing is kept from tick to tick. Constants were set on twin runs with
seeds 101 to 104 (`bench.forecast_inlet`, whose own seeds are others): there MOST_PHI of .93 or 1 cost 3 and 10 % of the error
since a failure began, RETURN_MIN of 5 or 8 min 1 %.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contracts.ports import Batch
from forecast.grids import Floats, Ints, carried, rows_of

if TYPE_CHECKING:
    from forecast.models.shared import SharedFitted

REPLAYED_MIN = 120
GATE = (3.0, 6.0)
"""size of an error, in usual ones, from which the level's own course is begun to be followed, and is followed wholly"""
JUDGED_MIN = (2, 3, 5)
"""minutes ago whose forecasts of now are judged"""
FORGETS = 0.85
"""share of a size that is left a minute later"""
LEAST_NOISE_K = 0.02
BEFORE_MIN = (12, 6)
"""the level before a departure is the mean over these minutes before it showed"""
CALM_MIN, LONGEST_MIN, BACK_K = 10, 90, 0.5
"""a departure is over after CALM_MIN in the family once the level is back within BACK_K, or after LONGEST_MIN"""
TURN = 3.0
"""move a minute, in units of the noise, that tells the direction"""
SLOPE_MIN, MOVES = 2, 5
PHI, PHI_WEIGHT, MOST_PHI = 0.5, 1.5, 0.85
RETURN_MIN = 6.0
MEAN_MIN = 5
"""minutes in an interval of the grid"""


@dataclass(frozen=True)
class Course:
    """Level [G, H] as means over 300 s, and [G] the share that is the level's own course."""

    path: Floats
    follow: Floats


@dataclass(frozen=True)
class _Away:
    """What was seen until the newest minute; arrays [G]. `before` is NaN while the level is at home; `back`: 1 = it returns."""

    size: Floats
    before: Floats
    back: Floats
    since: Floats
    calm: Floats


def course_of(model: "SharedFitted", levels: Floats, coarse: Batch, now_s: int, step_s: int, lead_s: Floats) -> Course:
    """Return the course at `lead_s` [H] seconds after `now_s`, the end of the newest of the minutes `levels` [G, M].

    NaN for a group of which one of the newest five minutes is missing; for all on a grid of another step than 60 s.
    """
    none = np.full((len(levels), len(lead_s)), np.nan)
    if step_s != 60 or levels.shape[1] < MEAN_MIN or model.step_s != 300:
        return Course(none, np.zeros(len(levels)))
    hour = 13 * MEAN_MIN
    minutes = _lengthened(model, levels[:, -REPLAYED_MIN:], coarse, now_s, hour)
    ends = np.arange(hour, minutes.shape[1] + 1)
    said = [model.ahead(_grid(minutes[:, :t]), coarse, now_s - 60 * (minutes.shape[1] - t)) for t in ends]
    noise = _noise(levels[:, -REPLAYED_MIN:])
    away = _replayed(minutes, model.knots, said, noise, hour)
    at_min = lead_s / 60.0
    path = _interpolated(model.knots, said[-1], at_min)
    size: Floats = np.clip((away.size - GATE[0]) / (GATE[1] - GATE[0]), 0.0, 1.0)
    follow: Floats = np.where(np.isnan(away.before), 0.0, size)
    own = _own(minutes, away, noise, at_min)
    path = np.where(follow[:, None] > 0, path + follow[:, None] * (own - path), path)
    missing = np.asarray(np.isnan(levels[:, -MEAN_MIN:]).any(axis=1), dtype=np.bool_)
    return Course(np.where(missing[:, None], np.nan, path), np.where(missing, 0.0, follow))


def _lengthened(model: "SharedFitted", levels: Floats, coarse: Batch, now_s: int, hour: int) -> Floats:
    """Return the minutes with an hour of the grid's levels before them, gaps carried."""
    rows = rows_of(model.names, coarse)
    first_s = now_s - 60 * levels.shape[1]
    at = first_s - 60 * np.arange(hour - 1, -1, -1)
    column = np.searchsorted(coarse.ts, at)
    low, high = int(column[0]), int(min(column[-1] + 1, len(coarse.ts)))
    known = model.sensors.levels(rows[rows >= 0], coarse.values[rows >= 0, low:high], len(model.groups))
    if not known.shape[1]:
        known = levels[:, :1]
    before = known[:, np.clip(column - low, 0, known.shape[1] - 1)]
    whole = carried(np.concatenate([before, levels], axis=1))
    return np.asarray(np.where(np.isnan(whole), np.nan_to_num(model.mean)[:, None], whole), dtype=np.float64)


def _grid(minutes: Floats) -> Floats:
    """Return [G, 13] means over five minutes, ending with the newest."""
    tail = minutes[:, -13 * MEAN_MIN :]
    return np.asarray(tail.reshape(len(tail), 13, MEAN_MIN).mean(axis=2), dtype=np.float64)


def _noise(levels: Floats) -> Floats:
    """Return [G] the sigma of a minute's move, K."""
    moves = np.sort(np.abs(np.diff(levels, axis=1)), axis=1)  # NaN sorts last
    count = (~np.isnan(moves)).sum(axis=1)
    if not moves.shape[1]:
        return np.full(len(levels), LEAST_NOISE_K)
    middle = moves[np.arange(len(moves)), np.maximum(count - 1, 0) // 2]
    return np.asarray(np.maximum(1.4826 * np.nan_to_num(middle), LEAST_NOISE_K), dtype=np.float64)


def _interpolated(knots: Ints, said: Floats, minute: Floats) -> Floats:
    """Return [G, H] the regression's means over 300 s at `minute` minutes after its newest."""
    at = np.append(0, knots * MEAN_MIN).astype(np.float64)
    return np.stack([np.interp(minute, at, row) for row in said])


def _replayed(minutes: Floats, knots: Ints, said: list[Floats], noise: Floats, hour: int) -> _Away:
    """Return what the minutes since the first forecast have shown."""
    none = np.full(len(minutes), np.nan)
    zero = np.zeros(len(minutes))
    away = _Away(size=zero, before=none, back=zero, since=zero, calm=zero)
    later = np.array(JUDGED_MIN, dtype=np.float64) + (MEAN_MIN - 1) / 2  # a mean over five minutes stands for its middle
    soon = [_interpolated(knots, one, later) for one in said]
    for i in range(max(JUDGED_MIN), len(said)):
        t = hour + i
        errors = [np.abs(soon[i - k][:, j] - minutes[:, t - 1]) / np.sqrt(k) for j, k in enumerate(JUDGED_MIN)]
        away = _looked(away, minutes[:, :t], np.max(errors, axis=0) / noise, noise)
    return away


def _looked(was: _Away, minutes: Floats, size: Floats, noise: Floats) -> _Away:
    """Return the state one minute on."""
    size = np.maximum(size, FORGETS * was.size)
    out = size > GATE[0]
    now = minutes[:, -1]
    home = np.isnan(was.before)
    leaves = out & home
    before = np.where(leaves, minutes[:, -BEFORE_MIN[0] : -BEFORE_MIN[1]].mean(axis=1), was.before)
    since = np.where(leaves, 0.0, was.since + 1)
    calm = np.where(out, 0.0, was.calm + 1)
    over = (calm >= CALM_MIN) & ((np.abs(now - before) < BACK_K) | (since >= LONGEST_MIN))
    before = np.where(over, np.nan, before)
    slope = _slope(minutes)
    towards = np.where(np.abs(slope) > TURN * noise, (slope * (now - before) < 0).astype(np.float64), was.back)
    return _Away(size=size, before=before, back=np.where(leaves | np.isnan(before), 0.0, towards), since=since, calm=calm)


def _slope(minutes: Floats) -> Floats:
    """Return [G] the newest move, K a minute."""
    return np.asarray((minutes[:, -1] - minutes[:, -1 - SLOPE_MIN]) / SLOPE_MIN, dtype=np.float64)


def _own(minutes: Floats, away: _Away, noise: Floats, at_min: Floats) -> Floats:
    """Return [G, H] the level's own course as means over the five minutes that end at `at_min`."""
    each = np.maximum(at_min[:, None] - np.arange(MEAN_MIN), 0.0)
    now, slope, phi = minutes[:, -1], _slope(minutes), _phi(minutes, noise)
    before = np.where(np.isnan(away.before), now, away.before)[:, None, None]
    gone = (now[:, None, None] - before) * np.exp(-each / RETURN_MIN)
    rate = -np.log(phi)[:, None, None]
    on = now[:, None, None] + slope[:, None, None] * (1.0 - np.exp(-each * rate)) / rate
    return np.asarray(np.where(away.back[:, None, None] > 0, before + gone, on).mean(axis=2), dtype=np.float64)


def _phi(minutes: Floats, noise: Floats) -> Floats:
    """Return [G] the share of a minute's move that the next minute keeps, shrunk to PHI."""
    moves = np.diff(minutes[:, -MOVES - 2 :], axis=1)
    weight = PHI_WEIGHT * (np.square(moves).max(axis=1) + np.square(2.0 * noise))
    top = (moves[:, 1:] * moves[:, :-1]).sum(axis=1) + weight * PHI
    kept = top / (np.square(moves[:, :-1]).sum(axis=1) + weight)
    return np.asarray(np.clip(kept, 0.05, MOST_PHI), dtype=np.float64)
