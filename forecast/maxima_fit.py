"""Learning the laws of row maxima: standardised samples of past windows, pooled by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast.grids import Floats, Ints
from forecast.tail import Law, gaussian_maximum, law
from forecast.trails import FEATURES, Bools, fresh, looks, maxima, origins_of

ORIGIN_S = 10
"""windows are looked at from whole multiples of it"""
FEWEST = 360
"""windows without which a class borrows, and all rows together assume: those of an hour of one row [A]"""
ASSUMED_WIDER = 1.5
"""times as wide as independent Gaussian samples would be, before anything was seen [A]"""
APART_S = 60.0
"""exceedances nearer to each other are one event"""
STILL = 0.1
"""of the usual scale: a row below it stands still. It teaches nothing, and what it shows is not believed"""
ASSUMED_RATIO = 0.005
"""scale / level when no row ever moved [A]; .004 to .005 in rows of 20 servers of the twin"""
ROWS_AT_ONCE = 8
RIDGE = 1e-3
ROBUST_SD, PASSES, MOST_REGRESSED = 3.0, 3, 60_000


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Past windows of each row: level, scale [R, O] and x [R, O, F] at their origins, and the maxima [R, O, W] that came."""

    level: Floats
    scale: Floats
    x: Floats
    highest: Floats


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What the rows of a class share."""

    weights: Floats
    """[W, FEATURES] how much of each trailing difference the maximum follows"""
    laws: tuple[Law, ...]
    """[W] of (maximum - centre) / scale"""
    ratio: float
    """usual scale / level, for rows that stand still"""


def fitted(power_w: Floats, until_s: int, step_s: int, windows_s: Sequence[float], rise_w: Floats | None) -> Samples:
    """Return the samples of all rows whose window is over; NaN where the origin had nothing fresh or the window has holes."""
    rows, total = power_w.shape
    origins = origins_of(until_s, total, step_s, 0, ORIGIN_S)
    parts: list[tuple[Floats, Floats, Floats, Floats]] = []
    for first in range(0, rows, ROWS_AT_ONCE):
        some = power_w[first : first + ROWS_AT_ONCE]
        seen = looks(some, origins, step_s, None if rise_w is None else rise_w[first : first + ROWS_AT_ONCE, origins])
        highest = np.stack([maxima(some, origins, int(-(-w // step_s))) for w in windows_s], axis=-1)
        usual = fresh(some, origins, step_s)
        parts.append((seen.level, np.where(usual, seen.scale, np.nan), seen.x, highest))
    level, scale, x, highest = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Samples(level=level, scale=scale, x=x, highest=highest)


def pools(
    samples: Samples, classes: Sequence[str], step_s: int, windows_s: Sequence[float]
) -> tuple[tuple[Pool, ...], Ints, tuple[str, ...]]:
    """Return the pools, which of them is each row's, and what is to be said of a row's ("" = nothing)."""
    every = np.arange(len(classes))
    ratio = _ratio(samples, every)
    moving = samples.scale > STILL * ratio * samples.level  # NaN is False
    count = (moving[..., None] & ~np.isnan(samples.highest)).sum(axis=1).min(axis=1)
    found: list[Pool] = []
    pool_of, notes = np.full(len(classes), -1, dtype=np.int64), [""] * len(classes)
    for name in dict.fromkeys(classes):
        rows = np.flatnonzero(np.array(classes) == name)
        of_class = int(count[rows].sum())
        if of_class >= FEWEST:
            pool_of[rows] = len(found)
            found.append(_pool(samples, moving, rows, windows_s))
        for row in rows:
            notes[row] = _note(int(count[row]), of_class, int(count.sum()))
    if (pool_of < 0).any():
        pool_of[pool_of < 0] = len(found)
        enough = count.sum() >= FEWEST
        found.append(_pool(samples, moving, every, windows_s) if enough else _assumed(step_s, windows_s, ratio))
    return tuple(found), pool_of, tuple(notes)


def _note(own: int, of_class: int, of_all: int) -> str:
    if of_all < FEWEST:
        return f"assumed: independent Gaussian samples, for only {of_all} windows were seen"
    if of_class < FEWEST:
        return f"pooled with all rows: its class has {of_class} windows"
    return f"pooled with its class: it has {own} windows" if own < FEWEST else ""


def _assumed(step_s: int, windows_s: Sequence[float], ratio: float) -> Pool:
    """Return the pool before anything was seen."""
    laws = tuple(gaussian_maximum(int(-(-w // step_s)), ASSUMED_WIDER) for w in windows_s)
    return Pool(weights=np.zeros((len(windows_s), FEATURES)), laws=laws, ratio=ratio)


def _ratio(samples: Samples, rows: Ints) -> float:
    level, scale = samples.level[rows], samples.scale[rows]
    there = (scale > 0) & (level > 0)
    return float(np.median(scale[there] / level[there])) if there.any() else ASSUMED_RATIO


def _pool(samples: Samples, moving: Bools, rows: Ints, windows_s: Sequence[float]) -> Pool:
    weights, laws = [], []
    scale = np.where(moving[rows], samples.scale[rows], np.nan)
    x = samples.x[rows] / scale[..., None]
    for w, window_s in enumerate(windows_s):
        y = (samples.highest[rows, :, w] - samples.level[rows]) / scale
        own = _regressed(x[~np.isnan(y)], y[~np.isnan(y)])
        z = y - np.einsum("rof,f->ro", x, own)
        apart = int(np.ceil(max(APART_S, window_s) / ORIGIN_S))
        weights.append(own)
        laws.append(law(list(z), apart=apart))
    return Pool(weights=np.stack(weights), laws=tuple(laws), ratio=_ratio(samples, rows))


def _regressed(x: Floats, y: Floats) -> Floats:
    """Return [F] the weights of a robust (Huber) ridge regression of y [N] on x [N, F] and a constant that is left away."""
    every = -(-len(y) // MOST_REGRESSED)
    x, y = np.concatenate([x, np.ones((len(x), 1))], axis=1)[::every], y[::every]
    trust: Floats = np.ones(len(y))
    penalty = RIDGE * len(y) * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    found: Floats = np.zeros(x.shape[1])
    for _ in range(PASSES):
        weighted = x * trust[:, None]
        found = np.asarray(np.linalg.solve(weighted.T @ x + penalty, weighted.T @ y), dtype=np.float64)
        off = np.abs(y - x @ found)
        usual = ROBUST_SD * 1.4826 * float(np.median(off))
        trust = np.asarray(np.minimum(1.0, usual / np.maximum(off, max(usual, 1e-100))), dtype=np.float64)
    return found[:-1]
