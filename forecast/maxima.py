"""The distribution of a row's highest power over the next seconds and minutes, from its 2 s power.

Marginal quantiles do not tell it: the highest of 150 samples is not a sample. Over each window the maximum is taken apart,

    max = level + what the trailing means say of the way + scale x z,

with the mean of the last 2 min as level and a scale from the samples' own restlessness. The share of each trailing mean is a
robust regression; the law of z is empirical in its body and generalised Pareto beyond (`forecast.tail`), both pooled over the
rows of a class. Between two calls of `learn` the tail follows the rate at which its 1 % has lately been exceeded.
Honest in time: a window teaches once it is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.errors import InputError
from forecast.grids import Floats, Ints
from forecast.maxima_fit import ORIGIN_S, STILL, Pool, fitted, pools
from forecast.tail import Law
from forecast.trails import FRESH_S, Bools, Looks, fresh, last_seen, looks, maxima, origins_of, usable

WINDOWS_S: tuple[float, ...] = (2.0, 10.0, 45.0, 300.0)
"""the actuators' latencies; 45 s at 2 s cadence are 23 samples"""
LEVELS: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999)
LOOK_BACK_S = 900
"""of data before an origin is read, and a newest sample at most so old; `now` reads twice that, where samples may be old"""
RATE_AT = 0.01
"""the exceedance whose observed rate corrects the tail"""
HALF_LIFE_S = 3_600.0
"""of an observed window in that rate [F] on development seeds"""
COUNTED_HALVES = 8
"""half-lives after which a window no longer counts"""
RATE_BOUNDS = (0.25, 4.0)
"""[A]"""
PRIOR_WINDOWS = 10.0
"""windows' worth of exceedances at the expected rate that a class begins with, and a row beside its class [A]"""


@dataclass(frozen=True, kw_only=True)
class RowMaxima:
    """What may come over each window, of each row. NaN where `known` is False; `notes` says why."""

    windows_s: tuple[float, ...]
    levels: tuple[float, ...]
    quantiles: Floats
    """[R, W, L] W, not falling along windows and levels, within [0, upper]"""
    known: Bools
    """[R]"""
    age_s: Floats
    """[R] of the newest sample; inf = none"""
    notes: tuple[str, ...]
    """[R] why a width is not of the row's own making, or why there is none; "" = nothing to say"""
    laws: tuple[tuple[Law, ...], ...]
    """[pool][window] of (maximum - centre) / scale"""
    pool: Ints
    """[R] which pool's law"""
    window: Ints
    """[R, W] the law of which window; a longer one where the newest sample is old"""
    centre: Floats
    """[R, W] W"""
    scale: Floats
    """[R, W] W > 0"""
    rate: Floats
    """[R, W] by how much more often than said the law's 1 % is exceeded of late"""
    upper_w: Floats
    """[R]"""

    def exceedance(self, limit_w: Floats) -> Floats:
        """Return [R, W] P(max over the window > limit_w [R]); not falling along windows. NaN where not known."""
        limit = np.asarray(limit_w, dtype=np.float64)[:, None]
        z = np.clip((limit - self.centre) / self.scale, -1e9, 1e9)
        out = np.full(self.centre.shape, np.nan)
        for pool, laws in enumerate(self.laws):
            for window, own in enumerate(laws):
                at = (self.pool == pool)[:, None] & (self.window == window) & self.known[:, None]
                out[at] = _really(own.beyond(z[at]), self.rate[at])
        out = np.where(np.isnan(out), np.nan, np.where(limit < 0, 1.0, np.where(limit >= self.upper_w[:, None], 0.0, out)))
        return np.asarray(np.maximum.accumulate(out, axis=1))


