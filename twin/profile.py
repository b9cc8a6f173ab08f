"""Operating points: what one instance draws, how long it takes and how hot it gets, at a clock and a load."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import hardware, solo
from twin.classes import TBT_S, TTFT_S
from twin.points import Point

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNLOADED_TIMES = 5.0
"""[P] an objective is this times an unloaded request (TAPAS, DynamoLLM)"""


class Load(NamedTuple):
    """Requests as a Poisson process; each draws one pair of lengths at random."""

    rps: float
    prompt: Ints
    """tokens; one value = all alike"""
    output: Ints

    @staticmethod
    def fixed(rps: float, prompt: int, output: int) -> "Load":
        """Return a load of requests that are all alike."""
        return Load(rps, np.array([prompt]), np.array([output]))


class Objectives(NamedTuple):
    """P99 must stay at or below these, s."""

    ttft_s: float
    tbt_s: float


class Simulated(NamedTuple):
    """Requests of one run."""

    ttft_s: Floats
    tbt_s: Floats
    """mean over a request's tokens; not a number for a request of one token"""
    latency_s: Floats
    """arrival to last token"""
    energy_j: float
    """per GPU, to the last end"""
    span_s: float
    busy_s: float
    batch_s: float
    """integral of the running requests over busy time"""


class OperatingPoint(NamedTuple):
    """A configuration under a load. P99 and P50 over requests."""

    power_w: float
    """all GPUs of the instance, mean"""
    ttft_p50_s: float
    ttft_p99_s: float
    tbt_p50_s: float
    tbt_p99_s: float
    latency_s: float
    """mean from arrival to last token"""
    batch: float
    """running requests, mean over busy time"""
    busy: float
    """share of time in iterations"""
    gpu_c: float
    """hottest GPU of a typical server full of such instances, settled"""
    server_w: float
    """that server's power"""
    feasible: bool
    """P99 of TTFT and TBT within the objectives"""


def simulate(point: Point, arrivals: solo.Arrivals, mhz: float) -> Simulated:
    """Serve the arrivals from an empty instance to the end. The one place that knows which engine does it."""
    served = solo.serve(point, arrivals, mhz)
    steps = arrivals.output - 1.0
    tbt_s = np.divide(served.end_s - served.first_s, steps, out=np.full(len(steps), np.nan), where=steps > 0)
    return Simulated(
        ttft_s=served.first_s - arrivals.at_s,
        tbt_s=tbt_s,
        latency_s=served.end_s - arrivals.at_s,
        energy_j=served.energy_j,
        span_s=served.span_s,
        busy_s=served.prefill_s + served.decode_s,
        batch_s=served.batch * (served.prefill_s + served.decode_s),
    )


def unloaded(point: Point, load: Load) -> Objectives:
    """Return 5 times an unloaded request of the load's mean lengths at the highest clock."""
    prompt, output = float(load.prompt.mean()), float(load.output.mean())
    step = point.decode_s(1.0, prompt + output / 2)
    return Objectives(UNLOADED_TIMES * point.prefill_s(prompt), UNLOADED_TIMES * step)


def class_objectives(name: str) -> Objectives:
    """Return Table IV's objectives of a class such as "SM"."""
    return Objectives(TTFT_S["SML".index(name[0])], TBT_S)


def arrivals(load: Load, run_s: float, rng: np.random.Generator) -> solo.Arrivals:
    """Return `run_s` seconds of requests."""
    count = rng.poisson(load.rps * run_s)
    drawn = rng.integers(len(load.prompt), size=count)
    return solo.Arrivals(np.sort(rng.uniform(0.0, run_s, count)), load.prompt[drawn], load.output[drawn])


