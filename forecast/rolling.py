"""Rolling origins: what a fitted model would have said at past moments, and by how much it was wrong.

A path from an origin is made from a batch that ends at that origin, so that no model can peek; an error exists only where the
value has been observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from contracts.ports import Batch, Fitted
from forecast.grids import Floats, Ints, carried, day_steps, last_seen, restricted

HOUR_S = 3_600
LOOK_STEPS = 288
"""columns at a time in which the last value before a gap is looked for"""


@runtime_checkable
class ManyOrigins(Protocol):
    """A fitted model that makes the paths of many origins at once (cheaper than one by one)."""

    def paths(self, batch: Batch, origins: Sequence[int], steps: int) -> Floats:
        """Return [O, S, steps]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Errors of one model. `origins` are columns of the batch, `knots` steps ahead."""

    model: str
    origins: Ints
    origin_ts: Ints
    step_s: int
    knots: Ints
    paths: Floats
    """[O, K, S] what was forecast; NaN = no opinion"""
    errors: Floats
    """[O, K, S] observed minus forecast; NaN where either is not there (yet)"""
    scale: Floats
    """[O, S] the unit of the errors: volatility at the origin, or restlessness"""


def roll(model: str, fitted: Fitted, batch: Batch, origins: Sequence[int], knots: Sequence[int]) -> Residuals:
    """Return the errors of `fitted` at the origins and horizons. The model must have been fitted before the first origin."""
    return residuals(model, paths_from(fitted, batch, origins, knots), batch, origins, knots)


def paths_from(fitted: Fitted, batch: Batch, origins: Sequence[int], knots: Sequence[int]) -> Floats:
    """Return [O, K, S] what `fitted` says at the origins for the horizons."""
    steps, at = max(knots), np.asarray(knots, dtype=np.int64) - 1
    if isinstance(fitted, ManyOrigins):
        paths = fitted.paths(batch, origins, steps)[:, :, at]
    else:
        paths = np.stack([fitted.predict(restricted(batch, o), steps)[:, at] for o in origins])
    return np.asarray(paths.transpose(0, 2, 1), dtype=np.float64)


def residuals(
    model: str, paths: Floats, batch: Batch, origins: Sequence[int], knots: Sequence[int], scale: Floats | None = None
) -> Residuals:
    """Return the errors of given `paths` [O, K, S], in units of `scale` [O, S] or else of the volatility."""
    ahead = np.asarray(origins, dtype=np.int64)[:, None] + np.asarray(knots, dtype=np.int64)[None, :]
    columns = batch.values.shape[1]
    actual = np.where((ahead < columns)[:, :, None], batch.values.T[np.minimum(ahead, columns - 1)], np.nan)
    where = np.asarray(origins, dtype=np.int64)
    return Residuals(
        model=model,
        origins=where,
        origin_ts=batch.ts[where],
        step_s=batch.step_s,
        knots=np.asarray(knots, dtype=np.int64),
        paths=paths,
        errors=actual - paths,
        scale=volatility(batch.values, batch.step_s, where) if scale is None else scale,
    )


def volatility(values: Floats, step_s: int, origins: Ints) -> Floats:
    """Return [O, S] how restless each series was up to each origin (a column): half its mean absolute step of the last day,
    half that of the last hour; never below a tenth of the class's median. Positive and finite.

    Reads the day before the first origin up to the last one: one origin costs a day, whatever the history.
    """
    day = day_steps(step_s)
    first = max(0, int(np.min(origins)) + 1 - day)
    known = _carried_from(values[:, : int(np.max(origins)) + 1], first)
    change = np.abs(np.diff(known, axis=1))
    seen = ~np.isnan(values[:, first : first + change.shape[1]]) & ~np.isnan(change)
    total = np.zeros((len(values), change.shape[1] + 1))
    count = np.zeros((len(values), change.shape[1] + 1))
    np.cumsum(np.where(seen, change, 0.0), axis=1, out=total[:, 1:])
    np.cumsum(seen, axis=1, out=count[:, 1:])
    end = origins + 1 - first

    def mean(steps: int) -> Floats:
        low = np.maximum(end - steps, 0)
        n = count[:, end] - count[:, low]
        return np.where(n > 0, (total[:, end] - total[:, low]) / np.maximum(n, 1), np.nan)

    slow, fast = mean(day), mean(max(1, HOUR_S // step_s))
    both = np.where(np.isnan(fast), slow, 0.5 * slow + 0.5 * fast).T
    typical = np.array([np.median(row[row > 0]) if (row > 0).any() else 0.0 for row in both])[:, None]
    return np.maximum(np.where(np.isnan(both), typical, both), np.maximum(0.1 * typical, 1e-9))


def _carried_from(values: Floats, first: int) -> Floats:
    """Return the columns `first - 1` (NaN if there is none) to the last, gaps carried. Looks farther back only for the series
    that have a gap there, some columns at a time."""
    before = np.full(len(values), np.nan)
    end, width = first, 1
    while end > 0 and (open_ := np.flatnonzero(np.isnan(before))).size:
        start = max(0, end - width)
        before[open_] = last_seen(values[open_, start:end])
        end, width = start, LOOK_STEPS
    return carried(np.concatenate([before[:, None], values[:, first:]], axis=1))


def spread_origins(columns: int, window: int, most: int, day: int) -> list[int]:
    """Return about `most` origins over the last `window` columns, at changing times of day; the last has a step ahead."""
    stride = max(1, -(-window // most))
    if stride > 1 and day % stride == 0:
        stride -= 1  # else the same few times of day come again and again
    return list(range(max(0, columns - window), columns - 1, stride))