@dataclass(frozen=True, kw_only=True)
class Maxima:
    """What was learnt of the rows' maxima: values only, picklable."""

    step_s: int
    windows_s: tuple[float, ...]
    pools: tuple[Pool, ...]
    pool_of: Ints
    """[R]"""
    notes: tuple[str, ...]
    """[R] where a row's widths come from, when not from its class"""
    until_s: int
    """end of the newest sample that counted"""
    hits: Floats
    """[R, W] windows above their 1 % quantile, older ones by half each HALF_LIFE_S"""
    watched: Floats
    """[R, W] windows that were looked at, alike"""

    def now(self, power_w: Floats, rise_w: Floats | None = None, upper_w: Floats | None = None) -> RowMaxima:
        """Return the laws of the maxima from the end of `power_w` [R, at least 15 min] on.

        `rise_w` [R]: what a level forecast says that the 300 s mean will change by within 300 s; absent, the row's own trend.
        `upper_w` [R]: no quantile above. A row whose newest sample is old gets the law of the window that reaches as far from
        that sample on. Raises InputError when there are other rows than were learnt of.
        """
        power_w = usable(power_w, len(self.pool_of))[:, -2 * LOOK_BACK_S // self.step_s :]
        last = last_seen(power_w)
        seen = looks(power_w, np.maximum(last, 0)[:, None], self.step_s, None if rise_w is None else rise_w[:, None])
        age_s = np.where(last >= 0, (power_w.shape[1] - 1 - last) * self.step_s, np.inf)
        known = (last >= 0) & (age_s < LOOK_BACK_S)
        wanted = np.asarray(self.windows_s)[None] + np.where(np.isfinite(age_s), age_s, 0.0)[:, None]
        window = np.minimum(np.searchsorted(self.windows_s, wanted), len(self.windows_s) - 1)
        farther = np.sqrt(np.maximum(1.0, wanted / self.windows_s[-1]))
        centre, scale = self.standard(seen)
        centre = np.take_along_axis(centre[:, 0], window, axis=1)
        spread = scale * farther
        still = np.nan_to_num(seen.scale[:, 0]) < scale[:, 0]
        rate = np.take_along_axis(self.rates(), window, axis=1)
        upper = np.full(len(last), np.inf) if upper_w is None else np.asarray(upper_w, dtype=np.float64)
        quantiles = self._quantiles(window, centre, spread, rate)
        return RowMaxima(
            windows_s=self.windows_s,
            levels=LEVELS,
            quantiles=np.where(known[:, None, None], np.clip(quantiles, 0.0, upper[:, None, None]), np.nan),
            known=known,
            age_s=age_s,
            notes=tuple(self._note(r, float(age_s[r]), bool(still[r])) for r in range(len(last))),
            laws=tuple(pool.laws for pool in self.pools),
            pool=self.pool_of,
            window=window,
            centre=centre,
            scale=np.maximum(spread, 1e-100),
            rate=rate,
            upper_w=upper,
        )

    def at(self, power_w: Floats, origins: Ints) -> Floats:
        """Return [R, O, W, L] the quantiles that `now` would have given at `origins` (columns) of `power_w`, to score them."""
        power_w = usable(power_w, len(self.pool_of))
        centre, scale = self.standard(looks(power_w, origins, self.step_s))
        window = np.broadcast_to(np.arange(len(self.windows_s)), centre.shape)
        rate = np.broadcast_to(self.rates()[:, None], centre.shape)
        return self._quantiles(window, centre, np.broadcast_to(scale[..., None], centre.shape), rate)

    def rates(self) -> Floats:
        """Return [R, W] by how much more often than said the 1 % is exceeded of late: the row's, drawn to its class's."""
        prior = PRIOR_WINDOWS * np.maximum(1.0, np.asarray(self.windows_s) / ORIGIN_S)
        hits, due = self.hits, RATE_AT * self.watched
        out = np.ones(hits.shape)
        for pool in range(len(self.pools)):
            rows = self.pool_of == pool
            of_class = (hits[rows].sum(axis=0) + prior) / (due[rows].sum(axis=0) + prior)
            out[rows] = (hits[rows] + prior * of_class) / (due[rows] + prior)
        return np.clip(out, *RATE_BOUNDS)

    def standard(self, seen: Looks) -> tuple[Floats, Floats]:
        """Return centre [R, O, W] and scale [R, O], W, of what was seen."""
        weights = np.stack([pool.weights for pool in self.pools])[self.pool_of]
        usual = np.array([pool.ratio for pool in self.pools])[self.pool_of, None] * np.nan_to_num(seen.level)
        centre = seen.level[..., None] + np.einsum("rof,rwf->row", seen.x, weights)
        scale = np.nan_to_num(seen.scale)
        return centre, np.where(scale < STILL * usual, usual, scale)

    def _quantiles(self, window: Ints, centre: Floats, scale: Floats, rate: Floats) -> Floats:
        """Return [..., W, L]; the first axis of all is rows, the last windows."""
        out = np.full((*centre.shape, len(LEVELS)), np.nan)
        beyond = 1.0 - np.asarray(LEVELS)
        of_row = self.pool_of.reshape(-1, *([1] * (centre.ndim - 1)))
        for number, pool in enumerate(self.pools):
            for w, own in enumerate(pool.laws):
                at = (of_row == number) & (window == w)
                z = own.quantile(_nominal(beyond[None], rate[at][:, None]))
                out[at] = centre[at][:, None] + scale[at][:, None] * z
        return np.asarray(np.maximum.accumulate(out, axis=-2))

    def _note(self, row: int, age_s: float, still: bool) -> str:
        if age_s >= LOOK_BACK_S:
            return f"no forecast: nothing measured in the last {LOOK_BACK_S // 60} min"
        said = [self.notes[row]] if self.notes[row] else []
        if age_s > FRESH_S:
            said.append(f"newest sample {age_s:.0f} s old")
        if still:
            said.append("stands still: the usual spread is assumed")
        return "; ".join(said)


def learn(
    power_w: Floats,
    until_s: int,
    *,
    classes: Sequence[str] | None = None,
    step_s: int = 2,
    windows_s: tuple[float, ...] = WINDOWS_S,
    rise_w: Floats | None = None,
) -> Maxima:
    """Learn from `power_w` [R, T], whose last column ends at `until_s` (epoch); NaN = not measured.

    `classes` [R]: rows that share one law, e.g. by hardware (absent = all). `rise_w` [R, T]: see `now`, as it was said at each
    column. 48 h are enough: about 17,000 windows of a row. Raises InputError on shapes that do not fit.
    """
    rows = len(power_w)
    power_w = usable(power_w, rows)
    names = list(classes) if classes is not None else [""] * rows
    if not rows or len(names) != rows or not windows_s or list(windows_s) != sorted(windows_s):
        raise InputError(f"row maxima: {rows} rows, {len(names)} classes, windows {windows_s}: a class per row, rising windows")
    samples = fitted(power_w, until_s, step_s, windows_s, rise_w)
    found, pool_of, notes = pools(samples, names, step_s, windows_s)
    nothing = np.zeros((rows, len(windows_s)))
    learnt = Maxima(
        step_s=step_s,
        windows_s=windows_s,
        pools=found,
        pool_of=pool_of,
        notes=notes,
        until_s=until_s - power_w.shape[1] * step_s,
        hits=nothing,
        watched=nothing,
    )
    return follow(learnt, power_w, until_s, rise_w)


def follow(learnt: Maxima, power_w: Floats, until_s: int, rise_w: Floats | None = None) -> Maxima:
    """Let the windows that ended in (learnt.until_s, until_s] count for the rate; `power_w` [R, T] ends at `until_s`.

    It should reach LOOK_BACK_S and the longest window further back than learnt.until_s. `rise_w` [R, T] as in `learn`.
    """
    power_w = usable(power_w, len(learnt.pool_of))
    if until_s <= learnt.until_s:
        return learnt
    aged = 0.5 ** ((until_s - learnt.until_s) / HALF_LIFE_S)
    hits, watched = learnt.hits * aged, learnt.watched * aged
    step_s = learnt.step_s
    since_s = max(learnt.until_s - int(learnt.windows_s[-1]) - step_s, until_s - int(COUNTED_HALVES * HALF_LIFE_S))
    power_w = power_w[:, -((until_s - since_s + LOOK_BACK_S) // step_s + 1) :]
    total = power_w.shape[1]
    origins = origins_of(until_s, total, step_s, since_s, ORIGIN_S)
    seen = looks(power_w, origins, step_s, None if rise_w is None else rise_w[:, -total:][:, origins])
    centre, scale = learnt.standard(seen)
    usual = fresh(power_w, origins, step_s)
    for w, window_s in enumerate(learnt.windows_s):
        steps = int(-(-window_s // step_s))
        ends_s = until_s - (total - 1 - origins - steps) * step_s
        highest = maxima(power_w, origins, steps)
        at_1 = np.array([float(pool.laws[w].quantile(np.array(RATE_AT))) for pool in learnt.pools])
        counts = usual & ~np.isnan(highest) & (ends_s > learnt.until_s)[None]
        weight = np.where(counts, 0.5 ** ((until_s - ends_s) / HALF_LIFE_S)[None], 0.0)
        above = highest > centre[..., w] + scale * at_1[learnt.pool_of, None]
        hits[:, w] += (weight * above).sum(axis=1)
        watched[:, w] += weight.sum(axis=1)
    return replace(learnt, until_s=until_s, hits=hits, watched=watched)


def _nominal(beyond: Floats, rate: Floats) -> Floats:
    """Return the learnt law's exceedance that really occurs with probability `beyond`, when RATE_AT is exceeded `rate` times as
    often as it should: beyond / rate in the tail, less and less of that towards the body."""
    share = np.minimum(1.0, np.log(beyond) / np.log(RATE_AT))
    return np.asarray(np.minimum(1.0, beyond * rate**-share))


def _really(nominal: Floats, rate: Floats) -> Floats:
    """Return the inverse of `_nominal`."""
    log = np.log(np.maximum(nominal, 1e-300))
    tail = log + np.log(rate)
    body = log / (1.0 - np.log(rate) / np.log(RATE_AT))
    found = np.exp(np.where(tail <= np.log(RATE_AT), tail, body))
    return np.asarray(np.where(nominal > 0, np.minimum(found, 1.0), 0.0))
