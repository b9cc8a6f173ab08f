"""Rolling origins: what a fitted model would have said at past moments, and by how much it was wrong.

A path from an origin is made from a batch that ends at that origin, so that no model can peek; an error exists only where the
value has been observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from contracts.ports import Batch, Fitted
from forecast.grids import Floats, Ints, carried, day_steps, restricted

HOUR_S = 3_600


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
    """[O, S] volatility at the origin"""


def roll(model: str, fitted: Fitted, batch: Batch, origins: Sequence[int], knots: Sequence[int]) -> Residuals:
    """Return the errors of `fitted` at the origins and horizons. The model must have been fitted before the first origin."""
    steps, at = max(knots), np.asarray(knots, dtype=np.int64) - 1
    if isinstance(fitted, ManyOrigins):
        paths = fitted.paths(batch, origins, steps)[:, :, at]
    else:
        paths = np.stack([fitted.predict(restricted(batch, o), steps)[:, at] for o in origins])
    return residuals(model, paths.transpose(0, 2, 1), batch, origins, knots)


def residuals(model: str, paths: Floats, batch: Batch, origins: Sequence[int], knots: Sequence[int]) -> Residuals:
    """Return the errors of given `paths` [O, K, S]."""
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
        scale=volatility(batch.values, batch.step_s, where),
    )


def volatility(values: Floats, step_s: int, origins: Ints) -> Floats:
    """Return [O, S] how restless each series was up to each origin (a column): half its mean absolute step of the last day,
    half that of the last hour; never below a tenth of the class's median. Positive and finite."""
    change = np.abs(np.diff(carried(values), axis=1, prepend=np.nan))
    seen = ~np.isnan(values) & ~np.isnan(change)
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(np.where(seen, change, 0.0), axis=1)], axis=1)
    count = np.concatenate([np.zeros((len(values), 1)), np.cumsum(seen, axis=1)], axis=1)

    def mean(steps: int) -> Floats:
        low = np.maximum(origins + 1 - steps, 0)
        n = count[:, origins + 1] - count[:, low]
        return np.where(n > 0, (total[:, origins + 1] - total[:, low]) / np.maximum(n, 1), np.nan)

    day, hour = mean(day_steps(step_s)), mean(max(1, HOUR_S // step_s))
    both = np.where(np.isnan(hour), day, 0.5 * day + 0.5 * hour).T
    typical = np.array([np.median(row[row > 0]) if (row > 0).any() else 0.0 for row in both])[:, None]
    return np.maximum(np.where(np.isnan(both), typical, both), np.maximum(0.1 * typical, 1e-9))


def spread_origins(columns: int, window: int, most: int, day: int) -> list[int]:
    """Return about `most` origins over the last `window` columns, at changing times of day; the last has a step ahead."""
    stride = max(1, -(-window // most))
    if stride > 1 and day % stride == 0:
        stride -= 1  # else the same few times of day come again and again
    return list(range(max(0, columns - window), columns - 1, stride))
