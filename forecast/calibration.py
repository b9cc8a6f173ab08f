"""Rolling conformal calibration: bands from a model's own past errors, whatever the model.

Errors are divided by the series' restlessness at the origin and pooled over the series of a kind; their quantiles per horizon,
times the present restlessness, make the band. Only errors that had been observed count. Where a tail holds fewer than
TAIL_POINTS errors (P99.9 of some hundreds), an exponential tail beyond the 90 % point takes its place (a generalised Pareto
tail of shape 0, as for peaks over a threshold).

Up to an hour ahead each series corrects its kind's band by its own misses of the last days, and by its errors of the last hour.
A day ahead it does not: errors that arrive a day late tell of yesterday's regime.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast.grids import DAY_S, Floats, Ints
from forecast.kinds import KINDS, POOL
from forecast.rolling import HOUR_S, Residuals

TAIL_POINTS = 5
TAIL_SHARE = 0.1
FEWEST = 30
"""errors without which a horizon has no band"""
FEWEST_OF_KIND = 100
"""errors without which a kind takes the pool's quantiles"""
LEAST_SERIES = 5
"""series without which a kind takes the pool's band: the tail of one client's week is no tail"""
HALF_LIFE_S = DAY_S
"""a miss this old counts half"""
PRIOR_DAYS = 0.25
"""misses at the promised rate that every series starts with"""
LEAST_STRETCH, MOST_STRETCH = 0.8, 3.0
MOST_WEIGHT_S = HOUR_S
"""an origin stands for the time until the next one, but for no more than this"""
STRETCHED = (0.01, 0.05, 0.95, 0.99)
"""levels whose misses are counted; farther ones are stretched as the outermost"""
STARTLED, PER_SURPRISE, MOST_WIDENED = 1.5, 0.6, 4.0
"""outermost levels widen by PER_SURPRISE for each usual error by which the last hour's exceed STARTLED usual ones"""


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


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The tables of a class's kinds under what speaks for it, and each series' own correction."""

    tables: tuple[Table, ...]
    """[kinds.KINDS]; the first is the pool's, which stands in for kinds of few series"""
    kind: Ints
    """[S] position in `tables`"""
    stretch: Floats
    """[S, STRETCHED] factor on the distance from the median, up to an hour ahead"""

    def reach_s(self) -> int:
        """Return the farthest horizon with a band; 0 if there is none."""
        return self.tables[0].reach_s()

    def quantiles(self, rows: Ints, seconds: Floats, of: Ints, surprise: Floats) -> Floats:
        """Return [S, H, L] scaled quantiles for the series `rows` [S], at horizons `seconds`[`of`] ([A, H] and [S]: most series
        share their newest time, and so their horizons); NaN beyond the reach. `surprise` [S] is the size of the last hour's
        errors in usual ones."""
        levels = self.tables[0].levels
        every = np.stack([reached(table, seconds) for table in self.tables])
        z = every[self.kind[rows], of]
        factor = factors(self.stretch[rows], levels, surprise)
        near = np.clip(2.0 - seconds / HOUR_S, 0.0, 1.0)[of]  # wholly to one hour, not at all from two on
        middle = z[:, :, [levels.index(0.5)]]
        for i in np.flatnonzero((factor != 1.0).any(axis=0)):
            own = 1.0 + near * (factor[:, i, None] - 1.0)
            z[:, :, i] = middle[:, :, 0] + (z[:, :, i] - middle[:, :, 0]) * own
        return np.asarray(z, dtype=np.float64)


def factors(stretch: Floats, levels: Sequence[float], surprise: Floats) -> Floats:
    """Return [S, L] the factor on each level's distance from the median: 1 within the 90 % band."""
    startled = np.clip(1.0 + PER_SURPRISE * (surprise - STARTLED), 1.0, MOST_WIDENED)
    out = np.ones((len(stretch), len(levels)))
    for i, level in enumerate(levels):
        outer = level <= STRETCHED[0] or level >= STRETCHED[-1]
        if level <= STRETCHED[1] or level >= STRETCHED[2]:
            column = (0 if outer else 1) if level < 0.5 else (3 if outer else 2)
            out[:, i] = stretch[:, column] * (startled if outer else 1.0)
    return out


def calibrated(past: Residuals, kinds: Sequence[str], levels: Sequence[float], *, until_s: int, since_s: int = 0) -> Calibrated:
    """Return the tables per kind of the errors known at `until_s` from origins at or after `since_s`, and the series' own
    corrections. `kinds` [S] belong to the series of `past`. Without enough errors for a pool the tables reach nowhere."""
    z = _known(past, until_s, since_s)
    pool = _table(past, z, levels)
    names = np.asarray(kinds)
    tables, kind = [pool], np.zeros(len(names), dtype=np.int64)
    for code, name in enumerate(KINDS):
        if name == POOL:
            continue
        mine = names == name
        if mine.sum() >= LEAST_SERIES:
            tables.append(_table(past, z[:, :, mine], levels, pool))
            kind[mine] = code
        else:
            tables.append(pool)
    return Calibrated(tables=tuple(tables), kind=kind, stretch=_stretch(past, z, tables, kind, until_s))


