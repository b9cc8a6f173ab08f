"""Which model speaks for a series at which horizons, and why: by trailing errors, shrunk to those of its kind, with hysteresis,
never worse than naive.

One series' week tells five models badly apart, those of its kind do it better, those of all series blur what a series is.
So a series' error ratio is (days x own + PRIOR_DAYS x kind's) / (days + PRIOR_DAYS), and each series takes the model with the
least one. A day ahead only the ensemble and the naive models stand: few days of outcomes cannot tell more apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from forecast.grids import COUNTED, DAY_S, Floats, Ints
from forecast.kinds import POOL
from forecast.rolling import Residuals

Band = Literal["short", "hour", "day"]
BANDS: tuple[tuple[Band, int], ...] = (("short", 900), ("hour", 3_600), ("day", 86_400))
"""name, farthest horizon in seconds"""
NAIVE = ("persistence", "seasonal_naive")
TRAILING_S = 7 * 86_400
"""the past whose errors choose. On development parts 2, 4, 7 and 10 days did alike where loads are smooth; bursts want more"""
PRIOR_DAYS = 1.0
"""weight of the kind's ratio, in days of a series' own errors"""
MARGIN = 0.02
"""by so much, as a share of persistence's error, a challenger must be better than the champion"""
SLACK: Mapping[Band, float] = {"short": 0.02, "hour": 0.02, "day": 0.05}
"""a champion that is this much worse than the best naive model goes at once; so much is the ensemble favoured a day ahead"""
ENSEMBLE = "ensemble"
STANDS: Mapping[str, tuple[str, ...]] = dict.fromkeys(COUNTED, ("persistence", "ridge", "blend", "boosted"))
"""who may speak up to an hour ahead, where not all may. Each further candidate is one more that wins a burst's week by luck:
with the Kalman, seasonal-naive and the ensemble among them ServeGen's m-mid stood at 1.26 of persistence at 20 min, without at
.99 (development part)"""
MEMBERS = ("ets", "seasonal_mean", ENSEMBLE)
"""speak up to an hour only through a median of others"""

