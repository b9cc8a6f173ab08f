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
ROUNDS = 40
"""of the fixed point; recirculation and fans feed back on each other"""


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
def mean_batch(rps: float, t: Tokens, mhz: float, limit: float, prefill_slow: float, decode_slow: float) -> tuple[float, float]:
    """Return (running requests, prefill share) of an instance at a request rate; at most `limit` when it cannot keep up."""
    lat = c.H100_TP8_2023
    prefill = min(0.98, rps * t.prefill_s * prefill_slow)
    per_s = rps * max(0.0, t.output - 1.0) * decode_slow / (1.0 - prefill)
    per_request = lat.d1 + lat.d2 * (t.prompt + t.output / 2.0)
    if per_s * per_request >= 0.999:
        return limit, prefill
    return min(limit, per_s * lat.d0 / (1.0 - per_s * per_request)), prefill


@kernel
def _settle(u: physics.Units, t: Tokens, rps: Floats, level: Floats, outside_c: Floats, supplied_cfm: float, limit: float,
            out: Settled) -> None:  # fmt: skip
    servers = len(u.row)
    duty = np.full(servers, c.IDLE_DUTY)
    die = np.full((servers, c.GPUS), 60.0)
    for m in range(len(outside_c)):
        rise = np.zeros(out.airflow_cfm.shape[1])
        load = out.site_load[max(0, m - 1)]
        for _ in range(ROUNDS):
            out.row_w[m] = 0.0
            out.airflow_cfm[m] = 0.0
            total_w = 0.0
            base_c = physics.inlet_base(outside_c[m], load)
            for i in range(servers):
                k = u.instance[i]
                own_w = physics.iaas_power(level[m, i], c.MAX_MHZ)
                if k >= 0:
                    out.batch[m, k], prefill = mean_batch(rps[m, k], t, c.MAX_MHZ, limit, 1.0, 1.0)
                    batch = out.batch[m, k]
                    some = 1.0 - np.exp(-batch)  # the share of time with any request at all, as with Poisson numbers
                    decode = (1.0 - prefill) * some
                    within = batch / max(some, 1e-9)
                    own_w = physics.saas_power(prefill, decode, decode * within / (within + c.DECODE_HALF_BATCH), c.MAX_MHZ)
                gpu_w = 0.0
                for g in range(c.GPUS):
                    gpu_w += physics.board_power(own_w, u.power_factor[i, g], die[i, g])
                inlet = base_c + u.inlet_offset_c[i] + rise[u.aisle[i]]
                hottest = -100.0
                for g in range(c.GPUS):
                    r = (c.DIE_K_PER_W + physics.sink_resistance(duty[i])) * u.resistance[i, g]
                    watts = physics.board_power(own_w, u.power_factor[i, g], die[i, g])
                    die[i, g] = physics.air_at(inlet, g, gpu_w) + r * watts
                    hottest = max(hottest, die[i, g])
                duty[i] += 0.5 * (physics.fan_target(hottest) - duty[i])
                out.gpu_w[m, i], out.gpu_max_c[m, i], out.inlet_c[m, i], out.duty[m, i] = gpu_w, hottest, inlet, duty[i]
                out.server_w[m, i] = physics.server_power(gpu_w, duty[i])
                out.row_w[m, u.row[i]] += out.server_w[m, i]
                out.airflow_cfm[m, u.aisle[i]] += duty[i] * c.CFM_AT_FULL_DUTY
                total_w += gpu_w
            for a in range(len(rise)):
                rise[a] += 0.5 * (physics.overdraw_rise(out.airflow_cfm[m, a], supplied_cfm) - rise[a])
            load = total_w / (servers * c.GPUS * c.TDP_W)
        out.rise_c[m] = rise
        out.site_load[m] = load


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
) -> Settled:
    """Return the settled site at `seconds` [T] from the scenario's start, nothing capped, weights equal.

    `supplied_cfm` per aisle, inf = as much as is asked for; `outside_c` [T] replaces the scenario's weather.
    """
    moments, servers = len(seconds), len(fleet.row)
    rates = demand.rates(seconds)
    per_endpoint = np.maximum(1, np.bincount(fleet.instance_endpoint, minlength=scenario.endpoints))
    rps = np.ascontiguousarray((rates / per_endpoint[None])[:, fleet.instance_endpoint])
    rows, aisles = int(fleet.row.max()) + 1, int(fleet.aisle.max()) + 1
    out = Settled(
        *(np.zeros((moments, servers)) for _ in range(5)),
        row_w=np.zeros((moments, rows)),
        airflow_cfm=np.zeros((moments, aisles)),
        rise_c=np.zeros((moments, aisles)),
        site_load=np.full(moments, 0.5),
        batch=np.zeros_like(rps),
        rps=rps,
    )
    weather = demand.outside_c(seconds) if outside_c is None else outside_c
    _settle(
        units(fleet), tokens(workload), rps, demand.levels(seconds), weather, supplied_cfm, float(scenario.batch_limit), out
    )
    return out
