"""Which model speaks for a class at which horizons, and why: by trailing error, with hysteresis, never worse than naive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from forecast.rolling import Residuals

Band = Literal["short", "hour", "day"]
BANDS: tuple[tuple[Band, int], ...] = (("short", 900), ("hour", 3_600), ("day", 86_400))
"""name, farthest horizon in seconds"""
NAIVE = ("persistence", "seasonal_naive")
TRAILING_S = 2 * 86_400
"""the past whose errors choose; at 24 h only its first day has outcomes"""
MARGIN = 0.03
"""a challenger must be this much better than the champion"""
SLACK = 0.02
"""a champion that is this much worse than the best naive model goes at once"""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The champion of a class in a band of horizons, as data: what won, against what, why."""

    target: str
    band: Band
    model: str
    previous: str
    """empty = none before"""
    reason: Literal["first", "kept", "better", "worse than naive", "gone", "only one"]
    errors: Mapping[str, float]
    """model -> mean absolute error as a ratio to persistence at the same origins and horizons (1 = as good)"""
    at: datetime


def band_of(horizon_s: float) -> Band:
    """Return the band of a horizon; beyond a day it stays `day`."""
    return next((name for name, most in BANDS if horizon_s <= most), "day")


def ratios(pasts: Sequence[Residuals], band: Band, *, since_s: int) -> dict[str, float]:
    """Return per model its mean absolute scaled error in the band over that of persistence, on the points that both forecast.

    Models that forecast fewer than half of persistence's points, and all if persistence is not there, are left out.
    """
    by_name = {past.model: past for past in pasts}
    base = by_name.get("persistence")
    if base is None:
        return {}
    low = {"short": 0, "hour": 900, "day": 3_600}[band]
    high = dict(BANDS)[band]
    inside = (base.knots * base.step_s > low) & (base.knots * base.step_s <= high)
    if not inside.any():
        return {}
    naive = _absolute(base, inside, since_s)
    out = {}
    for name, past in by_name.items():
        own = _absolute(past, inside, since_s)
        both = ~np.isnan(own) & ~np.isnan(naive)
        if both.sum() * 2 < (~np.isnan(naive)).sum() or not both.any():
            continue
        top, bottom = float(np.mean(own[both])), float(np.mean(naive[both]))
        out[name] = top / bottom if bottom > 0 else 1.0 if top == 0 else float("inf")
    return out


def eligible(band: Band, errors: Mapping[str, float]) -> dict[str, float]:
    """Return who may stand: all, but in the day band the ensemble and the naive ones only, where there is an ensemble.

    A day ahead the outcomes of two days are too few to tell five models apart, and the median of them loses least.
    """
    stands = (*NAIVE, "ensemble") if band == "day" and "ensemble" in errors else tuple(errors)
    return {name: error for name, error in errors.items() if name in stands and np.isfinite(error)}


def choose(target: str, band: Band, errors: Mapping[str, float], previous: str, at: datetime) -> Choice:
    """Return the champion: the previous one unless it is gone, worse than naive, or beaten by more than MARGIN.

    Raises ValueError where there is no model at all.
    """
    if not errors:
        raise ValueError(f"{target}: no model to choose from in band {band}")
    best = min(sorted(errors), key=lambda name: errors[name])

    def choice(model: str, reason: Literal["first", "kept", "better", "worse than naive", "gone", "only one"]) -> Choice:
        return Choice(target=target, band=band, model=model, previous=previous, reason=reason, errors=dict(errors), at=at)

    if not previous:
        return choice(best, "first" if len(errors) > 1 else "only one")
    if previous not in errors:
        return choice(best, "gone")
    mine = errors[previous]
    naive = min((errors[name] for name in NAIVE if name in errors), default=float("inf"))
    if previous not in NAIVE and mine > naive * (1 + SLACK):
        return choice(best, "worse than naive")
    if errors[best] < mine * (1 - MARGIN):
        return choice(best, "better")
    return choice(previous, "kept")


def _absolute(
    past: Residuals, inside: np.ndarray[tuple[int], np.dtype[np.bool_]], since_s: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return |error| / scale [O, K', S] of the recent origins; NaN before them."""
    scaled = np.abs(past.errors[:, inside] / past.scale[:, None, :])
    return np.where((past.origin_ts >= since_s)[:, None, None], scaled, np.nan)