Reason = Literal["first", "kept", "better", "worse than naive", "gone", "only one"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The champion of a kind in a band of horizons, as data: what won, against what, why."""

    target: str
    kind: str = POOL
    """empty = all series of the target together"""
    band: Band
    model: str
    previous: str
    """empty = none before"""
    reason: Reason
    errors: Mapping[str, float]
    """model -> mean absolute error as a ratio to persistence at the same origins and horizons (1 = as good)"""
    at: datetime
    speaks: Mapping[str, int] = field(default_factory=dict)
    """model -> series of the kind for which it speaks: their own errors may say otherwise than the kind's"""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """How the models stood against persistence in one band."""

    band: Band
    models: tuple[str, ...]
    series: Floats
    """[M, S] each series' ratio, shrunk to its kind's; inf = may not stand"""
    kinds: Mapping[str, Mapping[str, float]]
    """kind -> model -> ratio; the pool's under the empty name"""


def band_of(horizon_s: float) -> Band:
    """Return the band of a horizon; beyond a day it stays `day`."""
    return next((name for name, most in BANDS if horizon_s <= most), "day")


def eligible(target: str, band: Band, models: Iterable[str]) -> tuple[str, ...]:
    """Return who may stand, persistence first (it wins a tie): up to an hour the target's STANDS or all but MEMBERS; in the day
    band the ensemble and the naive ones only, where there is an ensemble."""
    names = sorted(models, key=lambda name: (name not in NAIVE, name))
    if band == "day" and ENSEMBLE in names:
        return tuple(name for name in names if name in (*NAIVE, ENSEMBLE))
    return tuple(name for name in names if name in STANDS.get(target, names) and name not in MEMBERS)


def contest(pasts: Sequence[Residuals], target: str, band: Band, kinds: Sequence[str], *, since_s: int) -> Contest | None:
    """Return the models' ratios on the points that both they and persistence forecast, from origins at or after `since_s`.

    `kinds` [S] belong to the series of `pasts`. A model with fewer than half of persistence's points of a series does not stand
    for it; None where persistence has no error in the band. `kinds` of the contest hold the ratios of all models, also of those
    that may not stand.
    """
    by_name = {past.model: past for past in pasts}
    base = by_name.get("persistence")
    if base is None or (inside := _inside(base, band)) is None:
        return None
    naive = _absolute(base, inside, since_s)
    if np.isnan(naive).all():
        return None
    days = _days(base)
    names = np.asarray(kinds)
    models, rows = [], []
    told: dict[str, dict[str, float]] = {kind: {} for kind in (POOL, *sorted(set(kinds) - {POOL}))}
    standing = eligible(target, band, by_name)
    for name in (*standing, *sorted(set(by_name) - set(standing))):
        sums = _sums(_absolute(by_name[name], inside, since_s), naive)
        row = np.full(len(names), np.inf)
        for kind, ratios in told.items():
            mine = np.ones(len(names), dtype=np.bool_) if kind == POOL else names == kind
            shared = sums.of(mine)
            if shared is None:
                continue
            ratios[name] = shared
            if kind == POOL:
                row[:] = shared
            own = mine & (names == kind)
            row[own] = sums.shrunk(own, shared, days)
        if name in told[POOL] and name in standing:
            models.append(name)
            rows.append(np.where(sums.stands(), row, np.inf))
    return Contest(band=band, models=tuple(models), series=np.array(rows), kinds=told)


def shrunk(own: Floats, kind: float, days: Floats, prior_days: float = PRIOR_DAYS) -> Floats:
    """Return the series' ratios [S], drawn to their kind's the more, the fewer `days` [S] of errors they have."""
    return np.asarray((days * own + prior_days * kind) / (days + prior_days), dtype=np.float64)


def speakers(found: Contest, previous: Ints) -> Ints:
    """Return [S] the position in `found.models` of who speaks for each series; `previous` [S] who did, -1 = nobody yet."""
    return _best(found.models, found.series, previous, found.band)


def choose(target: str, band: Band, errors: Mapping[str, float], previous: str, at: datetime, *, kind: str = POOL) -> Choice:
    """Return a kind's champion: the previous one unless it is gone, worse than naive, or beaten by more than MARGIN.

    Raises ValueError where there is no model at all.
    """
    models = eligible(target, band, (name for name, error in errors.items() if np.isfinite(error)))
    if not models:
        raise ValueError(f"{target}: no model to choose from in band {band}")
    ratios = np.array([[errors[name]] for name in models])
    before = models.index(previous) if previous in models else -1
    model = models[int(_best(models, ratios, np.array([before]), band)[0])]
    reason: Reason = "better"
    if not previous:
        reason = "first" if len(models) > 1 else "only one"
    elif before < 0:
        reason = "gone"
    elif model == previous:
        reason = "kept"
    elif _demoted(models, ratios, np.array([before]), band)[0]:
        reason = "worse than naive"
    return Choice(
        target=target, kind=kind, band=band, model=model, previous=previous, reason=reason, errors=dict(errors), at=at
    )


def _best(models: Sequence[str], ratios: Floats, previous: Ints, band: Band) -> Ints:
    """Return [S] the position of the least of `ratios` [M, S], the previous model and the day's ensemble being favoured."""
    score = ratios.copy()
    held = (previous >= 0) & ~_demoted(models, ratios, previous, band)
    columns = np.flatnonzero(held)
    score[previous[columns], columns] -= MARGIN
    if band == "day" and ENSEMBLE in models:
        score[models.index(ENSEMBLE)] -= SLACK[band]
    return np.asarray(score.argmin(axis=0), dtype=np.int64)


def _demoted(models: Sequence[str], ratios: Floats, previous: Ints, band: Band) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return [S] whether the previous model is not naive and worse than the best naive one by more than the slack."""
    naive = np.array([name in NAIVE for name in models])
    best = ratios[naive].min(axis=0) if naive.any() else np.full(ratios.shape[1], np.inf)
    mine = ratios[previous, np.arange(ratios.shape[1])]
    return np.asarray(~naive[previous] & (mine > best * (1.0 + SLACK[band])), dtype=np.bool_)


@dataclass(frozen=True)
class _Sums:
    """Per series [S]: a model's and persistence's absolute errors on common points, their number, and persistence's points."""

    own: Floats
    naive: Floats
    count: Floats
    whole: Floats
    horizons: int

    def stands(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.asarray(self.count * 2 >= self.whole, dtype=np.bool_)

    def of(self, mine: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
        """Return the ratio over the series `mine`, each counting alike; None without any error."""
        some = mine & (self.count > 0) & self.stands()
        if not some.any():
            return None
        top = float(np.sum(self.own[some] / self.count[some]))
        bottom = float(np.sum(self.naive[some] / self.count[some]))
        return top / bottom if bottom > 0 else 1.0 if top == 0 else float("inf")

    def shrunk(self, mine: np.ndarray[tuple[int], np.dtype[np.bool_]], kind: float, days: float) -> Floats:
        top, bottom = self.own[mine], self.naive[mine]
        still = np.where(top > 0, kind, 1.0)  # where persistence made no error, the kind decides
        own = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), still)
        return shrunk(own, kind, self.count[mine] / self.horizons * days)


def _sums(own: Floats, naive: Floats) -> _Sums:
    both = ~np.isnan(own) & ~np.isnan(naive)
    return _Sums(
        own=np.where(both, own, 0.0).sum(axis=(0, 1)),
        naive=np.where(both, naive, 0.0).sum(axis=(0, 1)),
        count=both.sum(axis=(0, 1)).astype(np.float64),
        whole=(~np.isnan(naive)).sum(axis=(0, 1)).astype(np.float64),
        horizons=own.shape[1],
    )


def _inside(base: Residuals, band: Band) -> Ints | None:
    """Return the positions of the knots within the band; None without any."""
    low = {"short": 0, "hour": 900, "day": 3_600}[band]
    seconds = base.knots * base.step_s
    inside = np.flatnonzero((seconds > low) & (seconds <= dict(BANDS)[band]))
    return inside if inside.size else None


def _days(base: Residuals) -> float:
    """Return the days that one origin stands for: the time until the next one."""
    spacing = float(np.median(np.diff(base.origin_ts))) if len(base.origin_ts) > 1 else float(base.step_s)
    return spacing / DAY_S


def _absolute(past: Residuals, inside: Ints, since_s: int) -> Floats:
    """Return |error| / scale [O, K', S] of the recent origins; NaN before them."""
    scaled = np.abs(past.errors[:, inside] / past.scale[:, None, :])
    return np.where((past.origin_ts >= since_s)[:, None, None], scaled, np.nan)
