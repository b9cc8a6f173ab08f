"""The GPUs' temperatures: a rising curve per server for its hottest, and beside it each GPU, shrunk to its place in the
class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.grids import Floats, Ints
from forecast.plant_readings import Collected, Narrow, Readings
from forecast.plant_units import GPU_NOISE_K, Law, Learnt, learn, untold

GPU_PRIOR = (2.6, 0.96, 0.053)
"""hottest GPU: 2.6 + .96 inlet + .053 K per W of one GPU (TAPAS Fig. 7)"""
CLASS_SD, UNIT_SD = (6.0, 0.1, 0.02), (2.5, 0.03, 0.006)
"""of hardware around it (K, K/K, K/W: A100 .065 to .10, H100 .050), of a server around its hardware (.006 K/W: TAPAS Fig. 9)"""
BEND_CLASS_SD, BEND_UNIT_SD = 0.015, 0.003
"""K/W: fans and leakage bend the line [A]"""
PLACE_CLASS_SD, PLACE_UNIT_SD = (6.0, 0.02), (2.0, 0.005)
"""of a place in the server around its hottest GPU (up to 10 K, TAPAS 2.3), of a GPU around its place [A]"""
KNOT_SHARES = (0.3, 0.5, 0.7)
"""of TDP, where the curve bends unless the loads that were seen say better"""
LEAST_GAP = 0.1
STEEPEST, FLATTEST = 5.0, 0.2
"""bounds of every piece's slope, relative to the published one: it rises and can be inverted, whatever the sensors say"""
MOST_COLUMNS = 2_016
"""moments of which single GPUs are read: of four weeks every fourth; their places do not change"""


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """Curves in W of all GPUs of a server."""

    hottest: Learnt
    curve: Floats
    """[S, 3 + K] a, b, c, d_k as in `plant_model`"""
    knots_w: Floats
    """[S, K]"""
    offsets: Floats | None
    """[S, G, 2] e, f of each GPU; None = they were not read one by one"""
    each: Learnt | None
    """[S x G]"""
    read: NDArray[np.bool_]
    """[S]"""


