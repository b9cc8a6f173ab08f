"""Seconds of the whole site in one kernel: routing, serving, power, heat, clocks, what is suffered."""

import numpy as np

from twin import ledger
from twin.batching.route import pick, push
from twin.batching.serve import serve
from twin.compiled import bare, seldom
from twin.ledger import Ledger
from twin.nominal import drawn, nominal, utilised
from twin.parts import SHORT_S, STRIDE_S, Asked, Caps, Serving, Site
from twin.plant.protect import clocks
from twin.plant.step import step
from twin.points import DECODE, PREFILL, relative_power, relative_time


@seldom
def seconds(v: Serving, a: Asked, p: Site, caps: Caps, led: Ledger, second: int, count: int, step_s: int, counted: bool) -> int:
    """Live through up to `count` seconds from `second` on, in steps of `step_s`; return how many.

    Fewer than asked for when the log is half full. `counted` = the ledger takes note.
    """
    done = 0
    _clocks(v, p, caps)  # caps may have changed
    while done < count and (2 * v.log.total[0] <= len(v.log.rows) or len(v.log.rows) == 0):
        stride = min(STRIDE_S, count - done)
        hot = _hot(v, p, stride, step_s)
        if hot and stride > SHORT_S:
            stride = SHORT_S
            hot = _hot(v, p, stride, step_s)
        _give(v, a, second + done, stride, step_s)
        for k in range(0, stride, step_s):
            n = min(step_s, stride - k)
            if hot:
                _serve_hot(v, second + done, k, n)
            nominal(v, a, p, second + done + k, k, n)
            middle = (second + done + k + 0.5 * n - a.start_s) / a.seconds
            outside_c = a.outside_c[0] + (a.outside_c[1] - a.outside_c[0]) * middle
            held = step(p.u, p.s, p.nominal_w, outside_c, p.supply, float(n))
            if held > 0 or p.held[0] > 0:  # something may have changed
                _clocks(v, p, caps)
                p.held[0] = held
            _meters(v, p, caps, led, second + done + k, n, counted)
        done += stride
    utilised(v, p)
    return done


@seldom
def _clocks(v: Serving, p: Site, caps: Caps) -> None:
    """Put caps, slowdown and shutdown into the clocks; an instance has the slowest clock of its GPUs."""
    clocks(p.u, p.s, caps.mhz)
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

    A sink warms at most by all the power, and a die nears what full power makes of the warmest sink with its own time constant;
    so all others keep their clocks, and it does not matter that they are served at once.
    """
    any_hot = False
    for i in range(p.s.die_c.shape[0]):
        hot = False
        if p.tenants.endpoint[i] >= 0 and stride > step_s:
            sink_k = p.u.tdp_w[i] * stride / p.u.sink_j_per_k[i]
            r_die = p.u.r_die[i, 0]
            for g in range(1, p.s.die_c.shape[1]):
                r_die = min(r_die, p.u.r_die[i, g])
            left = np.exp(-stride / (p.u.die_j_per_k[i] * r_die))
            limit_c = p.u.slowdown_c[i]
            for g in range(p.s.die_c.shape[1]):
                die_c = p.s.die_c[i, g]
                most_c = p.s.sink_c[i, g] + sink_k + p.u.tdp_w[i] * p.u.r_die[i, g]
                hot |= (max(die_c, most_c - (most_c - die_c) * left) >= limit_c) | p.s.slow[i, g]
        v.hot[i] = hot
        any_hot |= hot
    return any_hot


@bare
def _give(v: Serving, a: Asked, second: int, stride: int, step_s: int) -> None:
    """Route the stride's requests, sorted by instance so that each is touched once; serve who is not hot."""
    count = _route(v, a, float(second + stride))
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
            r = a.block.rows[k]
            push(v.s, i, v.high[e], r.at_s, r.prompt, r.output, r.cached, k)
            at += 1
        if not v.hot[v.server[i]]:
            _serve(v, i, second, 0, stride, step_s)


@seldom
def _serve_hot(v: Serving, second: int, k: int, n: int) -> None:
    """Serve the instances on hot servers for `n` seconds from the stride's k-th on."""
    for i in range(len(v.server)):
        if v.hot[v.server[i]]:
            _serve(v, i, second, k, n, n)


@bare
def _serve(v: Serving, i: int, second: int, k: int, count: int, step_s: int) -> None:
    """Serve instance i for `count` seconds of the stride that began at `second`, from its k-th on."""
    for j in range(count):
        w = v.work[j]
        w.prefill_s, w.decode_s, w.load_s = 0.0, 0.0, 0.0
    serve(v.s, v.points, v.book, v.log, i, float(second + k), float(second + k + count), v.work)
    drawn(v, i, k, count, step_s)


@bare
def _route(v: Serving, a: Asked, until_s: float) -> int:
    """Choose the instances of all requests before `until_s`; return their number."""
    for i in range(len(v.start)):
        v.start[i] = 0
    count = 0
    for e in range(len(a.cursor)):
        k = a.cursor[e]
        while k < a.block.first[e + 1] and a.block.rows[k].at_s < until_s:
            i = pick(v.router, e)
            v.pick[0, count], v.pick[1, count], v.pick[2, count] = i, k, e
            v.start[i] += 1
            count += 1
            k += 1
        a.cursor[e] = k
    return count


@bare
def _meters(v: Serving, p: Site, caps: Caps, led: Ledger, second: int, n: int, counted: bool) -> None:
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
                led, second + j + 1, p.u, p.s, p.row_w[(second + j) % kept], v.book, p.tenants.endpoint, caps.mhz,
                p.tenants.brake_mhz, caps.for_heat, p.held[0] > 0, caps.any,
            )  # fmt: skip
