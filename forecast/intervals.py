"""How sure a score is: intervals by a moving-block bootstrap over time, and over series where they stand for others.

Errors of neighbouring origins are alike, so blocks of them are drawn, not single ones (Künsch 1989; Politis and White 2004 on
their length). Series of one length draw the same moments, so what they share in an hour stays shared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from forecast.grids import Floats

DRAWS = 1000
SHARE = 0.9
"""of the draws lie inside an interval"""


class Interval(NamedTuple):
    """A figure, the ends of its 90 % interval, and the (series, origin) pairs that it rests on. NaN = nothing to score."""

    value: float
    lo: float
    hi: float
    pairs: int


class _Drawn(NamedTuple):
    """Sums and counts [D, S] of the blocks drawn for each series; row 0 = all of the series, undrawn."""

    sums: Floats
    counts: Floats


def mean_ratio(
    top: Sequence[Floats], bottom: Sequence[Floats], block: int, *, series_too: bool = False, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return (mean over series of the mean of `top`) / (the same of `bottom`), on the origins where both are known.

    One array per series, one value per origin in order of time, NaN = absent; scale each series before (as MASE does).
    `block`: origins per block. `series_too`: draw series as well. ValueError where the two do not match.
    """
    if len(top) != len(bottom) or any(a.shape != b.shape for a, b in zip(top, bottom, strict=False)):
        raise ValueError("top and bottom must hold the same series and origins")
    both = [~np.isnan(a) & ~np.isnan(b) for a, b in zip(top, bottom, strict=True)]
    above = [np.where(known, a, np.nan) for known, a in zip(both, top, strict=True)]
    below = [np.where(known, b, np.nan) for known, b in zip(both, bottom, strict=True)]
    rng = np.random.default_rng(seed)
    place = _places(above, block, draws, rng)
    one, other = _drawn(above, block, place), _drawn(below, block, place)
    weight = _weights(len(top), draws, series_too, rng)
    figures = _quotient(_sum(weight, _mean(one)), _sum(weight, _mean(other)))
    return _interval(figures, one)


def mean(values: Sequence[Floats], block: int, *, series_too: bool = False, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the mean over all pairs (for coverage: hits as 1 and 0). Arguments as for `mean_ratio`."""
    rng = np.random.default_rng(seed)
    drawn = _drawn(values, block, _places(values, block, draws, rng))
    weight = _weights(len(values), draws, series_too, rng)
    return _interval(_quotient(_sum(weight, drawn.sums), _sum(weight, drawn.counts)), drawn)


def _places(values: Sequence[Floats], block: int, draws: int, rng: np.random.Generator) -> Floats:
    """Return [D, B] where in a series each block begins, as a share of the places where it can."""
    most = max((-(-len(v) // _within(block, len(v))) for v in values if len(v)), default=1)
    return rng.random((draws, most))


def _within(block: int, points: int) -> int:
    return max(1, min(block, points))


def _drawn(values: Sequence[Floats], block: int, place: Floats) -> _Drawn:
    sums = np.zeros((len(place) + 1, len(values)))
    counts = np.zeros_like(sums)
    for s, given in enumerate(values):
        if not len(given):
            continue
        size = _within(block, len(given))
        begin = (place[:, : -(-len(given) // size)] * (len(given) - size + 1)).astype(np.int64)
        for out, row in ((sums, np.nan_to_num(given)), (counts, (~np.isnan(given)).astype(np.float64))):
            total = np.concatenate([[0.0], np.cumsum(row)])
            out[0, s] = total[-1]
            out[1:, s] = (total[begin + size] - total[begin]).sum(axis=1)
    return _Drawn(sums, counts)


def _weights(series: int, draws: int, series_too: bool, rng: np.random.Generator) -> Floats:
    """Return [D + 1, S] how often each series counts in each draw; once in row 0."""
    weight = np.ones((draws + 1, series))
    if series_too and series:
        chosen = rng.integers(0, series, (draws, series))
        weight[1:] = np.stack([np.bincount(row, minlength=series) for row in chosen])
    return weight


def _mean(drawn: _Drawn) -> Floats:
    return _quotient(drawn.sums, drawn.counts)


def _sum(weight: Floats, values: Floats) -> Floats:
    return np.asarray(np.nansum(weight * values, axis=1), dtype=np.float64)


def _quotient(top: Floats, bottom: Floats) -> Floats:
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return out


def _interval(figures: Floats, drawn: _Drawn) -> Interval:
    """Return row 0's figure with the middle 90 % of the others."""
    pairs = int(drawn.counts[0].sum())
    found = figures[1:][~np.isnan(figures[1:])]
    if not pairs or not found.size:
        return Interval(float("nan"), float("nan"), float("nan"), pairs)
    low, high = np.quantile(found, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(float(figures[0]), float(low), float(high), pairs)
