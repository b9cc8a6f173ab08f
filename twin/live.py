"""Seconds of the whole site in one kernel: routing, serving, power, heat, clocks, what is suffered."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import ledger
from twin.arrivals import Block
from twin.batching.book import Book
from twin.batching.route import Router, pick, push
from twin.batching.serve import serve
from twin.batching.state import NOBODY, Instances, Log, Records
from twin.compiled import bare, seldom
from twin.ledger import Ledger
from twin.plant.protect import clocks
from twin.plant.step import step
from twin.plant.units import State, Supply, Units
from twin.points import DECODE, PREFILL, relative_power, relative_time

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STRIDE_S = 5
"""instances are served so many seconds at once where none of their GPUs can reach its slowdown within them"""


class Serving(NamedTuple):
    """I instances and how they sit on the servers."""

    s: Instances
    points: Records
    book: Book
    log: Log
    router: Router
    high: Bools
    """[E] priority of the endpoint's requests"""
    server: Ints
    """[I]"""
    first_gpu: Ints
    gpus: Ints
    present: Bools
    """[I] loaded and drawing power; False = its machine has left"""
    clock_mhz: Floats
    """[I] slowest of its GPUs, in force"""
    power: Floats
    """[I] busy power at that clock, relative"""
    watt: Floats
    """[I] nominal W of each of its GPUs in the last second"""
    hot: Bools
    """[S] scratch: servers whose instances are served step by step"""
    work: Records
    """[STRIDE_S, I] WORK"""
    pick: NDArray[np.int32]
    """[4, N] scratch of the router"""
    start: Ints
    """[I + 1] scratch"""


class Tenants(NamedTuple):
    """What is on the servers: S servers, G GPUs."""

    endpoint: Ints
    """[S] -1 = none"""
    customer: Ints
    """[S] -1 = none"""
    idle_w: Floats
    """[S] of a GPU that nobody uses"""
    loaded_w: Floats
    """[S] level 0 of an opaque tenant"""
    clock_floor: Floats
    """[S] busy power at clock f = floor + (1 - floor) (f / highest)^exponent"""
    clock_exponent: Floats
    brake_mhz: Floats
    """[S]"""
    iaas_clock_mhz: Floats
    """[S, G] for which `iaas_power` holds"""
    iaas_power: Floats
    """[S, G] busy power at that clock, relative"""


class Asked(NamedTuple):
    """What is asked in one block of a minute."""

    block: Block
    cursor: Ints
    """[E] the next request of each endpoint"""
    start_s: float
    seconds: float
    level: Floats
    """[2, S] of opaque tenants at the block's beginning and end; linear between"""
    outside_c: Floats
    """[2] the same"""


class Site(NamedTuple):
    """The plant and its meters."""

    u: Units
    s: State
    supply: Supply
    tenants: Tenants
    nominal_w: Floats
    """[S, G] scratch"""
    held: Ints
    """[1] GPUs in slowdown or shut down when clocks were set"""
    row_w: Floats
    """[M, R] mean power of each of the last M seconds, at second % M"""
    row_sd_w: Floats
    """[R] spread within the last second, by prompts and decode steps that take turns"""
    row_nominal_w: Floats
    """[STRIDE_S, R] scratch: nominal GPU power of the rows by the second"""


class Caps(NamedTuple):
    """Clock caps in force."""

    mhz: Floats
    """[S, G] inf = none"""
    for_heat: Bools
    """[S]"""
    any: bool
    """whether there is one"""


@seldom
def seconds(v: Serving, a: Asked, p: Site, caps: Caps, l: Ledger, second: int, count: int, step_s: int, counted: bool) -> int:
    """Live through up to `count` seconds from `second` on, in steps of `step_s`; return how many.

    Fewer than asked for when the log is half full. `counted` = the ledger takes note.
    """
    done = 0
    _clocks(v, p, caps)  # caps may have changed
    while done < count and 2 * v.log.count[0] <= max(2, len(v.log.rows)):
        stride = min(STRIDE_S, count - done)
        hot = _hot(v, p, stride, step_s)
        _give(v, a, second + done, stride)
        for k in range(0, stride, step_s):
            n = min(step_s, stride - k)
            if hot:
                _serve_hot(v, second + done, k, n)
            _nominal(v, a, p, second + done + k, k, n)
            middle = (second + done + k + 0.5 * n - a.start_s) / a.seconds
            outside_c = a.outside_c[0] + (a.outside_c[1] - a.outside_c[0]) * middle
            step(p.u, p.s, p.nominal_w, outside_c, p.supply, float(n))
            _clocks_after(v, p, caps)
            _meters(v, p, caps, l, second + done + k, n, counted)
        done += stride
    return done


