"""Kalman: a first-order (RC) node that is driven by a disturbance which walks at random; learns and predicts on any grid.

    T' = a T + (1 - a) d,   a = exp(-dt / tau)        d' = d + w,  var w = q dt        reading = T + noise

A lost air handler shows as a disturbance that has moved: the forecast bends towards it within minutes, while a regression on
the past still believes in normal days. Readings that leave the model's family (normalised innovation squared above 6.6, the
99 % point of chi-squared with one degree of freedom) inflate the state's uncertainty, so that a jump is followed at once.
tau, q and the noise are taken from a small grid by likelihood, together for all series of the batch, in units of each series'
own step-to-step variance; they are kept per second, so that a fit on 300 s means serves on the 60 s grid.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import Floats, carried, clipped, observed, recent, restricted, rows_of, sampled

TAU_S = (120.0, 240.0, 600.0)
"""no shorter: on a grid of minutes the drive of a faster node cannot be told from the node"""
WALK = (0.05, 0.3, 1.0, 3.0)
"""variance of the disturbance's step over 300 s, in units of the series' step-to-step variance"""
NOISE = (0.02, 0.2, 0.5)
"""variance of a 300 s mean's error, in the same units"""
FIT_STEPS = 288
MOST_SERIES = 256
"""whose likelihood chooses tau, walk and noise; the variance is each series' own"""
OUT_OF_FAMILY = 6.6
LEAD = 1.5
"""how much farther than the node the drive has moved in a jump. On simulated steps of 4 K the 15 min error over the first
quarter hour was .42 (lag 60 s) and 1.5 K (lag 420 s), against .50 and 1.63 K with 1; 2.5 overshoots quick ones by half"""
MOST_DOUBT = 1e4
MEMORY_STEPS = 60
"""a filter started this many steps ago has forgotten how it was started"""


@dataclass(frozen=True)
class Filtered:
    """The state after the newest reading: node, disturbance [...], and the log-likelihood of the readings."""

    node: Floats
    drive: Floats
    loglik: Floats


@dataclass(frozen=True)
class KalmanFitted:
    """`variance` [S] step-to-step variance over 300 s; the rest in its units, the same for all series."""

    names: tuple[str, ...]
    variance: Floats
    tau_s: float
    walk: float
    noise: float

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]: the node on its way to the disturbance. NaN where nothing was observed in the batch.

        A series that was not fitted takes the class's median variance.
        """
        node, drive = self.level(batch)
        decay = np.exp(-batch.step_s * np.arange(1, steps + 1) / self.tau_s)
        path = drive[:, None] + (node - drive)[:, None] * decay
        return clipped(path, batch)

    def paths(self, batch: Batch, origins: Sequence[int], steps: int) -> Floats:
        """Return [O, S, steps]: `predict` at each origin (a column) as if nothing after it were known, in one filter run."""
        series = len(batch.names)
        stacked = np.full((len(origins) * series, MEMORY_STEPS), np.nan)
        for o, origin in enumerate(origins):
            known = recent(restricted(batch, origin), MEMORY_STEPS).values
            stacked[o * series : (o + 1) * series, MEMORY_STEPS - known.shape[1] :] = known
        names = batch.names * len(origins)
        end = np.arange(MEMORY_STEPS, dtype=np.int64) * batch.step_s
        out = self.predict(replace(batch, ts=end, names=names, values=stacked, covariates={}), steps)
        return out.reshape(len(origins), series, steps)

    def level(self, batch: Batch) -> tuple[Floats, Floats]:
        """Return the filtered node and disturbance [S] at the end of the batch."""
        row = rows_of(self.names, batch)
        typical = float(np.median(self.variance)) if len(self.variance) else 1.0
        variance = np.where(row >= 0, self.variance[row], typical) if len(self.variance) else np.full(len(row), typical)
        tail = recent(batch, MEMORY_STEPS)
        end = run_filter(tail.values, tail.step_s, variance, self.tau_s, self.walk, self.noise, scored=False)
        none = observed(tail.values) == 0
        return np.where(none, np.nan, end.node), np.where(none, np.nan, end.drive)

    def at(self, seconds: NDArray[np.float64], node: Floats, drive: Floats) -> Floats:
        """Return [S, len(seconds)] the node's course from a filtered state."""
        return drive[:, None] + (node - drive)[:, None] * np.exp(-seconds / self.tau_s)


