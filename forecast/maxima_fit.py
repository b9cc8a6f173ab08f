"""Learning the laws of row maxima: standardised samples of past windows, pooled by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast.grids import Floats, Ints
from forecast.tail import Law, gaussian_maximum, law
from forecast.trails import FEATURES, fresh, looks, maxima

ORIGIN_S = 10
"""windows are looked at from whole multiples of it"""
FEWEST = 360
"""windows without which a class borrows, and all rows together assume: those of an hour of one row [A]"""
ASSUMED_WIDER = 1.5
"""times as wide as independent Gaussian samples would be, before anything was seen [A]"""
APART_S = 60.0
"""exceedances nearer to each other are one event"""
ROWS_AT_ONCE = 8
RIDGE = 1e-3
ROBUST_SD, PASSES, MOST_REGRESSED = 3.0, 3, 60_000


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Past windows of each row: level, scale [R, O] and features [R, O, F] at their origins, and the maxima [R, O, W] that came."""

    level: Floats
    scale: Floats
    x: Floats
    highest: Floats


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What the rows of a class share. No laws = nothing was ever measured."""

    weights: Floats
    """[W, FEATURES] how much of each trailing difference the maximum follows"""
    laws: tuple[Law, ...]
    """[W] of (maximum - centre) / scale"""
    ratio: float
    """usual scale / level: a row that stands still gets a tenth of it"""


def fitted(power_w: Floats, until_s: int, step_s: int, windows_s: Sequence[float], rise_w: Floats | None) -> Samples:
    """Return the samples of all rows whose window is over; NaN where the origin had nothing fresh or the window has holes."""
    rows, total = power_w.shape
    begin_s = until_s - (total - 1) * step_s
    first_s = -(-begin_s // ORIGIN_S) * ORIGIN_S
    origins = np.arange(first_s - begin_s, (total - 1) * step_s, ORIGIN_S, dtype=np.int64) // step_s
    if not origins.size:
        nothing = np.zeros((rows, 0))
        return Samples(
            level=nothing, scale=nothing, x=np.zeros((rows, 0, FEATURES)), highest=np.zeros((rows, 0, len(windows_s)))
        )
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
    """Return the pools (the last one of all rows), each row's, and what is to be said of a row's."""
    ratio = _ratio(samples, np.arange(len(classes)))
    moving = samples.scale > 0.1 * ratio * np.abs(samples.level)  # NaN is False; who stands still teaches nothing
    count = (moving[..., None] & ~np.isnan(samples.highest)).sum(axis=1).min(axis=1)
    measured = bool((~np.isnan(samples.level)).any())
    found, pool_of, notes = [], np.full(len(classes), -1, dtype=np.int64), [""] * len(classes)
    for name in dict.fromkeys(classes):
        rows = np.flatnonzero(np.array(classes) == name)
        if count[rows].sum() >= FEWEST:
            pool_of[rows] = len(found)
            found.append(_pool(samples, moving, rows, step_s, windows_s))
        else:
            for r in rows:
                notes[r] = f"pooled with all rows: its class has {count[rows].sum()} windows"
    rows = np.arange(len(classes))
    if count.sum() >= FEWEST:
        found.append(_pool(samples, moving, rows, step_s, windows_s))
    else:
        notes = [f"assumed: independent Gaussian samples, for there are {count.sum()} windows"] * len(classes)
        laws = tuple(gaussian_maximum(int(-(-w // step_s)), ASSUMED_WIDER) for w in windows_s) if measured else ()
        found.append(Pool(weights=np.zeros((len(windows_s), FEATURES)), laws=laws, ratio=ratio))
    pool_of[pool_of < 0] = len(found) - 1
    for r in rows:
        if not notes[r] and count[r] < FEWEST:
            notes[r] = f"pooled within its class: it has {count[r]} windows of its own"
    return tuple(found), pool_of, tuple(notes)


def _ratio(samples: Samples, rows: Ints) -> float:
    level, scale = samples.level[rows], samples.scale[rows]
    there = (scale > 0) & (level > 0)
    return float(np.median(scale[there] / level[there])) if there.any() else 0.0


def _pool(
    samples: Samples, moving: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], rows: Ints, step_s: int, windows_s: Sequence[float]
) -> Pool:
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
    trust = np.ones(len(y))
    penalty = RIDGE * len(y) * np.diag([1.0] * (x.shape[1] - 1) + [0.0])
    found = np.zeros(x.shape[1])
    for _ in range(PASSES):
        weighted = x * trust[:, None]
        found = np.linalg.solve(weighted.T @ x + penalty, weighted.T @ y)
        off = np.abs(y - x @ found)
        usual = ROBUST_SD * 1.4826 * float(np.median(off))
        trust = np.minimum(1.0, usual / np.maximum(off, max(usual, 1e-300)))
    return np.asarray(found[:-1], dtype=np.float64)
