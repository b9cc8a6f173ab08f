"""The distribution of a sample whose far end matters: empirical in its body, generalised Pareto beyond a threshold.

Peaks over a threshold: above a high u, X - u given X > u is nearly generalised Pareto (Pickands 1975),
P(X - u > x | X > u) = (1 + xi x / sigma)^(-1 / xi). Shape and scale come from probability weighted moments, which stand few
peaks well (Hosking and Wallis 1987). Peaks that come together are one event, so only the highest of a cluster counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from forecast.grids import Floats

SHAPES = (-0.3, 0.3)
"""bounds on xi: below, the tail would end right behind what was seen; above, its mean hardly exists [A]"""
FEWEST_PEAKS = 20
"""with fewer, the tail is exponential (shape 0): a shape from so few is noise [A]"""
BODY = (0.0005, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.965)
"""levels of the body's quantiles; the last one before the threshold's own"""
TAIL_SHARE = 0.02
"""share of the sample beyond the threshold [A]"""


@dataclass(frozen=True, kw_only=True)
class Law:
    """A distribution in the sample's unit."""

    levels: Floats
    """[Q] rising; the last is that of the threshold"""
    z: Floats
    """[Q] quantiles at `levels`, not falling"""
    xi: float
    sigma: float
    """of the tail, >= 0; 0 = nothing lies beyond the threshold"""
    points: int
    """size of the sample; 0 = assumed, not seen"""
    peaks: int
    """clusters behind the tail"""

    def quantile(self, beyond: Floats) -> Floats:
        """Return x with P(X > x) = `beyond`, elementwise; below the body its lowest quantile."""
        share = 1.0 - float(self.levels[-1])
        inside = np.interp(1.0 - beyond, self.levels, self.z)
        ratio = np.log(share / np.clip(beyond, 1e-300, share))
        excess = ratio if self.xi == 0.0 else np.expm1(self.xi * ratio) / self.xi
        return np.asarray(inside + self.sigma * excess, dtype=np.float64)

    def beyond(self, x: Floats) -> Floats:
        """Return P(X > x), elementwise; 1 below the body."""
        share = 1.0 - float(self.levels[-1])
        inside = 1.0 - np.interp(x, self.z, self.levels)
        over = x - self.z[-1]
        if self.sigma == 0.0:
            tail = np.zeros(np.shape(x))
        else:
            y = np.clip(over, 0.0, 1e15 * self.sigma) / self.sigma
            inner = np.maximum(self.xi * y, -1.0 + 1e-15)  # a negative shape has an end: nothing lies beyond
            tail = share * np.exp(-y if self.xi == 0.0 else -np.log1p(inner) / self.xi)
            tail = np.where(self.xi * y > -1.0, tail, 0.0)
        return np.asarray(np.where(x < self.z[0], 1.0, np.where(over >= 0, tail, inside)), dtype=np.float64)


def law(samples: Sequence[Floats], *, apart: int) -> Law:
    """Return the law of all `samples` together; each is one series in the order of time, NaN where nothing is known.

    Peaks of one series that are fewer than `apart` positions from each other are one. Raises ValueError where all is NaN.
    """
    known = [sample[~np.isnan(sample)] for sample in samples]
    joined = np.concatenate(known) if known else np.zeros(0)
    if not joined.size:
        raise ValueError("a law of nothing: every sample is NaN")
    levels = np.array([*BODY, 1.0 - TAIL_SHARE])
    z = np.quantile(joined, levels, method="weibull")
    excess = np.concatenate([peaks(sample, float(z[-1]), apart) for sample in samples]) - z[-1]
    xi, sigma = gpd(excess)
    return Law(levels=levels, z=z, xi=xi, sigma=sigma, points=joined.size, peaks=excess.size)


def gpd(excess: Floats) -> tuple[float, float]:
    """Return shape and scale of the generalised Pareto law of `excess` [N] > 0; (0, 0) of none."""
    n = excess.size
    if not n:
        return 0.0, 0.0
    mean = float(excess.mean())
    if n < FEWEST_PEAKS:
        return 0.0, mean
    rank = (np.arange(1, n + 1) - 0.35) / n
    second = float(np.mean(np.sort(excess) * (1.0 - rank)))  # E[X (1 - F(X))]
    spread = mean - 2.0 * second
    free = 2.0 - mean / spread if spread > 0 else SHAPES[0]
    xi = float(np.clip(free, *SHAPES))
    return xi, mean * (1.0 - xi)


def peaks(sample: Floats, threshold: float, apart: int) -> Floats:
    """Return the highest value of each cluster above `threshold`; a cluster ends where `apart` positions lie at or below it."""
    above = np.flatnonzero(sample > threshold)
    if not above.size:
        return np.zeros(0)
    first = np.flatnonzero(np.diff(above, prepend=above[0] - apart - 1) > apart)
    return np.asarray(np.maximum.reduceat(sample[above], first), dtype=np.float64)


def gaussian_maximum(count: int, widened: float) -> Law:
    """Return the law of the highest of `count` independent standard normal values times `widened`: what is assumed before
    anything was seen. Its tail is exponential through the threshold and the quantile of a hundredth of the share beyond."""
    levels = np.array([*BODY, 1.0 - TAIL_SHARE])
    normal = NormalDist()

    def at(beyond: float) -> float:  # the tail by its logarithm: a level near 1 would lose digits
        return -widened * normal.inv_cdf(-float(np.expm1(np.log1p(-beyond) / count)))

    z = np.array([at(1.0 - level) for level in levels])
    sigma = (at(TAIL_SHARE / 100.0) - float(z[-1])) / float(np.log(100.0))
    return Law(levels=levels, z=z, xi=0.0, sigma=sigma, points=0, peaks=0)
