"""Linear models in innovations form, as ETS and unobserved components are kept after their fit (Hyndman et al. 2008, ch. 2 and
3):

    y[t] = curve[t] + Z x[t] + e[t],   x[t+1] = T x[t] + K e[t],   e = what the state did not foresee

Z, T and the gain K are the fit's and stay; the state x goes on with every new reading, in one pass over all series. A gap has
no e: the state only moves on. So an hour-old fit serves with the newest reading, and costs no second filter run over the
history.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.ports import Batch
from forecast.grids import (
    DAY_S,
    WEEK_S,
    Floats,
    Ints,
    clipped,
    day_steps,
    fourier,
    future,
    gaps_bridged,
    observed,
    recent,
    restricted,
    rows_of,
    span_s,
)

HARMONICS = (4, 2)
"""of the day and of the week"""
STIFF = 0.005
"""weight of a flat curve, in days and per squared harmonic (as in `ridge`)"""


@dataclass(frozen=True, kw_only=True)
class InnovationsFitted:
    """Per series [S, ...] in the batch's unit, or as log1p of it; `ts`: the newest time of the fit."""

    names: tuple[str, ...]
    ts: int
    step_s: int
    log: bool
    harmonics: tuple[int, int]
    curve: Floats
    """[S, Fourier terms]"""
    design: Floats
    """[S, M] Z"""
    transition: Floats
    """[S, M, M] T"""
    gain: Floats
    """[S, M] K"""
    state: Floats
    """[S, M] x of the step after the fit"""
    low: Floats
    high: Floats
    """bounds of a path: what the history spans, and half of that beyond"""

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]; NaN for a series that was not fitted or has nothing observed in the last two days, and for a batch
        on another grid or from before the fit."""
        return np.asarray(self.paths(batch, [len(batch.ts) - 1], steps)[0], dtype=np.float64)

    def paths(self, batch: Batch, origins: Sequence[int], steps: int) -> Floats:
        """Return [O, S, steps]: `predict` at each origin (a column) as if nothing after it were known, in one filter run."""
        out = np.full((len(origins), len(batch.names), steps), np.nan)
        row = rows_of(self.names, batch)
        if not self.names or not len(batch.ts) or batch.step_s != self.step_s:
            return out
        states = self._states(batch, [int(batch.ts[o]) for o in origins], row)
        for o, origin in enumerate(origins):
            known = restricted(batch, origin)
            heard = observed(recent(known, 2 * day_steps(batch.step_s)).values) > 0
            path = self._ahead(states[o], row, steps) + self.curve[row] @ season_terms(future(known, steps), self.harmonics).T
            path = np.clip(path, self.low[row][:, None], self.high[row][:, None])
            path = np.expm1(path) if self.log else path
            ok = heard & (row >= 0) & (known.ts[-1] >= self.ts)
            out[o] = np.where(ok[:, None], clipped(path, batch), np.nan)
        return out

    def _states(self, batch: Batch, at: Sequence[int], row: Ints) -> Floats:
        """Return the states [O, S, M] after the readings until each time of `at`; before the fit's end it is the fit's."""
        design, transition, gain, state = self.design[row], self.transition[row], self.gain[row], self.state[row]
        out = np.repeat(state[None], len(at), axis=0)
        ts = np.arange(self.ts + self.step_s, max(at) + 1, self.step_s)
        curve = self.curve[row] @ season_terms(ts, self.harmonics).T
        column = (ts - int(batch.ts[0])) // self.step_s
        for i, now in enumerate(ts):
            reading = batch.values[:, column[i]] if column[i] >= 0 else np.full(len(row), np.nan)
            surprise = transformed(reading, self.log) - curve[:, i] - (design * state).sum(axis=1)
            surprise = np.where(np.isnan(surprise), 0.0, surprise)
            state = (transition @ state[:, :, None])[:, :, 0] + gain * surprise[:, None]
            out[[o for o, end in enumerate(at) if end == now]] = state
        return out

    def _ahead(self, state: Floats, row: Ints, steps: int) -> Floats:
        path = np.zeros((len(row), steps))
        for h in range(steps):
            path[:, h] = (self.design[row] * state).sum(axis=1)
            state = (self.transition[row] @ state[:, :, None])[:, :, 0]
        return path


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the fits of the chosen series start from."""

    rows: list[int]
    """of the batch: series with enough points"""
    harmonics: tuple[int, int]
    values: Floats
    """[R, T] transformed; NaN = gap"""
    curve: Floats
    """[R, Fourier terms], without a constant"""
    rest: Floats
    """[R, T] what the curve leaves, gaps bridged"""


