"""What a run suffers, counted second by second in the kernels: the design's words with one meaning."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin.batching.book import ENDED, OK, Book
from twin.compiled import bare
from twin.plant.units import State, Units

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MERGE_S = 60
"""shorter gaps do not end an event"""
SLO_WINDOW_S, SLO_QUANTILE = 300, 0.99
"""an endpoint's objectives (P99) hold when so many of the requests of the last 5 min met them"""
SECONDS, THROTTLED, SLOWDOWN, GPU_J, WALL_J, THERMAL, POWER, MAX_GPU_C, MAX_RATIO, MAX_INLET_C = range(10)
NEVER = -(10**9)


class Ledger(NamedTuple):
    """S servers, R rows, X other parts of the power tree (PDUs, then UPSes), E endpoints."""

    sums: Floats
    """[10] see the names above"""
    thermal_last: Ints
    """[S] last second of a thermal event"""
    power_last: Ints
    """[R + X]"""
    window: Ints
    """[SLO_WINDOW_S, E, 2] requests that ended, and those within their objectives, in each of the last seconds"""
    recent: Ints
    """[E, 2] their sum"""
    before: Ints
    """[E, 2] totals at the last second"""
    row_limit_w: Floats
    """[R] now"""
    part_limit_w: Floats
    """[X]"""
    part_share: Floats
    """[X, R] of each row's power that each part carries now"""
    row_held: NDArray[np.bool_]
    """[R] scratch: whether a clock of the row is held for power"""


def ledger(topology: Topology) -> Ledger:
    """Return an empty ledger; `part_share` and `row_limit_w` are to be set whenever something is lost."""
    rows, endpoints = len(topology.rows), len(topology.endpoints)
    parts = [p.power_limit_w for p in topology.pdus] + [u.power_limit_w for u in topology.upses]
    return Ledger(
        sums=np.zeros(10),
        thermal_last=np.full(len(topology.servers), NEVER),
        power_last=np.full(rows + len(parts), NEVER),
        window=np.zeros((SLO_WINDOW_S, endpoints, 2), dtype=np.int64),
        recent=np.zeros((endpoints, 2), dtype=np.int64),
        before=np.zeros((endpoints, 2), dtype=np.int64),
        row_limit_w=np.array([r.power_limit_w for r in topology.rows]),
        part_limit_w=np.array(parts, dtype=np.float64),
        part_share=np.zeros((len(parts), rows)),
        row_held=np.zeros(rows, dtype=np.bool_),
    )


def slo_holds(led: Ledger) -> Bools:
    """[E] whether the requests of the last 5 min met the objectives at the 99th percentile; True without any."""
    holds: Bools = led.recent[:, OK] >= SLO_QUANTILE * led.recent[:, ENDED]
    return holds


@bare
def note(led: Ledger, second: int, u: Units, s: State, row_w: Floats, b: Book, endpoint: Ints, cap_mhz: Floats,
         brake_mhz: Floats, for_heat: Bools, held: bool, capped: bool) -> None:  # fmt: skip
    """Take the second that ends at `second`; row_w [R] is its mean power; `held` = some GPU is in slowdown
    or shut down, `capped` = some cap is in force."""
    _window(led, second, b)
    led.sums[SECONDS] += 1.0
    servers = s.die_c.shape[0]
    gpu_c, inlet_c, gpu_w = 0.0, 0.0, 0.0
    for i in range(servers):
        hottest_c = s.die_c[i, 0]
        for g in range(1, s.die_c.shape[1]):
            hottest_c = max(hottest_c, s.die_c[i, g])
        gpu_c = max(gpu_c, hottest_c)
        inlet_c = max(inlet_c, s.inlet_c[i])
        gpu_w += s.gpus_w[i]
    led.sums[MAX_GPU_C] = max(led.sums[MAX_GPU_C], gpu_c)
    led.sums[MAX_INLET_C] = max(led.sums[MAX_INLET_C], inlet_c)
    led.sums[GPU_J] += gpu_w
    for r in range(len(row_w)):
        led.row_held[r] = False
    if held or capped:
        for i in range(servers):
            _server(led, second, u, s, i, endpoint[i], cap_mhz, brake_mhz[i], for_heat[i])
    _power(led, second, row_w)


@bare
def _window(led: Ledger, second: int, b: Book) -> None:
    """Let the 5 min of requests move on by a second."""
    k = second % SLO_WINDOW_S
    for e in range(len(led.before)):
        for what in range(2):
            total = 0
            for c in range(b.counts.shape[1]):
                total += b.counts[e, c, what]
            new = total - led.before[e, what]
            led.recent[e, what] += new - led.window[k, e, what]
            led.window[k, e, what] = new
            led.before[e, what] = total


@bare
def _server(
    led: Ledger, second: int, u: Units, s: State, i: int, e: int, cap_mhz: Floats, brake_mhz: float, for_heat: bool
) -> None:
    """Count the throttled GPUs of one server, and its thermal event."""
    missed = e < 0 or led.recent[e, OK] < SLO_QUANTILE * led.recent[e, ENDED]
    held_any, caps_any = False, False
    for g in range(s.die_c.shape[1]):
        held = s.slow[i, g] or s.down[i, g]
        cap = cap_mhz[i, g] <= brake_mhz or (cap_mhz[i, g] < u.max_mhz[i] and missed)
        if held:
            held_any = True
            led.sums[SLOWDOWN] += 1.0
        elif cap:
            caps_any = True
        if held or cap:
            led.sums[THROTTLED] += 1.0
    if held_any or (caps_any and for_heat):
        if second - led.thermal_last[i] - 1 >= MERGE_S:
            led.sums[THERMAL] += 1.0
        led.thermal_last[i] = second
    if caps_any and not for_heat:
        led.row_held[u.row[i]] = True


@bare
def _power(led: Ledger, second: int, row_w: Floats) -> None:
    rows = len(row_w)
    for r in range(rows):
        ratio = row_w[r] / led.row_limit_w[r]
        led.sums[WALL_J] += row_w[r]
        led.sums[MAX_RATIO] = max(led.sums[MAX_RATIO], ratio)
        if ratio > 1.0 or led.row_held[r]:
            _event(led, second, r)
    for x in range(len(led.part_limit_w)):
        carried = 0.0
        for r in range(rows):
            carried += led.part_share[x, r] * row_w[r]
        if carried > led.part_limit_w[x]:
            _event(led, second, rows + x)


@bare
def _event(led: Ledger, second: int, k: int) -> None:
    if second - led.power_last[k] - 1 >= MERGE_S:
        led.sums[POWER] += 1.0
    led.power_last[k] = second
