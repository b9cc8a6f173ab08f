"""Morris's elementary effects: which parameters move a result, by how much, and whether evenly (Morris 1991, Technometrics 33).

A trajectory starts anywhere on a grid and moves one parameter after the other, each once; each move's change of the result
over its length is an elementary effect. Their mean is mu, the mean of their absolutes mu_star (Campolongo et al. 2007), their
standard deviation sigma: above nought where the effect bends or depends on other parameters.

The grid lies on the parameters' quantiles, so an effect is in the result's unit per whole distribution, comparable between
parameters. It has the middles of 8 slices, not the ends: the ends of a bell are no place to look from."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS = 8
JUMP = LEVELS // 2
"""a move's length in levels: with half of them, up or down as it fits, all levels are met equally often"""
RESAMPLES = 1000
COVERAGE = 0.95


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What one parameter does to the result, in the result's unit per whole distribution of the parameter."""

    name: str
    mu: float
    mu_star: float
    mu_star_low: float
    """95 % bootstrap interval over trajectories"""
    mu_star_high: float
    sigma: float | None
    """None where only one effect could be evaluated"""
    count: int
    """elementary effects behind it"""


def trajectories(parameters: int, count: int, seed: int) -> Floats:
    """[count, parameters + 1, parameters] quantiles; from one point to the next exactly one parameter changes."""
    rng = np.random.Generator(np.random.PCG64([seed, 12]))
    start = rng.integers(0, LEVELS, (count, parameters))
    order = rng.permuted(np.tile(np.arange(parameters), (count, 1)), axis=1)
    moves = np.where(start < JUMP, JUMP, -JUMP)
    turn = np.argsort(order, axis=1)  # the step at which each parameter moves
    moved = np.arange(parameters + 1)[None, :, None] > turn[:, None, :]
    quantiles: Floats = (start[:, None, :] + moved * moves[:, None, :] + 0.5) / LEVELS
    return quantiles


def elementary(quantiles: Floats, results: Floats) -> Floats:
    """[count, parameters] elementary effects of `results` [count, parameters + 1]; NaN where a result is NaN."""
    step = np.diff(quantiles, axis=1)
    which = np.abs(step).argmax(axis=2)
    length = np.take_along_axis(step, which[:, :, None], axis=2)[:, :, 0]
    found = np.full(which.shape, np.nan)
    np.put_along_axis(found, which, np.diff(results, axis=1) / length, axis=1)
    return found


def effects(names: tuple[str, ...], elementary: Floats, seed: int) -> tuple[Effect, ...]:
    """Return what each parameter does, the strongest mu_star first (then by name).

    A parameter without any finite effect is left out: nothing is known of it.
    """
    found = []
    for k, name in enumerate(names):
        own = elementary[np.isfinite(elementary[:, k]), k]
        if len(own) == 0:
            continue
        low, high = _interval(np.abs(own), np.random.Generator(np.random.PCG64([seed, 13, k])))
        found.append(
            Effect(
                name=name,
                mu=float(own.mean()),
                mu_star=float(np.abs(own).mean()),
                mu_star_low=low,
                mu_star_high=high,
                sigma=float(own.std(ddof=1)) if len(own) > 1 else None,
                count=len(own),
            )
        )
    return tuple(sorted(found, key=lambda e: (-e.mu_star, e.name)))


def _interval(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap of the mean of `values`."""
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - COVERAGE) / 2.0, (1.0 + COVERAGE) / 2.0])
    return float(low), float(high)
