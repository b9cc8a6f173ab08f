"""The same physics settled: what the site draws and how warm it is when load stays as it is. For the past and for limits.

Serving is the queue's mean: the batch at which decoding keeps up while prefill takes its share. Power, fans, air and
temperatures are the formulas of `twin.physics` at their fixed point."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin import calibration as c
from twin import physics
from twin.compiled import kernel
from twin.demand import Demand
from twin.fleet import Fleet
from twin.scenario import Scenario

Floats = NDArray[np.float64]
FIRST_ROUNDS, ROUNDS = 40, 8
"""of the fixed point, at the first moment and at the others; recirculation and fans feed back on each other"""


class Tokens(NamedTuple):
    """What a mean request costs: seconds of prefill alone, tokens."""

    prefill_s: float
    prompt: float
    output: float


class Settled(NamedTuple):
    """T moments of S servers, I instances, R rows, A aisles."""

    gpu_w: Floats
    """[T, S] summed"""
    gpu_max_c: Floats
    """[T, S]"""
    server_w: Floats
    """[T, S]"""
    inlet_c: Floats
    duty: Floats
    row_w: Floats
    """[T, R]"""
    airflow_cfm: Floats
    """[T, A]"""
    rise_c: Floats
    site_load: Floats
    """[T]"""
    batch: Floats
    """[T, I]"""
    rps: Floats
    """[T, I]"""


def tokens(workload: Workload) -> Tokens:
    """Return the mean request of a workload."""
    lat, n = c.H100_TP8_2023, workload.prompt_tokens.astype(np.float64)
    return Tokens(
        prefill_s=float((lat.p0 + lat.p1 * n + lat.p2 * n * n).mean()),
        prompt=float(n.mean()),
        output=float(workload.output_tokens.mean()),
    )


@kernel
def mean_batch(rps: float, t: Tokens, limit: float, prefill_slow: float, decode_slow: float) -> tuple[float, float]:
    """Return (running requests, prefill share) of an instance at a request rate; at most `limit` when it cannot keep up."""
    lat = c.H100_TP8_2023
    prefill = min(0.98, rps * t.prefill_s * prefill_slow)
    per_s = rps * max(0.0, t.output - 1.0) * decode_slow / (1.0 - prefill)
    per_request = lat.d1 + lat.d2 * (t.prompt + t.output / 2.0)
    if per_s * per_request >= 0.999:
        return limit, prefill
    return min(limit, per_s * lat.d0 / (1.0 - per_s * per_request)), prefill


@kernel
def _settle(u: physics.Units, t: Tokens, level: Floats, outside_c: Floats, supplied_cfm: float, limit: float,
            out: Settled) -> None:  # fmt: skip
    """Fill `out`, whose rps is given. Each moment begins where the one before it settled."""
    servers = len(u.row)
    duty = np.full(servers, c.IDLE_DUTY)
    die = np.full((servers, c.GPUS), 60.0)
    rise = np.zeros(out.airflow_cfm.shape[1])
    load = 0.5
    own_w = np.zeros(servers)
    for m in range(len(outside_c)):
        for i in range(servers):
            own_w[i] = _nominal(u.instance[i], m, t, level[m, i], limit, out)
        for _ in range(FIRST_ROUNDS if m == 0 else ROUNDS):
            out.row_w[m] = 0.0
            out.airflow_cfm[m] = 0.0
            base_c = physics.inlet_base(outside_c[m], load)
            total_w = 0.0
            for i in range(servers):
                inlet_c = base_c + u.inlet_offset_c[i] + rise[u.aisle[i]]
                gpu_w, hottest_c = _warm(u, i, own_w[i], inlet_c, duty[i], die)
                duty[i] += 0.5 * (physics.fan_target(hottest_c) - duty[i])
                out.gpu_w[m, i], out.gpu_max_c[m, i] = gpu_w, hottest_c
                out.inlet_c[m, i], out.duty[m, i] = inlet_c, duty[i]
                out.server_w[m, i] = physics.server_power(gpu_w, duty[i])
                out.row_w[m, u.row[i]] += out.server_w[m, i]
                out.airflow_cfm[m, u.aisle[i]] += duty[i] * c.CFM_AT_FULL_DUTY
                total_w += gpu_w
            for a in range(len(rise)):
                rise[a] += 0.5 * (physics.overdraw_rise(out.airflow_cfm[m, a], supplied_cfm) - rise[a])
            load = total_w / (servers * c.GPUS * c.TDP_W)
        out.rise_c[m] = rise
        out.site_load[m] = load


@kernel
def _nominal(k: int, m: int, t: Tokens, level: float, limit: float, out: Settled) -> float:
    """W of a mean GPU of a server: its instance k's at the batch that settles (written to `out`), or its tenant's."""
    if k < 0:
        return physics.iaas_power(level, c.MAX_MHZ)
    batch, prefill = mean_batch(out.rps[m, k], t, limit, 1.0, 1.0)
    out.batch[m, k] = batch
    some = 1.0 - np.exp(-batch)  # the share of time with any request at all, as with Poisson numbers
    decode = (1.0 - prefill) * some
    within = batch / max(some, 1e-9)
    return physics.saas_power(prefill, decode, decode * within / (within + c.DECODE_HALF_BATCH), c.MAX_MHZ)


@kernel
def _warm(u: physics.Units, i: int, own_w: float, inlet_c: float, duty: float, die: Floats) -> tuple[float, float]:
    """Return a server's summed GPU power and hottest GPU at this inlet; `die` [S, 8] holds the temperatures.

    A GPU that would pass its slowdown swings between that and its release: its mean power is what keeps it in between.
    """
    gpu_w = 0.0
    for g in range(c.GPUS):
        gpu_w += physics.board_power(own_w, u.power_factor[i, g], die[i, g])
    held_c = c.SLOWDOWN_C - c.SLOWDOWN_HYSTERESIS_C / 2.0
    hottest_c, drawn_w = -100.0, 0.0
    for g in range(c.GPUS):
        r = (c.DIE_K_PER_W + physics.sink_resistance(duty)) * u.resistance[i, g]
        air_c = physics.air_at(inlet_c, g, gpu_w)
        watts = physics.board_power(own_w, u.power_factor[i, g], die[i, g])
        if air_c + r * watts > c.SLOWDOWN_C:
            watts = min(watts, max(c.LOADED_W, (held_c - air_c) / r))
        die[i, g] = air_c + r * watts
        drawn_w += watts
        hottest_c = max(hottest_c, die[i, g])
    return drawn_w, hottest_c


def units(fleet: Fleet) -> physics.Units:
    """Return what the kernels need of a fleet."""
    return physics.Units(
        row=fleet.row.astype(np.int64),
        aisle=fleet.aisle.astype(np.int64),
        instance=fleet.instance.astype(np.int64),
        resistance=fleet.resistance,
        power_factor=fleet.power_factor,
        inlet_offset_c=fleet.inlet_offset_c,
    )


def settle(
    scenario: Scenario,
    workload: Workload,
    fleet: Fleet,
    demand: Demand,
    seconds: Floats,
    *,
    supplied_cfm: float,
    outside_c: Floats | None = None,
    rps: Floats | None = None,
) -> Settled:
    """Return the settled site at `seconds` [T] from the scenario's start, nothing capped.

    `supplied_cfm` per aisle, inf = as much as is asked for; `outside_c` [T] replaces the scenario's weather, `rps` [T, I] the
    expected requests/s of each instance.
    """
    moments, servers = len(seconds), len(fleet.row)
    rps = expected_rps(scenario, fleet, demand, seconds) if rps is None else rps
    rows, aisles = int(fleet.row.max()) + 1, int(fleet.aisle.max()) + 1
    out = Settled(
        gpu_w=np.zeros((moments, servers)),
        gpu_max_c=np.zeros((moments, servers)),
        server_w=np.zeros((moments, servers)),
        inlet_c=np.zeros((moments, servers)),
        duty=np.zeros((moments, servers)),
        row_w=np.zeros((moments, rows)),
        airflow_cfm=np.zeros((moments, aisles)),
        rise_c=np.zeros((moments, aisles)),
        site_load=np.full(moments, 0.5),
        batch=np.zeros_like(rps),
        rps=rps,
    )
    weather = demand.outside_c(seconds) if outside_c is None else outside_c
    _settle(units(fleet), tokens(workload), demand.levels(seconds), weather, supplied_cfm, float(scenario.batch_limit), out)
    return out


def expected_rps(scenario: Scenario, fleet: Fleet, demand: Demand, seconds: Floats) -> Floats:
    """[T, I] requests/s of each instance at `seconds` [T], weights equal."""
    per_endpoint = np.maximum(1, np.bincount(fleet.instance_endpoint, minlength=scenario.endpoints))
    rps = (demand.rates(seconds) / per_endpoint[None])[:, fleet.instance_endpoint]
    return np.ascontiguousarray(rps)