def fit_gpus(
    servers: Sequence[str],
    group: Ints,
    gpus: Ints,
    full_w: Floats,
    wide: Mapping[str, Narrow],
    each: Readings | None,
    span: tuple[int, int],
) -> Gpus:
    """Learn from `inlet`, `gpu_power` and `gpu_temp` of the intervals in `span`, and `each` GPU's readings (SERVER/3) where
    given.

    group [S] hardware, gpus [S] how many, full_w [S] TDP of all.
    """
    knots = _knots(wide.get("gpu_power"), full_w, group)
    law = _law(group, knots.shape[1])
    inlet, power, hottest = (wide.get(name) for name in ("inlet", "gpu_power", "gpu_temp"))
    nobody = np.zeros(len(servers), dtype=np.bool_)
    if inlet is None or power is None or hottest is None:
        none = untold(law)
        curve = _rising(none.coefficients, gpus)
        return Gpus(hottest=none, curve=curve, knots_w=knots * full_w[:, None], offsets=None, each=None, read=nobody)

    def points(some: slice) -> tuple[Floats, Floats]:
        terms = _terms(inlet[some], power[some], gpus[some], knots[some] * full_w[some, None])
        return terms, hottest[some].astype(np.float64)

    found = learn(points, inlet.shape[1], law)
    curve = _rising(found.coefficients, gpus)
    out = Gpus(hottest=found, curve=curve, knots_w=knots * full_w[:, None], offsets=None, each=None, read=nobody)
    if each is None:
        return out
    stride = max(1, -(-(span[1] - span[0]) // MOST_COLUMNS))
    most = int(gpus.max(initial=1))
    shown = Collected([f"{name}/{g}" for name in servers for g in range(most)], stride)
    shown.read(each)
    return _with_each(out, shown.within(*span), inlet, power, gpus, full_w, group, span[0], stride)


def _law(group: Ints, knots: int) -> Law:
    return Law(
        published=np.tile((*GPU_PRIOR, *(0.0,) * knots), (len(group), 1)),
        class_sd=np.array((*CLASS_SD, *(BEND_CLASS_SD,) * knots)),
        unit_sd=np.array((*UNIT_SD, *(BEND_UNIT_SD,) * knots)),
        noise=GPU_NOISE_K,
        group=group,
    )


def _terms(inlet: Narrow, power: Narrow, gpus: Ints, knots_w: Floats) -> Floats:
    """Return [n, 3 + K, T]: 1, inlet, W of one GPU, and what lies above each knot."""
    per_gpu = power / gpus[:, None].astype(np.float64)
    above = [np.maximum(0.0, per_gpu - (knot / gpus)[:, None]) for knot in knots_w.T]
    return np.stack([np.ones_like(per_gpu), inlet.astype(np.float64), per_gpu, *above], axis=1)


def _knots(power: Narrow | None, full_w: Floats, group: Ints) -> Floats:
    """Return [S, 3] shares of TDP: the quartiles of the loads that a class has seen; fixed ones where these lie close."""
    out = np.tile(KNOT_SHARES, (len(full_w), 1))
    if power is None:
        return out
    for kind in np.unique(group):
        mine = group == kind
        share = (power[mine] / full_w[mine, None])[:, ::12]
        share = share[np.isfinite(share)]
        if share.size < 100:
            continue
        edges = np.quantile(share, [0.05, 0.25, 0.5, 0.75, 0.95])
        if (np.diff(edges) >= LEAST_GAP).all():
            out[mine] = edges[1:-1]
    return out


def _rising(coefficients: Floats, gpus: Ints) -> Floats:
    """Return the curve in W of all GPUs, every piece's slope within its bounds."""
    pieces = np.cumsum(coefficients[:, 2:], axis=1)
    pieces = np.clip(pieces, FLATTEST * GPU_PRIOR[2], STEEPEST * GPU_PRIOR[2]) / gpus[:, None]
    return np.concatenate([coefficients[:, :2], pieces[:, :1], np.diff(pieces, axis=1)], axis=1)


def _with_each(
    found: Gpus, shown: Narrow, inlet: Narrow, power: Narrow, gpus: Ints, full_w: Floats, group: Ints, first: int, stride: int
) -> Gpus:
    """Learn what each GPU adds to its server's curve: a constant and a slope."""
    servers, most = len(gpus), len(shown) // len(gpus)
    kept = slice(-first % stride, None, stride)
    inlet, power = inlet[:, kept], power[:, kept]
    columns = min(inlet.shape[1], shown.shape[1])
    inlet, power, shown = inlet[:, :columns], power[:, :columns], shown[:, :columns]
    law = Law(
        published=np.zeros((servers * most, 2)),
        class_sd=np.array(PLACE_CLASS_SD),
        unit_sd=np.array(PLACE_UNIT_SD),
        noise=GPU_NOISE_K,
        group=(group[:, None] * most + np.arange(most)).ravel(),
    )

    def points(some: slice) -> tuple[Floats, Floats]:
        of = np.arange(servers * most)[some] // most
        own = slice(int(of[0]), int(of[-1]) + 1)
        curve = found.curve[own].copy()
        curve[:, 2:] *= gpus[own, None]
        terms = _terms(inlet[own], power[own], gpus[own], found.knots_w[own])
        hottest = (curve[:, None, :] @ terms)[:, 0]
        at = of - of[0]
        return terms[:, [0, 2]][at], shown[some] - hottest[at]

    each = learn(points, columns, law, per=stride)
    read = np.isfinite(shown).any(axis=1).reshape(servers, most)
    offsets = each.coefficients.reshape(servers, most, 2)
    offsets[:, :, 1] /= gpus[:, None]
    lowest = np.cumsum(found.curve[:, 2:], axis=1).min(axis=1) - FLATTEST * GPU_PRIOR[2] / gpus
    offsets[:, :, 1] = np.maximum(offsets[:, :, 1], -lowest[:, None])
    there = np.arange(most) < gpus[:, None]
    own = np.asarray(np.logical_and(read, there).any(axis=1), dtype=np.bool_)
    usual_w = _usual(power, full_w)
    usual = np.where(there, offsets[:, :, 0] + offsets[:, :, 1] * usual_w[:, None], -np.inf)
    short = -usual.max(axis=1)
    # GPUs take turns: the hottest of each moment is a little above the one that is hottest on average, which is told as high.
    top = np.arange(most) == usual.argmax(axis=1)[:, None]
    offsets[:, :, 0] += np.where(own[:, None], top * np.maximum(short, 0.0)[:, None], short[:, None])
    return Gpus(hottest=found.hottest, curve=found.curve, knots_w=found.knots_w, offsets=offsets, each=each, read=own)


def _usual(power: Narrow, full_w: Floats) -> Floats:
    """Return [S] the mean power of a server's GPUs; half of TDP where none was read."""
    seen = np.isfinite(power)
    count = seen.sum(axis=1)
    return np.where(count > 0, np.where(seen, power, 0.0).sum(axis=1, dtype=np.float64) / np.maximum(count, 1), full_w / 2)
