"""AutoReg: statsmodels' autoregression on the steps 1, 2, 3, 6 and one day ago, with Fourier terms of the day and the week."""

import warnings
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

MOST_DAYS = 14
"""history that a fit reads: older days cost time and add nothing that the newest two weeks do not show"""
HARMONICS = (4, 2)


@dataclass(frozen=True)
class AutoRegFitted:
    """Parameters per series [S, ...]; `low`/`high` bound the recursion to what the history spans, and half of that beyond."""

    names: tuple[str, ...]
    lags: tuple[int, ...]
    harmonics: tuple[int, int]
    constant: Floats
    weights: Floats
    """[S, lags]"""
    curve: Floats
    """[S, Fourier terms]"""
    low: Floats
    high: Floats

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps] by recursion; NaN for a series that was not fitted or has nothing observed in the last two days."""
        return np.asarray(self.paths(batch, [len(batch.ts) - 1], steps)[0], dtype=np.float64)

    def paths(self, batch: Batch, origins: Sequence[int], steps: int) -> Floats:
        """Return [O, S, steps]: `predict` at each origin (a column) as if nothing after it were known, in one recursion."""
        row = rows_of(self.names, batch)
        out = np.full((len(origins), len(batch.names), steps), np.nan)
        if not self.names or not len(batch.ts):
            return out
        depth = max(self.lags)
        tails, ok, drive = [], [], []
        for origin in origins:
            known = recent(restricted(batch, origin), 2 * day_steps(batch.step_s))
            tail = gaps_bridged(known.values, day_steps(batch.step_s))[:, -depth:]
            pad = np.repeat(tail[:, :1], depth - tail.shape[1], axis=1)
            tails.append(np.concatenate([pad, tail], axis=1))
            ok.append((row >= 0) & (observed(known.values) > 0))
            terms = _terms(future(known, steps), self.harmonics)
            drive.append(self.constant[row][:, None] + self.curve[row] @ terms.T)
        path = self._recurse(np.stack(tails), np.stack(drive), self.weights[row])
        path = np.clip(path, self.low[row][:, None], self.high[row][:, None])
        return np.where(np.stack(ok)[:, :, None], clipped(path, batch), out)

    def _recurse(self, tails: Floats, drive: Floats, weights: Floats) -> Floats:
        depth, steps = tails.shape[2], drive.shape[2]
        buffer = np.concatenate([np.nan_to_num(tails), drive], axis=2)
        lags = np.array(self.lags)
        for t in range(depth, depth + steps):
            buffer[:, :, t] += np.einsum("osl,sl->os", buffer[:, :, t - lags], weights)
        return buffer[:, :, depth:]


class AutoRegFourier:
    """Autoregression with seasonal terms, one ordinary least squares fit per series."""

    name = "autoreg"
    min_points = 96

    def fit(self, batch: Batch) -> AutoRegFitted:
        """Learn from the newest two weeks of the batch; passes over series with fewer than `min_points` there."""
        from statsmodels.tools.sm_exceptions import SingularMatrixWarning
        from statsmodels.tsa.ar_model import AutoReg

        day = day_steps(batch.step_s)
        batch = recent(batch, MOST_DAYS * day)
        rows = [s for s, n in enumerate(observed(batch.values)) if n >= self.min_points and len(batch.ts) >= self.min_points]
        lags = tuple(lag for lag in (1, 2, 3, 6, day) if lag * 2 < len(batch.ts))
        harmonics = (HARMONICS[0] if span_s(batch) >= 2 * DAY_S else 0, HARMONICS[1] if span_s(batch) >= 2 * WEEK_S else 0)
        terms = _terms(batch.ts, harmonics)
        values = gaps_bridged(batch.values, day)
        params = np.zeros((len(rows), 1 + len(lags) + terms.shape[1]))
        low, high = np.zeros(len(rows)), np.zeros(len(rows))
        for i, s in enumerate(rows):
            y = values[s]
            low[i], high[i] = _bounds(y)
            if np.ptp(y) <= 1e-12 * max(1.0, abs(float(y[0]))):
                params[i, 0] = y[0]  # a constant series leaves nothing to regress on
                continue
            level, spread = float(np.mean(y)), float(np.std(y))
            with warnings.catch_warnings():
                # a series that its curve explains wholly: the pseudo-inverse takes the smallest of the equal solutions
                warnings.simplefilter("ignore", SingularMatrixWarning)
                exog = terms if terms.shape[1] else None
                fitted = AutoReg((y - level) / spread, lags=list(lags), trend="c", exog=exog).fit()
            own = np.asarray(fitted.params, dtype=np.float64)
            params[i] = own
            params[i, 0] = own[0] * spread + level * (1.0 - own[1 : 1 + len(lags)].sum())
            params[i, 1 + len(lags) :] *= spread
        return AutoRegFitted(
            names=tuple(batch.names[s] for s in rows),
            lags=lags,
            harmonics=harmonics,
            constant=params[:, 0],
            weights=params[:, 1 : 1 + len(lags)],
            curve=params[:, 1 + len(lags) :],
            low=low,
            high=high,
        )


def _terms(ts: Ints, harmonics: tuple[int, int]) -> Floats:
    return np.concatenate([fourier(ts, DAY_S, harmonics[0]), fourier(ts, WEEK_S, harmonics[1])], axis=1)


def _bounds(y: Floats) -> tuple[float, float]:
    low, high = float(np.min(y)), float(np.max(y))
    return low - (high - low) / 2, high + (high - low) / 2