def operating_point(
    point: Point,
    server: hardware.Profile,
    load: Load,
    *,
    mhz: float,
    seed: int,
    objectives: Objectives | None = None,
    inlet_c: float = 22.0,
    run_s: float = 300.0,
    runs: int = 4,
) -> OperatingPoint:
    """Return what `runs` runs of `run_s` seconds, each from an empty instance to its last token, come to.

    Objectives are 5 times an unloaded request unless given. ValueError when no request arrives.
    """
    rng = np.random.default_rng(seed)
    each = [simulate(point, arrivals(load, run_s, rng), mhz) for _ in range(runs)]
    return summary(point, server, each, objectives or unloaded(point, load), inlet_c)


def summary(
    point: Point, server: hardware.Profile, runs: list[Simulated], objectives: Objectives, inlet_c: float
) -> OperatingPoint:
    """Return the operating point of runs already simulated."""
    ttft_s, latency_s = (np.concatenate([getattr(run, name) for run in runs]) for name in ("ttft_s", "latency_s"))
    tbt_s = np.concatenate([run.tbt_s for run in runs])
    tbt_s = tbt_s[~np.isnan(tbt_s)]
    if len(ttft_s) == 0:
        raise ValueError(f"{point.label}: no request arrived: a longer run or a higher rate is needed")
    span_s, busy_s = sum(run.span_s for run in runs), sum(run.busy_s for run in runs)
    gpu_w = sum(run.energy_j for run in runs) / span_s
    gpu_c, server_w = settled(server, gpu_w, inlet_c)
    ttft_p50, ttft_p99 = _quantiles(ttft_s)
    tbt_p50, tbt_p99 = _quantiles(tbt_s) if len(tbt_s) else (0.0, 0.0)
    return OperatingPoint(
        power_w=gpu_w * point.tp,
        ttft_p50_s=ttft_p50,
        ttft_p99_s=ttft_p99,
        tbt_p50_s=tbt_p50,
        tbt_p99_s=tbt_p99,
        latency_s=float(latency_s.mean()),
        batch=sum(run.batch_s for run in runs) / busy_s,
        busy=busy_s / span_s,
        gpu_c=gpu_c,
        server_w=server_w,
        feasible=ttft_p99 <= objectives.ttft_s and tbt_p99 <= objectives.tbt_s,
    )


def _quantiles(values: Floats) -> tuple[float, float]:
    """Return P50 and P99 as values that occurred (an infinite one does not spread to its neighbours)."""
    low, high = np.quantile(values, (0.5, 0.99), method="inverted_cdf")
    return float(low), float(high)


def settled(server: hardware.Profile, gpu_w: float, inlet_c: float) -> tuple[float, float]:
    """Return the hottest GPU (degC) and the power (W) of a typical server, settled, whose GPUs all draw `gpu_w`.

    Bisects on the temperature: a hotter GPU has faster fans (and more leakage), so that the residual falls.
    """
    heat, power = server.heat, server.power
    scale = heat.resistance_mean / (heat.die_k_per_w + heat.sink_k_per_w / _air_share(hardware.MEASURED_DUTY))
    air_c = heat.air_offset_c + heat.air_slope * inlet_c + max(heat.position_c) * gpu_w / heat.position_at_w

    def leaking(gpu_c: float) -> float:
        return min(gpu_w * (1.0 + power.leakage_per_k * (gpu_c - power.leakage_at_c)), server.sheet.gpu_tdp_w)

    low, high = air_c, air_c + 400.0
    for _ in range(60):
        middle = (low + high) / 2
        resistance = scale * (heat.die_k_per_w + heat.sink_k_per_w / _air_share(duty(server, middle)))
        low, high = (middle, high) if air_c + resistance * leaking(middle) > middle else (low, middle)
    fans_w = power.fans_w * duty(server, low) ** 3
    return low, (server.sheet.gpus * leaking(low) + power.overhead_w + fans_w) / power.psu_share


def duty(server: hardware.Profile, hottest_c: float) -> float:
    """Return the fan duty at a temperature of the hottest GPU."""
    fans = server.fans
    return min(1.0, max(fans.idle_duty, fans.hot_duty + fans.per_k * (hottest_c - fans.hot_c)))


def _air_share(duty: float) -> float:
    return 0.25 + 0.75 * duty
