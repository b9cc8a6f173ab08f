"""Kinds of series within a target: smooth, bursty, intermittent. Errors are pooled and champions chosen within a kind.

What a series does decides, by its own past week and free of its unit: a client that rests at zero most of the day and one that
never does have different errors, whatever their names. The thresholds were set on the development parts of ServeGen's models
and clients and of both Azure weeks.
"""

from typing import Literal

import numpy as np

from contracts.ports import Batch
from forecast.grids import WEEK_S, Floats, day_steps

Kind = Literal["", "smooth", "bursty", "intermittent"]
POOL: Kind = ""
"""all series of the target together; also the kind of a series with less than a day of steps"""
KINDS: tuple[Kind, ...] = (POOL, "smooth", "bursty", "intermittent")
RESTS = 0.2
"""share of zeros from which a series is intermittent"""
FOLLOWS = 0.25
"""lag-1 correlation of the steps from which a series is smooth: where it goes, it goes on"""
SMALL_STEPS = 0.1
"""mean absolute step, as a share of the mean, below which a series is smooth; temperatures and power always are"""
CHUNK = 1_000


def kinds(batch: Batch) -> tuple[Kind, ...]:
    """Return the kind of each series by the newest week of the batch. Scale-free; reads nothing but the series itself."""
    tail = batch.values[:, -(WEEK_S // batch.step_s) :]
    out: list[Kind] = []
    for low in range(0, len(tail), CHUNK):
        out += _kinds(tail[low : low + CHUNK], day_steps(batch.step_s))
    return tuple(out)


def _kinds(values: Floats, day: int) -> list[Kind]:
    seen = ~np.isnan(values)
    count = np.maximum(seen.sum(axis=1), 1)
    change = np.diff(values, axis=1)
    size = np.where(np.isnan(change), 0.0, np.abs(change))
    steps = (~np.isnan(change)).sum(axis=1)
    pair = change[:, 1:] * change[:, :-1]
    pairs = np.maximum((~np.isnan(pair)).sum(axis=1), 1)
    power = np.square(size).sum(axis=1) / np.maximum(steps, 1)
    follow = np.where(power > 0, np.nansum(pair, axis=1) / pairs / np.where(power > 0, power, 1.0), 0.0)
    level = np.abs(np.nansum(values, axis=1)) / count
    relative = size.sum(axis=1) / np.maximum(steps, 1) / np.where(level > 0, level, 1.0)
    resting = (values == 0.0).sum(axis=1) / count
    smooth = (follow >= FOLLOWS) | (relative < SMALL_STEPS)
    code = np.select([steps < day, resting >= RESTS, smooth], [0, 3, 1], 2)
    return [KINDS[c] for c in code]
