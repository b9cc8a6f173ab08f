"""P(X > limit) from a forecast's quantiles, for many series at once.

Between two quantiles the distribution is linear; beyond the outermost two it is an exponential tail through both (stated, since
no quantile tells it): P(X > x) = (1 - l_n) exp(-(x - q_n) / s), s = (q_n - q_{n-1}) / ln((1 - l_{n-1}) / (1 - l_n)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.forecasts import Block, Target
from contracts.view import Bools, Floats, Ints, View


@dataclass(frozen=True, kw_only=True)
class Fan:
    """The forecasts of many series from now to a horizon, as arrays. NaN where a series has fewer steps than others."""

    known: Bools
    """[series] a fresh forecast is there"""
    lead_s: Floats
    """[series, steps] seconds from now"""
    levels: Floats
    """[levels] rising"""
    values: Floats
    """[series, steps, levels] not falling along the levels"""
    start: Floats
    """[series] the median at the forecast's first step, past or not: where it begins"""
    ids: tuple[str, ...]
    """[series] forecast ids; "" = none"""

    def quantile(self, level: float) -> Floats:
        """[series, steps] the quantile at `level`; beyond the outermost levels the outermost value."""
        above = int(np.searchsorted(self.levels, level))
        if above == 0 or above >= len(self.levels):
            return np.asarray(self.values[..., min(above, len(self.levels) - 1)])
        low, high = self.levels[above - 1], self.levels[above]
        share = (level - low) / (high - low)
        return np.asarray(self.values[..., above - 1] * (1 - share) + self.values[..., above] * share)

    def rise(self, level: float, horizon_s: float) -> Floats:
        """[series] the highest `level` quantile within `horizon_s` above the forecast's own start; 0 where not known.

        A forecast does not know of caps that were set after its data ended. Its rise and its spread still hold: the level is
        taken from what is measured now.
        """
        if self.values.shape[1] == 0:
            return np.zeros(len(self.known))
        rises = self.quantile(level) - self.start[:, None]
        rises = np.where(np.isfinite(rises) & (self.lead_s <= horizon_s), rises, -np.inf)
        highest = rises.max(axis=1)
        return np.where(np.isfinite(highest), highest, 0.0)


@dataclass(frozen=True, kw_only=True)
class Exceedance:
    """P(X > limit) of many series."""

    probability: Floats
    """[series] the highest over the steps; 0 where not known"""
    lead_s: Floats
    """[series] when it first reaches half of that highest probability; NaN where the probability is 0"""


def fan(view: View, target: Target, names: Sequence[str], *, horizon_s: float, max_age_s: float = 900.0) -> Fan:
    """Return the fresh champions of `target` for `names`, cut to `horizon_s` from view.now."""
    left = np.ones(len(names), dtype=np.bool_)
    cuts: list[tuple[Block, Ints, Ints, Ints]] = []
    for block in view.forecasts.of(target):
        age_s = (view.now - block.issued_at).total_seconds()
        if age_s > max_age_s or not left.any():
            break
        at = np.where(left, block.rows(names), -1)
        left &= at < 0
        ahead = np.flatnonzero((block.lead_s >= age_s) & (block.lead_s <= age_s + horizon_s))
        mine = np.flatnonzero(at >= 0)
        if len(mine):
            cuts.append((block, mine, at[mine], ahead))
    return _joined(cuts, len(names), view)


