"""Rolling conformal calibration: bands from a model's own past errors, whatever the model.

Errors are divided by the series' volatility at the origin and pooled over the series of a class; their quantiles per horizon,
times the present volatility, make the band. Only errors that had been observed count. Where a tail holds fewer than
TAIL_POINTS errors (P99.9 of some hundreds), an exponential tail beyond the 90 % point takes its place (a generalised Pareto
tail of shape 0, as for peaks over a threshold).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast.grids import Floats, Ints
from forecast.rolling import Residuals

TAIL_POINTS = 5
TAIL_SHARE = 0.1
FEWEST = 30
"""errors without which a horizon has no band"""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Quantiles of a class's scaled errors under one model."""

    model: str
    horizons_s: Ints
    """[K] rising; only horizons with enough errors"""
    levels: tuple[float, ...]
    z: Floats
    """[K, L] in units of the volatility"""
    points: Ints
    """[K] errors behind each row"""
    phi: Floats
    """[K] share of a one-step surprise that is left this much later (the anchor's damping), 1 at 0 s, never rising"""

    def reach_s(self) -> int:
        """Return the farthest horizon with a band; 0 if there is none."""
        return int(self.horizons_s[-1]) if len(self.horizons_s) else 0

    def quantiles(self, seconds: Floats) -> Floats:
        """Return [..., L] scaled quantiles at horizons of `seconds`; below the first knot they shrink with the square root."""
        flat = np.maximum(np.ravel(seconds), 0.0)
        out = np.stack([np.interp(flat, self.horizons_s, self.z[:, i]) for i in range(len(self.levels))], axis=1)
        first = float(self.horizons_s[0])
        out = out * np.where(flat < first, np.sqrt(flat / first), 1.0)[:, None]
        return out.reshape(*np.shape(seconds), len(self.levels))

    def damping(self, seconds: Floats) -> Floats:
        """Return the share of a surprise that is left after `seconds`."""
        left = np.interp(seconds, np.concatenate([[0], self.horizons_s]), np.concatenate([[1.0], self.phi]))
        return np.asarray(left, dtype=np.float64)


def table(past: Residuals, levels: Sequence[float], *, until_s: int, since_s: int = 0) -> Table:
    """Return the quantiles of the errors whose origin is at or after `since_s` and whose outcome was known at `until_s`."""
    horizons_s = past.knots * past.step_s
    z = _scaled(past)
    known = (past.origin_ts[:, None] + horizons_s[None, :] <= until_s) & (past.origin_ts >= since_s)[:, None]
    z = np.where(known[:, :, None], z, np.nan)
    rows, points = [], []
    for k in range(len(horizons_s)):
        errors = z[:, k][~np.isnan(z[:, k])]
        if errors.size < FEWEST:
            break
        rows.append(tail_quantiles(errors, levels))
        points.append(errors.size)
    quantiles = np.array(rows).reshape(len(rows), len(levels))
    return Table(
        model=past.model,
        horizons_s=horizons_s[: len(rows)],
        levels=tuple(levels),
        z=quantiles,
        points=np.array(points, dtype=np.int64),
        phi=_phi(z, past.knots)[: len(rows)],
    )


def tail_quantiles(errors: Floats, levels: Sequence[float]) -> Floats:
    """Return the quantiles of `errors` [N] at `levels` (rising), by ranks p (N + 1) inside and an exponential tail outside."""
    n = errors.size
    inside = np.quantile(errors, np.asarray(levels), method="weibull")
    out = [_tail(errors, p) if min(p, 1 - p) * (n + 1) < TAIL_POINTS else float(q) for p, q in zip(levels, inside, strict=True)]
    return np.maximum.accumulate(np.array(out))


def bands(
    centre: Floats,
    scale: Floats,
    z: Floats,
    levels: Sequence[float],
    *,
    lower: float | Floats,
    upper: float | Floats,
    noise: Floats | None = None,
) -> Floats:
    """Return [S, H, L]: centre [S, H] + scale [S] x z ([H, L] or [S, H, L]), ordered, and clipped to [lower, upper]
    (one number each, or [S]).

    `noise` [S, L] is the signed quantile of what the grid's means hide (a 60 s mean against a 300 s one); it is added in
    quadrature to the distance from the median.
    """
    width = scale[:, None, None] * z
    if noise is not None:
        middle = width[:, :, list(levels).index(0.5)][:, :, None]
        width = middle + np.sign(np.asarray(levels) - 0.5) * np.hypot(width - middle, noise[:, None, :])
    low, high = np.reshape(lower, (-1, 1, 1)), np.reshape(upper, (-1, 1, 1))
    out = np.clip(np.maximum.accumulate(centre[:, :, None] + width, axis=2), low, high)
    return np.asarray(out, dtype=np.float64)


def _scaled(past: Residuals) -> Floats:
    return np.asarray(past.errors / past.scale[:, None, :], dtype=np.float64)


def _tail(errors: Floats, level: float) -> float:
    """Return the exponential tail's quantile: u + mean excess x ln(share of the tail / probability beyond the level)."""
    sign = 1.0 if level > 0.5 else -1.0
    beyond = min(level, 1 - level)
    e = sign * errors
    share = min(0.25, max(TAIL_SHARE, TAIL_POINTS / (e.size + 1)))
    u = float(np.quantile(e, 1 - share))
    excess = e[e > u] - u
    mean = float(np.mean(excess)) if excess.size else 0.0
    return sign * (u + mean * max(0.0, float(np.log(share / beyond))))


def _phi(z: Floats, knots: Ints) -> Floats:
    """Return, per knot k, the regression of the error k steps ahead on that one step ahead from the same origin.

    It stands for a surprise k - 1 steps old; the last digit does not matter, the damping is slow.
    """
    clipped = np.clip(z, -10.0, 10.0)
    if not len(knots) or knots[0] != 1:
        return np.zeros(len(knots))
    one = clipped[:, 0]
    out = np.ones(len(knots))
    for k in range(len(knots)):
        both = ~np.isnan(one) & ~np.isnan(clipped[:, k])
        power = float(np.sum(np.square(one[both])))
        out[k] = float(np.sum(one[both] * clipped[:, k][both])) / power if power > 0 else 0.0
    return np.minimum.accumulate(np.clip(out, 0.0, 1.0))
