"""Instances as flows, and the kernel that moves them and the plant on together.

An instance at rate r (requests/s, mean prompt p, mean output o) spends rho = r prefill(p) of its time on prompts. Its batch
grows with r and shrinks as requests end: b' = r - b / T, T = (o - 1) step(b) / (1 - rho), solved exactly over a step with the
T of its beginning. As many decode as a Poisson number of mean b, so that it is busy 1 - exp(-b) of the rest."""

from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.batching.state import NOBODY, Records
from twin.compiled import bare, seldom
from twin.nominal import opaque
from twin.parts import Site
from twin.plant.protect import clocks
from twin.plant.step import step
from twin.points import DECODE, PREFILL, relative_power, relative_time

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Means(NamedTuple):
    """[E] of an endpoint's requests."""

    prompt: Floats
    """tokens to compute, cached ones left out"""
    prompt_square: Floats
    output: Floats
    context: Floats
    """tokens that a decoding request holds, on average over its time"""


class Flow(NamedTuple):
    """I instances. Times in s."""

    point: Ints
    points: Records
    endpoint: Ints
    share: Floats
    """[I] of its endpoint's requests"""
    server: Ints
    first_gpu: Ints
    gpus: Ints
    present: Bools
    clock_mhz: Floats
    prefill_slow: Floats
    decode_slow: Floats
    power: Floats
    batch: Floats
    """requests that decode"""
    waiting: Floats
    rps: Floats
    """requests/s that came in the last step"""
    served: Floats
    """requests that ended, counts up"""
    ended: Floats
    """requests that ended since the others alike were last told"""
    like: Ints
    """[I] an instance in the same state, of whose flow it takes part; itself where there is none before it"""
    newest: Ints
    """[E, P] scratch: the newest instance of each endpoint and point that is like none before it"""
    busy: Floats
    """[I] share of the last step with an iteration in progress"""
    watt: Floats
    """[I] nominal W of each of its GPUs"""


@seldom
def _clocks(f: Flow, p: Site, cap_mhz: Floats) -> None:
    """Put caps, slowdown and shutdown into the clocks, and see who is alike."""
    clocks(p.u, p.s, cap_mhz)
    for i in range(len(f.server)):
        mhz = np.inf
        for g in range(f.first_gpu[i], f.first_gpu[i] + f.gpus[i]):
            mhz = min(mhz, p.s.clock_mhz[f.server[i], g])
        if mhz != f.clock_mhz[i]:
            f.clock_mhz[i] = mhz
            point = f.points[f.point[i]]
            f.prefill_slow[i] = relative_time(point, mhz, PREFILL) if mhz > 0.0 else np.inf
            f.decode_slow[i] = relative_time(point, mhz, DECODE) if mhz > 0.0 else np.inf
            f.power[i] = relative_power(point, mhz) if mhz > 0.0 else 0.0
    _alike(f)


@bare
def _instance(f: Flow, m: Means, i: int, rate: float, dt_s: float) -> None:
    """Move one instance on."""
    point, e = f.points[f.point[i]], f.endpoint[i]
    f.rps[i] = rate
    rho, decode_share, load = 0.0, 0.0, 0.0
    if f.clock_mhz[i] > 0.0:
        alone_s = 0.0 if point.chunked else point.p0
        prefill_s = f.prefill_slow[i] * (alone_s + point.p1 * m.prompt[e] + point.p2 * m.prompt_square[e])
        step_s = f.decode_slow[i] * (point.d0 + (point.d1 + point.d2 * m.context[e]) * max(1.0, f.batch[i]))
        alone_stay_s = step_s * max(1.0, m.output[e] - 1.0)
        # No more are let in than leave, where the batch is full; who is let in makes the others stay longer.
        room = max(0.0, point.batch_limit - f.batch[i]) / dt_s
        most = (room + f.batch[i] / alone_stay_s) / (1.0 + f.batch[i] * prefill_s / alone_stay_s)
        taken = min(rate + f.waiting[i] / dt_s, min(0.98 / prefill_s, most))
        rho = taken * prefill_s
        stay_s = alone_stay_s / (1.0 - rho)
        settled = taken * stay_s
        batch = settled + (f.batch[i] - settled) * exp(-dt_s / stay_s)
        f.ended[i] += f.batch[i] + taken * dt_s - batch
        f.waiting[i] = max(0.0, f.waiting[i] + (rate - taken) * dt_s)
        f.batch[i] = batch
        busy = 1.0 - exp(-batch)
        decode_share = (1.0 - rho) * busy
        together = batch / busy if busy > 0.0 else 1.0
        load = together / (together + point.decode_half_batch)
    watt = f.power[i] * (point.prefill_w * rho + (point.decode_base_w + point.decode_span_w * load) * decode_share)
    f.watt[i] = watt + point.loaded_w * (1.0 - rho - decode_share)
    f.busy[i] = rho + decode_share