def transformed(values: Floats, log: bool) -> Floats:
    """Return log1p of a load (positive, with a spread that grows with its level), other values as they are."""
    return np.log1p(np.maximum(values, 0.0)) if log else values


def prepared(batch: Batch, min_points: int, log: bool) -> Prepared:
    """Return the series with at least `min_points`, and their seasonal curves: one ridge regression on Fourier terms each."""
    day = day_steps(batch.step_s)
    rows = [s for s, n in enumerate(observed(batch.values)) if n >= min_points and len(batch.ts) >= min_points]
    harmonics = harmonics_of(batch)
    values = transformed(batch.values[rows], log)
    curve = curves(values, batch, harmonics)
    terms = season_terms(batch.ts, harmonics)
    rest = gaps_bridged(values - curve @ terms.T, day)
    return Prepared(rows=rows, harmonics=harmonics, values=values, curve=curve, rest=rest)


def kept(
    batch: Batch, start: Prepared, log: bool, design: Floats, transition: Floats, gain: Floats, state: Floats
) -> InnovationsFitted:
    """Return the fits of the prepared series of `batch`, to be carried on."""
    low, high = bounds(start.values)
    return InnovationsFitted(
        names=tuple(batch.names[s] for s in start.rows),
        ts=int(batch.ts[-1]) if len(batch.ts) else 0,
        step_s=batch.step_s,
        log=log,
        harmonics=start.harmonics,
        curve=start.curve,
        design=design,
        transition=transition,
        gain=gain,
        state=state,
        low=low,
        high=high,
    )


def curves(values: Floats, batch: Batch, harmonics: tuple[int, int]) -> Floats:
    """Return [R, Fourier terms] the seasonal curves of `values` [R, T] (NaN = gap) on the batch's grid: ridge regressions,
    whose constants are not shrunk and not returned."""
    terms = season_terms(batch.ts, harmonics)
    squared = np.concatenate([np.tile(np.arange(1, h + 1), 2) for h in harmonics]) ** 2
    stiff = np.diag(np.concatenate([[1e-9], STIFF * day_steps(batch.step_s) * squared]))
    full = np.concatenate([np.ones((len(terms), 1)), terms], axis=1)
    seen = ~np.isnan(values)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    level = np.where(seen, values, 0.0).sum(axis=1, keepdims=True) / count  # taken off first: a constant series is met exactly
    size = full.shape[1]
    squares = (full[:, :, None] * full[:, None, :]).reshape(len(full), size * size)
    gram = (seen.astype(np.float64) @ squares).reshape(len(values), size, size)
    right = np.where(seen, values - level, 0.0) @ full
    return np.asarray(np.linalg.solve(gram + stiff, right[:, :, None])[:, 1:, 0], dtype=np.float64)


def season_terms(ts: Ints, harmonics: tuple[int, int]) -> Floats:
    """Return [T, Fourier terms] of the day and the week."""
    return np.concatenate([fourier(ts, DAY_S, harmonics[0]), fourier(ts, WEEK_S, harmonics[1])], axis=1)


def harmonics_of(batch: Batch) -> tuple[int, int]:
    """Return how many harmonics of the day and of the week the batch is long enough for: two periods each."""
    return (HARMONICS[0] if span_s(batch) >= 2 * DAY_S else 0, HARMONICS[1] if span_s(batch) >= 2 * WEEK_S else 0)


def bounds(values: Floats) -> tuple[Floats, Floats]:
    """Return [R] the least and the greatest value of a path: what `values` span, and half of that beyond."""
    if not values.size:
        return np.zeros(len(values)), np.zeros(len(values))
    low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    return low - (high - low) / 2, high + (high - low) / 2


def is_flat(values: Floats) -> bool:
    """Return whether one series' values are all the same: nothing is left to fit."""
    return bool(np.nanmax(values) - np.nanmin(values) <= 1e-12 * max(1.0, abs(float(np.nanmax(values)))))