class KalmanNode:
    """RC node with a random-walk disturbance."""

    name = "kalman"
    min_points = 12

    def fit(self, batch: Batch) -> KalmanFitted:
        """Choose tau, walk and noise by the likelihood of the newest 288 steps of all series (of 256 in larger classes)."""
        tail = recent(batch, FIT_STEPS)
        known = observed(tail.values) >= self.min_points
        values = tail.values[known]
        variance = step_variance(values, tail.step_s)
        names = tuple(name for name, ok in zip(batch.names, known, strict=True) if ok)
        grid = list(itertools.product(TAU_S, WALK, NOISE))
        if not names:
            return KalmanFitted(names=names, variance=variance, tau_s=TAU_S[1], walk=1.0, noise=0.2)
        tau, walk, noise = (np.array(column)[:, None] for column in zip(*grid, strict=True))
        some = sampled(names, MOST_SERIES) if len(names) > MOST_SERIES else np.arange(len(names))
        loglik = run_filter(values[some], tail.step_s, variance[None, some], tau, walk, noise).loglik
        best = grid[int(np.argmax(loglik.sum(axis=1)))]
        return KalmanFitted(names=names, variance=variance, tau_s=best[0], walk=best[1], noise=best[2])


def step_variance(values: Floats, step_s: int) -> Floats:
    """Return [S] the variance of a change over 300 s, from the median absolute change of a step; positive.

    A series that never moves takes a millionth of its level, or of the class's.
    """
    whole = carried(values)
    change = np.abs(np.diff(whole, axis=1))
    change[np.isnan(values[:, 1:])] = np.nan
    count = observed(change)
    order = np.sort(change, axis=1)  # NaN sorts last
    typical = np.full(len(values), np.nan)
    some = np.flatnonzero(count)
    typical[some] = 0.5 * (order[some, (count[some] - 1) // 2] + order[some, count[some] // 2])
    mean = np.where(count > 0, np.nansum(change, axis=1) / np.maximum(count, 1), np.nan)
    spread = np.where(typical > 0, 1.4826 * typical, 1.2533 * mean)
    floor = 1e-6 * np.maximum(np.abs(np.nan_to_num(whole[:, -1])), 1e-6) if values.shape[1] else np.ones(len(values))
    return np.square(np.fmax(spread, floor)) * max(300.0 / step_s, 1e-3)


def run_filter(
    values: Floats,
    step_s: int,
    variance: Floats,
    tau_s: float | Floats,
    walk: float | Floats,
    noise: float | Floats,
    *,
    scored: bool = True,
) -> Filtered:
    """Filter `values` [S, T]; the other arguments broadcast to [..., S]. Gaps predict only. Not `scored`: no likelihood (0).

    Written in place: every minute all series go through it.
    """
    a = np.asarray(np.exp(-step_s / np.asarray(tau_s)))
    b = 1.0 - a
    shape = np.broadcast_shapes(np.shape(variance), np.shape(walk), np.shape(noise), np.shape(a))
    q = np.broadcast_to(walk * variance * step_s / 300.0, shape)
    r = np.broadcast_to(noise * variance * 300.0 / step_s, shape)
    node = np.broadcast_to(_first(values), shape).astype(np.float64)
    drive = node.copy()
    p11, p12, p22 = r + q, q * 0.5, 4.0 * q + r
    q11, q12, doubt = q * (b * b / 3.0), q * (b / 2.0), MOST_DOUBT * r
    loglik = np.zeros(shape)
    for reading in np.ascontiguousarray(values.T):
        node *= a
        node += b * drive
        p11 *= a * a
        p11 += (2 * a * b) * p12
        p11 += (b * b) * p22
        p11 += q11
        p12 *= a
        p12 += b * p22
        p12 += q12
        p22 += q
        gap = np.isnan(reading)
        innovation = reading - node
        np.copyto(innovation, 0.0, where=gap)
        square, total = np.square(innovation), p11 + r
        if scored:
            loglik -= np.where(gap, 0.0, 0.5 * np.log(total) + 0.5 * square / total)
        # a jump: the drive has led; more than MOST_DOUBT adds nothing to the gain and would cost the covariance its digits
        square -= OUT_OF_FAMILY * total
        np.minimum(np.maximum(square, 0.0, out=square), doubt, out=square)
        p11 += square
        p12 += LEAD * square
        p22 += (LEAD * LEAD) * square
        gain = np.reciprocal(p11 + r)
        np.copyto(gain, 0.0, where=gap)
        k1, k2 = p11 * gain, p12 * gain
        node += k1 * innovation
        drive += k2 * innovation
        p22 -= k2 * p12
        k1 = np.subtract(1.0, k1, out=k1)
        p11 *= k1
        p12 *= k1
    return Filtered(node=node, drive=drive, loglik=loglik)


def _first(values: Floats) -> Floats:
    """Return [S] the first observed value; 0 where there is none."""
    seen = ~np.isnan(values)
    if not values.shape[1]:
        return np.zeros(len(values))
    return np.where(seen.any(axis=1), values[np.arange(len(values)), np.argmax(seen, axis=1)], 0.0)