@bare
def _held(s: State) -> int:
    """GPUs in hardware slowdown or shut down."""
    held = 0
    for i in range(s.slow.shape[0]):
        here = 0
        for g in range(s.slow.shape[1]):
            here += s.slow[i, g] | s.down[i, g]
        held += here
    return held


@seldom
def _clocks(v: Serving, p: Site, caps: Caps) -> None:
    """Put caps, slowdown and shutdown into the clocks."""
    clocks(p.u, p.s, caps.mhz)
    _set_clocks(v, p)
    p.held[0] = _held(p.s)


@bare
def _clocks_after(v: Serving, p: Site, caps: Caps) -> None:
    """The same after a step, where something may have changed."""
    if p.held[0] > 0 or _held(p.s) > 0:
        _clocks(v, p, caps)


@bare
def _set_clocks(v: Serving, p: Site) -> None:
    """Give every instance the slowest clock of its GPUs."""
    for i in range(len(v.server)):
        mhz = np.inf
        for g in range(v.first_gpu[i], v.first_gpu[i] + v.gpus[i]):
            mhz = min(mhz, p.s.clock_mhz[v.server[i], g])
        if mhz != v.clock_mhz[i]:
            v.clock_mhz[i] = mhz
            h = v.s.inst[i]
            point = v.points[h.point]
            if mhz > 0.0:
                h.prefill_slow = relative_time(point, mhz, PREFILL)
                h.decode_slow = relative_time(point, mhz, DECODE)
                v.power[i] = relative_power(point, mhz)
            else:
                h.decode_slow = np.inf


@bare
def _hot(v: Serving, p: Site, stride: int, step_s: int) -> bool:
    """Mark the servers with instances whose clock may change within the stride; they are served step by step.

    A die cannot get hotter than its sink can get, and the full power's step above it; so all others keep their clocks, and it
    does not matter that they are served at once.
    """
    any_hot = False
    for i in range(p.s.die_c.shape[0]):
        hot = False
        if p.tenants.endpoint[i] >= 0 and stride > step_s:
            sink_k = p.u.tdp_w[i] * stride / p.u.sink_j_per_k[i]
            limit_c = p.u.slowdown_c[i]
            for g in range(p.s.die_c.shape[1]):
                most_c = p.s.sink_c[i, g] + sink_k + p.u.tdp_w[i] * p.u.r_die[i, g]
                hot |= (max(most_c, p.s.die_c[i, g]) >= limit_c) | p.s.slow[i, g]
        v.hot[i] = hot
        any_hot |= hot
    return any_hot


@bare
def _give(v: Serving, a: Asked, second: int, stride: int) -> None:
    """Route the stride's requests, sorted by instance so that each is touched once; serve who is not hot."""
    from_s, until_s = float(second), float(second + stride)
    count = _route(v, a, until_s)
    instances = len(v.server)
    total = 0
    for i in range(instances + 1):
        here = v.start[i]
        v.start[i] = total
        total += here
    for n in range(count):
        i = v.pick[0, n]
        v.pick[3, v.start[i]] = n
        v.start[i] += 1
    at = 0
    for i in range(instances):
        while at < v.start[i]:
            n = v.pick[3, at]
            k, e = v.pick[1, n], v.pick[2, n]
            push(v.s, i, v.high[e], a.block.at_s[k], a.block.prompt[k], a.block.output[k], a.block.cached[k], k)
            at += 1
        for k in range(stride):
            w = v.work[k, i]
            w.prefill_s, w.decode_s, w.load_s = 0.0, 0.0, 0.0
        if not v.hot[v.server[i]]:
            serve(v.s, v.points, v.book, v.log, i, from_s, until_s, v.work)


@seldom
def _serve_hot(v: Serving, second: int, k: int, n: int) -> None:
    """Serve the instances on hot servers for `n` seconds from the stride's k-th on."""
    for i in range(len(v.server)):
        if v.hot[v.server[i]]:
            serve(v.s, v.points, v.book, v.log, i, float(second), float(second + k + n), v.work)


@bare
def _route(v: Serving, a: Asked, until_s: float) -> int:
    """Choose the instances of all requests before `until_s`; return their number."""
    for i in range(len(v.start)):
        v.start[i] = 0
    count = 0
    for e in range(len(a.cursor)):
        k = a.cursor[e]
        while k < a.block.first[e + 1] and a.block.at_s[k] < until_s:
            i = pick(v.router, e)
            v.pick[0, count], v.pick[1, count], v.pick[2, count] = i, k, e
            v.start[i] += 1
            count += 1
            k += 1
        a.cursor[e] = k
    return count


