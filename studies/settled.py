"""The demo's settled heat and power as a function of its uncertain parameters: the twin's own fluid engine, its constants
replaced by those of a point.

With the defaults and no clock lowered it is the twin itself (a test compares them), except that no GPU is held at its
slowdown: a claim asks how warm it would get. Fans stand in whole percents with a dead band of two, as in the twin, so that
temperatures are good to some tenths of a kelvin."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from studies.pool import Point
from twin import calibration as c
from twin import parts, plant
from twin.batching.state import Records
from twin.flow import Flow, flow
from twin.fluid import Fluid
from twin.hardware import Profile

Floats = NDArray[np.float64]

STEP_S = 20.0
LEAST_STEPS, MOST_STEPS, RESTS = 60, 900, 5
SETTLED_C = 0.01
"""at rest: no GPU moves by more in any of RESTS steps in a row"""
NEVER_C = 1e6

READS = (
    "h100_resistance", "h100_resistance_sd", "leakage", "fan_idle_duty", "fan_hot", "fan_gain", "recirculation",
    "inlet_slope", "inlet_load", "decode_base_scale", "decode_batch_scale", "prefill_scale", "beta_decode", "beta_prefill",
    "power_floor", "power_exponent", "decode_base", "decode_span", "prefill_power", "gpu_power_sd", "server_overhead",
    "psu_share",
)  # fmt: skip
"""what `settle` reads of a point"""


class Site(NamedTuple):
    """What does not vary."""

    fluid: Fluid
    """cold; never run itself"""
    rps: Floats
    """[E] requests/s"""
    level: Floats
    """[S] of the opaque tenants, 0 to 1"""
    supplied_cfm: Floats
    """[A]"""
    outside_c: float


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
    row_w: Floats
    """[R] at the rows' meters"""


def settle(site: Site, p: Point, saas_mhz: float | None = None) -> Settled:
    """Return the settled site with all SaaS at this clock (None = the highest). ArithmeticError where it finds no rest."""
    base = site.fluid
    own, flows = _copied(site, p)
    cap_mhz = np.full(base.cap_mhz.shape, np.inf)
    if saas_mhz is not None:
        cap_mhz[base.fleet.endpoint >= 0] = saas_mhz
    level, outside_c = site.level[None], np.array([site.outside_c])
    offset_c = own.u.inlet_offset_c + (p["inlet_slope"] - c.INLET_PER_C) * _above_cold(site.outside_c)
    rest, moved = 0, np.inf
    for step in range(MOST_STEPS):
        before = own.s.die_c.copy()
        own.u.inlet_offset_c[:] = offset_c + (p["inlet_load"] - c.INLET_LOAD_C) * own.s.site_load_lagged[0]
        flow(flows, base.means, own, cap_mhz, site.rps[None], level, outside_c, STEP_S, False)
        moved = float(np.abs(own.s.die_c - before).max())
        rest = rest + 1 if moved < SETTLED_C else 0
        if step >= LEAST_STEPS and rest >= RESTS:
            s = own.s
            return Settled(s.die_c, s.gpu_w, s.duty, s.inlet_c, s.airflow_cfm, s.row_w)
    raise ArithmeticError(f"the site does not settle: after {MOST_STEPS} steps a GPU still moves by {moved:.2g} K")


def _copied(site: Site, p: Point) -> tuple[parts.Site, Flow]:
    """A plant and flows of the point's own, so that the site stays cold."""
    base = site.fluid
    flows = Flow._make(values.copy() for values in base.flow)._replace(points=_points(base.flow.points, p))
    state = plant.State._make(values.copy() for values in base.site.s)
    return base.site._replace(u=_units(base, p), s=state, supply=_supply(site, p)), flows


def _above_cold(outside_c: float) -> float:
    """K of outside temperature that the inlets follow."""
    return min(max(outside_c, c.OUTSIDE_COLD_C), c.OUTSIDE_FLAT_C) - c.OUTSIDE_COLD_C


def _units(fluid: Fluid, p: Point) -> plant.Units:
    """The drawn units with the point's means and spreads: each keeps how many deviations it lies from the mean."""
    fleet, u = fluid.fleet, fluid.site.u
    profile: Profile = fleet.profiles[0]
    heat, power = profile.heat, profile.power
    drawn_sd = heat.resistance_sd / heat.resistance_mean
    own_sd = p["h100_resistance_sd"] / p["h100_resistance"]
    resistance = (
        np.clip(1.0 + own_sd / drawn_sd * (fleet.resistance - 1.0), 0.6, 1.5) * p["h100_resistance"] / heat.resistance_mean
    )
    factor_sd = np.hypot(p["gpu_power_sd"], power.instance_sd) / np.hypot(power.gpu_sd, power.instance_sd)
    servers = len(u.row)
    return u._replace(
        r_die=heat.die_k_per_w * resistance,
        r_sink=heat.sink_k_per_w * resistance,
        power_factor=1.0 + factor_sd * (fleet.power_factor - 1.0),
        leakage_per_k=p["leakage"] * fleet.leakage,
        overhead_w=p["server_overhead"] * fleet.overhead,
        psu_share=np.full(servers, p["psu_share"]),
        idle_duty=np.full(servers, p["fan_idle_duty"]),
        fan_hot_c=np.full(servers, p["fan_hot"]),
        fan_per_k=np.full(servers, p["fan_gain"]),
        slowdown_c=np.full(servers, NEVER_C),
        shutdown_c=np.full(servers, NEVER_C),
        inlet_offset_c=u.inlet_offset_c.copy(),
    )


def _supply(site: Site, p: Point) -> plant.Supply:
    supply = site.fluid.site.supply
    return supply._replace(
        aisle_cfm=site.supplied_cfm,
        recirculation=supply.recirculation * (p["recirculation"] / c.OVERDRAW_C),
        **{name: getattr(supply, name).copy() for name in ("cooling_share", "chiller_share", "capacity_w")},
    )


def _points(points: Records, p: Point) -> Records:
    """The operating points with the point's latencies and powers; clocks by time = 1 - beta + beta fmax/f."""
    own = points.copy()
    own["d0"] *= p["decode_base_scale"]
    own["d1"] *= p["decode_batch_scale"]
    own["p1"] *= p["prefill_scale"]
    own["decode_base_w"], own["decode_span_w"], own["prefill_w"] = p["decode_base"], p["decode_span"], p["prefill_power"]
    slower = own["clock_mhz"].max(axis=1, keepdims=True) / own["clock_mhz"]
    own["decode_time"] = 1.0 + p["beta_decode"] * (slower - 1.0)
    own["prefill_time"] = 1.0 + p["beta_prefill"] * (slower - 1.0)
    own["power"] = p["power_floor"] + (1.0 - p["power_floor"]) / slower ** p["power_exponent"]
    return own
