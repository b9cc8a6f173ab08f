"""The twin's settled heat and power as a function of its uncertain parameters, all given as arguments.

An analytic form of the plant (two nodes in series, fan law, air by aisle) at its fixed point, all instances of a server
alike: quick enough for thousands of draws. It knows no time constants, and no GPU is held at its slowdown: a claim asks how
warm it would get."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from studies import h100
from studies.pool import Point
from twin import calibration as c

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAMPING = 0.25
"""share of the way to the new value: fans that answer strongly swing with half of it"""
ROUNDS, SETTLED_C = 20_000, 1e-6

HEAT = (
    "h100_resistance", "h100_resistance_sd", "leakage", "fan_idle_duty", "fan_hot", "fan_gain", "recirculation",
    "inlet_slope", "inlet_load", "decode_base_scale", "decode_batch_scale", "prefill_scale", "beta_decode", "beta_prefill",
    "power_floor", "power_exponent", "decode_base", "decode_span", "prefill_power", "gpu_power_sd",
)  # fmt: skip
"""what `settle` reads of a point"""
METER = ("server_overhead", "psu_share")
"""what `row_power` reads beside"""


class Site(NamedTuple):
    """What does not vary: S servers of 8 GPUs, their load at one moment, and the air supplied."""

    row: Ints
    aisle: Ints
    saas: NDArray[np.bool_]
    rps: Floats
    """[S] requests/s of the server's instance; 0 without one"""
    level: Floats
    """[S] of the opaque tenant, 0 to 1"""
    resistance_score: Floats
    """[S, 8] standard deviations from the fleet's mean"""
    power_score: Floats
    """[S, 8] the same of board power"""
    inlet_offset_c: Floats
    supplied_cfm: Floats
    """[A] inf = as much as is asked for"""
    outside_c: float
    prompt: float
    """mean tokens"""
    prompt_squared: float
    output: float
    batch_limit: float


class Settled(NamedTuple):
    """The site as it stands in the end."""

    die_c: Floats
    """[S, 8]"""
    gpu_w: Floats
    """[S, 8]"""
    duty: Floats
    """[S]"""
    inlet_c: Floats
    """[S]"""
    airflow_cfm: Floats
    """[A]"""


def settle(site: Site, p: Point, saas_mhz: float = h100.MAX_MHZ) -> Settled:
    """Return the settled site with all SaaS at this clock. ArithmeticError where fans and air find no rest."""
    nominal_w = np.where(site.saas, _saas_power(site, p, saas_mhz), h100.LOADED_W + (h100.TDP_W - h100.LOADED_W) * site.level)[
        :, None
    ]
    factor = 1.0 + np.hypot(p["gpu_power_sd"], h100.INSTANCE_POWER_SD) * site.power_score
    resistance = np.clip(1.0 + p["h100_resistance_sd"] / p["h100_resistance"] * site.resistance_score, 0.6, 1.5)
    relative = resistance * p["h100_resistance"] / h100.RESISTANCE_MEAN
    duty, rise, load = np.full(len(site.row), p["fan_idle_duty"]), np.zeros(len(site.supplied_cfm)), 0.5
    die = np.full(factor.shape, 60.0)
    for _ in range(ROUNDS):
        gpu_w = np.minimum(h100.TDP_W, nominal_w * factor * (1.0 + p["leakage"] * (die - h100.LEAKAGE_AT_C)))
        inlet = _inlet_base(site.outside_c, load, p) + site.inlet_offset_c + rise[site.aisle]
        upstream = h100.POSITION_C * gpu_w.sum(axis=1, keepdims=True) / (h100.GPUS * h100.POSITION_AT_W)
        r = relative * (h100.DIE_K_PER_W + h100.SINK_K_PER_W / (0.25 + 0.75 * duty[:, None]))
        new = h100.AIR_OFFSET_C + h100.AIR_SLOPE * inlet[:, None] + upstream + r * gpu_w
        moved = float(np.abs(new - die).max())
        die = die + DAMPING * (new - die)
        target = np.clip(h100.FAN_HOT_DUTY + p["fan_gain"] * (die.max(axis=1) - p["fan_hot"]), p["fan_idle_duty"], 1.0)
        duty = duty + DAMPING * (target - duty)
        airflow = _sums(site.aisle, duty * h100.CFM_AT_FULL_DUTY, len(rise))
        want = p["recirculation"] * np.maximum(0.0, airflow / site.supplied_cfm - 1.0)
        moved = max(moved, float(np.abs(want - rise).max()), float(np.abs(target - duty).max()) / p["fan_gain"])
        rise = rise + DAMPING * (want - rise)
        load = float(gpu_w.mean()) / h100.TDP_W
        if moved < SETTLED_C:
            return Settled(die_c=die, gpu_w=gpu_w, duty=duty, inlet_c=inlet, airflow_cfm=airflow)
    raise ArithmeticError(f"the site does not settle: after {ROUNDS} rounds something still moves by {moved:.2g} K")


def row_power(site: Site, settled: Settled, p: Point) -> Floats:
    """[R] W at the rows' meters."""
    server_w = (settled.gpu_w.sum(axis=1) + p["server_overhead"] + h100.FANS_W * settled.duty**3) / p["psu_share"]
    return _sums(site.row, server_w, int(site.row.max()) + 1)


def _sums(group: Ints, values: Floats, groups: int) -> Floats:
    return np.bincount(group, values, minlength=groups).astype(np.float64)


def _saas_power(site: Site, p: Point, mhz: float) -> Floats:
    """[S] W of a mean GPU of each instance, at the batch at which decoding keeps up (as the fluid engine has it)."""
    lat, slower = h100.POINT, h100.MAX_MHZ / mhz
    prefill_s = lat.p0 + lat.p1 * p["prefill_scale"] * site.prompt + lat.p2 * site.prompt_squared
    prefill = np.minimum(0.98, site.rps * prefill_s * (1.0 + p["beta_prefill"] * (slower - 1.0)))
    per_s = site.rps * max(0.0, site.output - 1.0) * (1.0 + p["beta_decode"] * (slower - 1.0)) / (1.0 - prefill)
    per_request = lat.d1 * p["decode_batch_scale"] + lat.d2 * (site.prompt + site.output / 2.0)
    busy = np.minimum(0.999, per_s * per_request)
    running = per_s * lat.d0 * p["decode_base_scale"] / (1.0 - busy)
    batch = np.where(busy >= 0.999, site.batch_limit, np.minimum(site.batch_limit, running))
    some = 1.0 - np.exp(-batch)
    within = batch / np.maximum(some, 1e-9)
    decode = (1.0 - prefill) * some
    decode_w = p["decode_base"] + p["decode_span"] * within / (within + h100.DECODE_HALF_BATCH)
    clock = p["power_floor"] + (1.0 - p["power_floor"]) / slower ** p["power_exponent"]
    watts: Floats = (p["prefill_power"] * prefill + decode_w * decode) * clock + h100.LOADED_W * (1.0 - prefill - decode)
    return watts


def _inlet_base(outside_c: float, load: float, p: Point) -> float:
    outside = min(max(outside_c, c.OUTSIDE_COLD_C), c.OUTSIDE_FLAT_C)
    return c.INLET_COLD_C + p["inlet_slope"] * (outside - c.OUTSIDE_COLD_C) + p["inlet_load"] * load
