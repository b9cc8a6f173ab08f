"""Small arithmetic on regular grids that every model shares: filling, Fourier terms, restricted views, matching by name."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400
WEEK_S = 7 * DAY_S
COUNTED = ("load", "prompt_tok", "output_tok")
"""targets that are regressed as log1p: they are positive and their spread grows with their level"""


def epoch_s(at: datetime) -> int:
    """Return whole seconds since 1970 UTC; a naive time is taken as UTC."""
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def day_steps(step_s: int) -> int:
    """Return the number of steps in a day. Raises InputError where a day is no multiple of the step."""
    if step_s <= 0 or DAY_S % step_s:
        raise InputError(f"step_s = {step_s}: a day must be a whole number of steps; resample to e.g. 60, 300 or 600 s")
    return DAY_S // step_s


def span_s(batch: Batch) -> int:
    """Return the time that the batch covers."""
    return len(batch.ts) * batch.step_s


def restricted(batch: Batch, last: int) -> Batch:
    """Return the batch as it was known at column `last` (inclusive): later values and covariates are not in it at all."""
    end = last + 1
    covariates = {name: values[..., :end] for name, values in batch.covariates.items()}
    return replace(batch, ts=batch.ts[:end], values=batch.values[:, :end], covariates=covariates, covariate_errors={})


def recent(batch: Batch, steps: int) -> Batch:
    """Return the newest `steps` columns of the batch, without covariates."""
    return replace(batch, ts=batch.ts[-steps:], values=batch.values[:, -steps:], covariates={}, covariate_errors={})


def clipped(values: Floats, batch: Batch) -> Floats:
    """Return `values` [..., S, steps] within the batch's bounds, which are one number each or [S]; rows that repeat the batch's
    series several times over (many origins) take the bounds as often."""
    rows = values.shape[-2]
    low, high = np.resize(batch.lower, rows)[:, None], np.resize(batch.upper, rows)[:, None]
    return np.asarray(np.clip(values, low, high), dtype=np.float64)


def rows_of(names: Sequence[str], batch: Batch) -> Ints:
    """Return, per series of the batch, its position in `names`; -1 where it is not there."""
    if names == batch.names:
        return np.arange(len(batch.names), dtype=np.int64)
    positions = {name: i for i, name in enumerate(names)}
    return np.array([positions.get(name, -1) for name in batch.names], dtype=np.int64)


def sampled(names: Sequence[str], most: int) -> Ints:
    """Return the rows of at most `most` series, spread evenly over the sorted names, so that their order does not matter."""
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    return order[:: max(1, -(-len(order) // most))]


def carried(values: Floats) -> Floats:
    """Return `values` [S, T] in their own precision, each gap carrying the last value before it; NaN before the first one."""
    out = np.array(values, order="C")
    gap = np.isnan(out)
    if not gap.any():
        return out
    begins = gap.copy()
    begins[:, 1:] &= ~gap[:, :-1]
    first, where = np.flatnonzero(begins), np.flatnonzero(gap)
    source = np.where(first % out.shape[1] == 0, np.nan, out.ravel()[first - 1])
    out.ravel()[where] = source[np.cumsum(begins.ravel()[where]) - 1]
    return out


def last_seen(values: Floats) -> Floats:
    """Return [S] the newest observed value; NaN where there is none."""
    if not values.shape[1]:
        return np.full(len(values), np.nan)
    back = np.argmax(~np.isnan(values[:, ::-1]), axis=1)
    return np.asarray(values[np.arange(len(values)), values.shape[1] - 1 - back], dtype=np.float64)


def median_of(members: Sequence[Floats]) -> Floats:
    """Return the median, element by element, of a few arrays of one shape, without the NaN; NaN where all are.

    Sorted by comparing neighbours (odd-even transposition), which numpy does whole arrays at a time: for five members an order
    of magnitude faster than a sort along a short axis.
    """
    gaps = [np.isnan(member) for member in members]
    part = [np.where(gap, np.inf, member) for gap, member in zip(gaps, members, strict=True)]
    for turn in range(len(part)):
        for i in range(turn % 2, len(part) - 1, 2):
            part[i], part[i + 1] = np.minimum(part[i], part[i + 1]), np.maximum(part[i], part[i + 1])
    low, high = part[(len(part) - 1) // 2], part[len(part) // 2]
    if any(gap.any() for gap in gaps):
        count = len(part) - np.sum(gaps, axis=0)
        low, high = np.choose(np.maximum((count - 1) // 2, 0), part), np.choose(count // 2, part)
        return np.where(count > 0, 0.5 * (np.where(count > 0, low, 0.0) + np.where(count > 0, high, 0.0)), np.nan)
    return 0.5 * (low + high)


def taken(values: Floats, columns: Ints) -> Floats:
    """Return `values` [S, T] at `columns`, NaN at those before the first; columns that follow one another are not copied."""
    if len(columns) and columns[0] >= 0 and (np.diff(columns) == 1).all():
        return values[:, columns[0] : columns[-1] + 1]
    known = columns >= 0
    out = np.full((len(values), len(columns)), np.nan)
    out[:, known] = values[:, columns[known]]
    return out


def filled(values: Floats) -> Floats:
    """Return `values` with gaps carried forward, and the first value carried back; a series without any stays NaN."""
    forward = carried(values)
    return np.where(np.isnan(forward), carried(forward[:, ::-1])[:, ::-1], forward)


def gaps_bridged(values: Floats, steps: int) -> Floats:
    """Return `values` where a gap takes the value `steps` (a season) before it, else the last one before it."""
    out = values.copy()
    for first in range(steps, out.shape[1], steps):
        block = out[:, first : first + steps]
        before = out[:, first - steps : first - steps + block.shape[1]]
        block[...] = np.where(np.isnan(block), before, block)
    return filled(out)


def observed(values: Floats) -> Ints:
    """Return the number of observed points per series."""
    return np.asarray((~np.isnan(values)).sum(axis=1), dtype=np.int64)


def fourier(ts: Ints, period_s: int, harmonics: int) -> Floats:
    """Return [T, 2 x harmonics] sines and cosines of the period at `ts`."""
    angle = 2.0 * np.pi * (ts % period_s)[:, None] / period_s * np.arange(1, harmonics + 1)[None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def future(batch: Batch, steps: int) -> Ints:
    """Return the times of the `steps` intervals after the batch."""
    return np.asarray(batch.ts[-1] + batch.step_s * np.arange(1, steps + 1), dtype=np.int64)


def newest(batch: Batch) -> Ints:
    """Return, per series, the time of its newest observed point; -1 where it has none."""
    count = batch.values.shape[1]
    out = np.full(len(batch.names), -1, dtype=np.int64)
    end, width = count, min(count, 32)
    while end > 0 and (open_ := np.flatnonzero(out < 0)).size:  # most series have a value in the newest columns
        start = max(0, end - width)
        seen = ~np.isnan(batch.values[open_, start:end])
        last = end - 1 - np.argmax(seen[:, ::-1], axis=1)
        out[open_] = np.where(seen.any(axis=1), batch.ts[last], -1)
        end, width = start, 16 * width
    return out