@bare
def _tell(f: Flow) -> None:
    """Let those who are alike have done what the first of them did."""
    for i in range(len(f.server)):
        j = f.like[i]
        f.served[i] += f.ended[j]
        f.rps[i], f.waiting[i], f.batch[i], f.busy[i], f.watt[i] = f.rps[j], f.waiting[j], f.batch[j], f.busy[j], f.watt[j]
    for i in range(len(f.server)):
        f.ended[i] = 0.0


@bare
def _alike(f: Flow) -> None:
    """Find who is in the same state: as long as clocks do not part them, an endpoint's instances stay alike."""
    for e in range(f.newest.shape[0]):
        for k in range(f.newest.shape[1]):
            f.newest[e, k] = NOBODY
    for i in range(len(f.server)):
        j = f.newest[f.endpoint[i], f.point[i]]
        alike = j != NOBODY and f.share[i] == f.share[j] and f.clock_mhz[i] == f.clock_mhz[j] and f.present[i] == f.present[j]
        if alike and f.batch[i] == f.batch[j] and f.waiting[i] == f.waiting[j]:
            f.like[i] = j
        else:
            f.like[i] = f.newest[f.endpoint[i], f.point[i]] = i


@bare
def _loads(f: Flow, p: Site) -> None:
    """Set the nominal power of the instances' GPUs and how busy they are."""
    share = 1.0 / p.nominal_w.shape[1]
    for i in range(len(f.server)):
        if f.present[i]:
            server, busy, watt = f.server[i], f.busy[f.like[i]], f.watt[f.like[i]]
            p.s.util[server] += busy * (f.gpus[i] * share)
            for g in range(f.first_gpu[i], f.first_gpu[i] + f.gpus[i]):
                p.nominal_w[server, g] = 0.0 if p.s.down[server, g] else watt


@seldom
def flow(f: Flow, m: Means, p: Site, cap_mhz: Floats, rates: Floats, level: Floats, outside_c: Floats, dt_s: float,
         lasting: bool) -> None:  # fmt: skip
    """Live through T steps of `dt_s` with rates [T, E], levels [T, S] of opaque tenants and outside temperature [T].

    `lasting` = a GPU that is shut down stays so; else it counts as slowed down, for steps that are longer than its heating.
    """
    t, held, changed = p.tenants, 0, True
    for n in range(len(outside_c)):
        if changed:
            _clocks(f, p, cap_mhz)
        for i in range(len(t.endpoint)):
            p.s.util[i] = 0.0
            if t.endpoint[i] < 0:  # a server of instances is theirs
                opaque(p, i, level[n, i] if t.customer[i] >= 0 else -1.0)
        for i in range(len(f.server)):
            if f.like[i] == i and f.present[i]:
                _instance(f, m, i, rates[n, f.endpoint[i]] * f.share[i], dt_s)
        _loads(f, p)
        before, held = held, step(p.u, p.s, p.nominal_w, outside_c[n], p.supply, dt_s)
        changed = before > 0 or held > 0
        if changed or n + 1 == len(outside_c):
            _tell(f)
        if held > 0 and not lasting:
            for i in range(len(p.s.duty)):
                for g in range(p.s.down.shape[1]):
                    p.s.down[i, g] = False