def table(past: Residuals, levels: Sequence[float], *, until_s: int, since_s: int = 0) -> Table:
    """Return the quantiles of the errors whose origin is at or after `since_s` and whose outcome was known at `until_s`."""
    return _table(past, _known(past, until_s, since_s), levels)


def _known(past: Residuals, until_s: int, since_s: int) -> Floats:
    """Return the scaled errors [O, K, S]; NaN where the outcome was not known yet or the origin is too old."""
    known = (past.origin_ts[:, None] + past.knots * past.step_s <= until_s) & (past.origin_ts >= since_s)[:, None]
    return np.where(known[:, :, None], past.errors / past.scale[:, None, :], np.nan)


def _table(past: Residuals, z: Floats, levels: Sequence[float], pool: Table | None = None) -> Table:
    """Return the quantiles of scaled errors `z`; a kind's horizon with too few of them takes the pool's."""
    horizons_s = past.knots * past.step_s
    rows, points = [], []
    for k in range(len(horizons_s) if pool is None else len(pool.horizons_s)):
        errors = z[:, k][~np.isnan(z[:, k])]
        if pool is None and errors.size < FEWEST:
            break
        few = pool is not None and errors.size < FEWEST_OF_KIND
        rows.append(pool.z[k] if pool is not None and few else tail_quantiles(errors, levels))
        points.append(errors.size)
    phi = _phi(z, past.knots)[: len(rows)]
    return Table(
        model=past.model,
        horizons_s=horizons_s[: len(rows)],
        levels=tuple(levels),
        z=np.array(rows).reshape(len(rows), len(levels)),
        points=np.array(points, dtype=np.int64),
        phi=phi if pool is None or np.isfinite(phi).all() else pool.phi,
    )


def _stretch(past: Residuals, z: Floats, tables: Sequence[Table], kind: Ints, until_s: int) -> Floats:
    """Return [S, STRETCHED] the factor that would have brought each series' share of misses to what its levels promise.

    Beyond the band a tail is taken as exponential: P(miss) = r at the band's edge becomes r^g at g times the distance, so that
    g = ln(promised) / ln(r). The rates are those of the errors up to an hour ahead, the newer the more, and start with
    PRIOR_DAYS of what is promised.
    """
    near = int((past.knots * past.step_s <= HOUR_S).sum())
    near = min(near, len(tables[0].horizons_s))
    out = np.ones((len(kind), len(STRETCHED)))
    if not near or not len(past.origins):
        return out
    spacing = float(np.median(np.diff(past.origin_ts))) if len(past.origins) > 1 else float(past.step_s)
    age = np.maximum(until_s - past.origin_ts, 0)
    weight = 0.5 ** (age / HALF_LIFE_S) * min(spacing, MOST_WEIGHT_S) / DAY_S / near
    errors = z[:, :near]
    seen = ~np.isnan(errors)
    days = np.einsum("o,oks->s", weight, seen)
    edges = np.stack([known.z[:near] for known in tables])[kind]
    for i, level in enumerate(STRETCHED):
        edge = edges[:, :, tables[0].levels.index(level)].T
        missed = seen & ((errors < edge) if level < 0.5 else (errors > edge))
        promised = min(level, 1.0 - level)
        rate = (np.einsum("o,oks->s", weight, missed) + PRIOR_DAYS * promised) / (days + PRIOR_DAYS)
        out[:, i] = np.clip(np.log(promised) / np.log(np.clip(rate, 1e-6, 0.9)), LEAST_STRETCH, MOST_STRETCH)
    return out


def usual_error(known: Table, seconds: float) -> float:
    """Return the usual size of an error in units of the restlessness: a 90 % band's half width as a normal's sigma; at 0 s
    that of one step."""
    low, high = known.levels.index(0.05), known.levels.index(0.95)
    z = known.quantiles(np.array([seconds]))[0] if seconds else known.z[0]
    return max(float(z[high] - z[low]) / 3.29, 1e-3)


def reached(known: Table, seconds: Floats) -> Floats:
    """Return a table's quantiles [A, H, L]; NaN beyond its reach."""
    if not len(known.horizons_s):
        return np.full((*np.shape(seconds), len(known.levels)), np.nan)
    z = known.quantiles(seconds)
    return np.where((seconds > known.reach_s())[..., None], np.nan, z)


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
    out = scale[:, None, None] * z
    if noise is not None:
        middle = out[:, :, [list(levels).index(0.5)]]
        out -= middle
        np.sqrt(out * out + np.square(noise)[:, None, :], out=out)
        out *= np.sign(np.asarray(levels) - 0.5)
        out += middle
    out += centre[:, :, None]
    for i in range(1, out.shape[2]):
        np.maximum(out[:, :, i], out[:, :, i - 1], out=out[:, :, i])
    low, high = np.reshape(lower, (-1, 1, 1)), np.reshape(upper, (-1, 1, 1))
    np.minimum(np.maximum(out, low, out=out), high, out=out)
    return np.asarray(out, dtype=np.float64)


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