def _joined(cuts: Sequence[tuple[Block, Ints, Ints, Ints]], series: int, view: View) -> Fan:
    """Return the fan of (block, series, their places in the block, steps that count)."""
    steps = max((len(ahead) for *_, ahead in cuts), default=0)
    levels = np.asarray(cuts[0][0].levels if cuts else (0.5,), dtype=np.float64)
    values = np.full((series, steps, len(levels)), np.nan)
    lead_s = np.full((series, steps), np.nan)
    start = np.full(series, np.nan)
    ids = [""] * series
    for block, mine, at, ahead in cuts:
        some = block.known[np.ix_(at, ahead)].any(axis=1)
        mine, at = mine[some], at[some]
        own = block.values[at]
        if block.levels != tuple(levels.tolist()):
            own = _at_levels(own, np.asarray(block.levels), levels)
        values[mine, : len(ahead)] = own[:, ahead]
        lead_s[mine, : len(ahead)] = block.lead_s[ahead] - (view.now - block.issued_at).total_seconds()
        start[mine] = _first(_at_levels(own, levels, np.array([0.5]))[..., 0])
        for i, place in zip(mine, at, strict=True):
            ids[i] = block.ids[place]
    lead_s = np.where(np.isnan(values).any(axis=2), np.nan, lead_s)
    ordered = np.maximum.accumulate(values, axis=2)
    return Fan(known=np.isfinite(start), lead_s=lead_s, levels=levels, values=ordered, start=start, ids=tuple(ids))


def _at_levels(values: Floats, levels: Floats, wanted: Floats) -> Floats:
    """Return `values` [..., levels] at other levels, linear between, the outermost beyond."""
    place = np.interp(wanted, levels, np.arange(len(levels)))
    low = np.minimum(place.astype(np.int64), len(levels) - 1)
    high, share = np.minimum(low + 1, len(levels) - 1), place - low
    return np.asarray(values[..., low] * (1 - share) + values[..., high] * share)


def _first(medians: Floats) -> Floats:
    """Return [series] the median at the first step that is known."""
    return np.asarray(np.take_along_axis(medians, np.isfinite(medians).argmax(axis=1)[:, None], axis=1)[:, 0])


def exceedance(of: Fan, limit: Floats) -> Exceedance:
    """Return P(X > limit) per series; `limit` is [series]."""
    series, steps = of.lead_s.shape
    if steps == 0:
        return Exceedance(probability=np.zeros(series), lead_s=np.full(series, np.nan))
    above = np.nan_to_num(survival(of.levels, of.values, np.broadcast_to(limit[:, None], (series, steps))))
    highest = above.max(axis=1)
    first = (above >= highest[:, None] / 2).argmax(axis=1)
    lead_s = np.where(highest > 0, of.lead_s[np.arange(series), first], np.nan)
    return Exceedance(probability=highest, lead_s=lead_s)


def survival(levels: Floats, values: Floats, x: Floats) -> Floats:
    """Return P(X > x): `values` [..., levels] are the quantiles, `x` [...]; NaN where a quantile is NaN."""
    x = np.asarray(x, dtype=np.float64)
    if len(levels) == 1:
        return np.where(np.isnan(values[..., 0]), np.nan, np.where(x < values[..., 0], 1 - levels[0], 0.0))
    below = (values <= x[..., None]).sum(axis=-1)
    at = np.clip(below - 1, 0, len(levels) - 2)
    low, high = _take(values, at), _take(values, at + 1)
    width = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, np.clip((x - low) / width, 0.0, 1.0), 1.0)
    inside = 1 - (levels[at] + share * (levels[at + 1] - levels[at]))
    upper = (1 - levels[-1]) * _tail(
        x - values[..., -1], values[..., -1] - values[..., -2], _ratio(1 - levels[-2], 1 - levels[-1])
    )
    lower = 1 - levels[0] * _tail(values[..., 0] - x, values[..., 1] - values[..., 0], _ratio(levels[1], levels[0]))
    result = np.where(below == 0, lower, np.where(below == len(levels), upper, inside))
    return np.where(np.isnan(values).any(axis=-1) | np.isnan(x), np.nan, result)


def _take(values: Floats, at: Ints) -> Floats:
    return np.asarray(np.take_along_axis(values, at[..., None], axis=-1)[..., 0])


def _ratio(inner: float, outer: float) -> float:
    return float(np.log(inner / outer))


def _tail(beyond: Floats, gap: Floats, log_ratio: float) -> Floats:
    """exp(-beyond / scale) with the scale that passes through both outer quantiles; a gap of 0 has no tail."""
    scale = np.where(gap > 0, gap / log_ratio, 1.0)
    return np.where(beyond <= 0, 1.0, np.where(gap > 0, np.exp(-np.maximum(beyond, 0.0) / scale), 0.0))