@bare
def _nominal(v: Serving, a: Asked, p: Site, second: int, k: int, n: int) -> None:
    """Set the nominal power of all GPUs for `n` seconds from the stride's k-th on: instances by their work, others by level."""
    t = p.tenants
    servers = p.nominal_w.shape[0]
    share = (second + 0.5 * n - a.start_s) / a.seconds
    for r in range(len(p.row_sd_w)):
        p.row_sd_w[r] = 0.0
        for j in range(n):
            p.row_nominal_w[j, r] = 0.0
    for i in range(servers):
        p.s.util[i] = 0.0
        if t.endpoint[i] < 0:  # a server of instances is theirs
            _opaque(p, i, a.level[0, i] + (a.level[1, i] - a.level[0, i]) * share if t.customer[i] >= 0 else -1.0)
    for i in range(len(v.server)):
        if v.present[i]:
            _instance(v, p, i, k, n)


@bare
def _opaque(p: Site, i: int, level: float) -> None:
    """Nominal power of a server that serves no instances: a tenant's at this level, or nobody's (level < 0)."""
    idle_w = p.tenants.idle_w[i] if level < 0.0 else p.tenants.loaded_w[i]
    p.s.util[i] = max(0.0, level)
    for g in range(p.nominal_w.shape[1]):
        watt = idle_w
        if level > 0.0:
            watt += (p.u.tdp_w[i] * iaas_power(p, i, g) - idle_w) * level
        p.nominal_w[i, g] = 0.0 if p.s.down[i, g] else watt


@bare
def iaas_power(p: Site, i: int, g: int) -> float:
    """Busy power of an opaque tenant's GPU at its clock, relative."""
    t, mhz = p.tenants, p.s.clock_mhz[i, g]
    if mhz != t.iaas_clock_mhz[i, g]:
        t.iaas_clock_mhz[i, g] = mhz
        t.iaas_power[i, g] = t.clock_floor[i] + (1.0 - t.clock_floor[i]) * (mhz / p.u.max_mhz[i]) ** t.clock_exponent[i]
    return float(t.iaas_power[i, g])


@bare
def _instance(v: Serving, p: Site, i: int, k: int, n: int) -> None:
    """Nominal power of the GPUs of instance i over `n` seconds, its spread within them, and what the rows see each second."""
    point = v.points[v.s.inst[i].point]
    i_server, row, gpus = v.server[i], p.u.row[v.server[i]], v.gpus[i]
    mean_w, busy_s = 0.0, 0.0
    for j in range(n):
        w = v.work[k + j, i]
        idle_s = max(0.0, 1.0 - w.prefill_s - w.decode_s)
        busy_s += 1.0 - idle_s
        prefill_w = v.power[i] * point.prefill_w
        decode_j = v.power[i] * (point.decode_base_w * w.decode_s + point.decode_span_w * w.load_s)
        watt = prefill_w * w.prefill_s + decode_j + point.loaded_w * idle_s
        mean_w += watt
        p.row_nominal_w[j, row] += watt * gpus
        if j == n - 1:
            square = prefill_w * prefill_w * w.prefill_s + point.loaded_w * point.loaded_w * idle_s
            if w.decode_s > 0.0:
                square += decode_j * decode_j / w.decode_s
            p.row_sd_w[row] += max(0.0, square - watt * watt) * gpus * gpus
    mean_w /= n
    v.watt[i] = mean_w
    p.s.util[i_server] += busy_s / n * gpus / p.nominal_w.shape[1]
    for g in range(v.first_gpu[i], v.first_gpu[i] + gpus):
        p.nominal_w[i_server, g] = 0.0 if p.s.down[i_server, g] else mean_w


@bare
def _meters(v: Serving, p: Site, caps: Caps, l: Ledger, second: int, n: int, counted: bool) -> None:
    """Write the rows' power of each second of the step, and let the ledger take note of it."""
    rows, kept = len(p.row_sd_w), len(p.row_w)
    psu = p.u.psu_share[0]
    for r in range(rows):
        p.row_sd_w[r] = np.sqrt(p.row_sd_w[r]) / psu
        mean_w = 0.0
        for j in range(n):
            mean_w += p.row_nominal_w[j, r]
        mean_w /= n
        for j in range(n):  # within a step only the instances' work differs from second to second
            p.row_w[(second + j) % kept, r] = p.s.row_w[r] + (p.row_nominal_w[j, r] - mean_w) / psu
    if counted:
        for j in range(n):
            ledger.note(
                l, second + j + 1, p.u, p.s, p.row_w[(second + j) % kept], v.book, p.tenants.endpoint, caps.mhz,
                p.tenants.brake_mhz, caps.for_heat, p.held[0] > 0, caps.any,
            )  # fmt: skip
