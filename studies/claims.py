"""Claims about the twin that can be put to the test by name: `python -m studies.sensitivity --claim NAME`.

A claim gives a margin above 0 where it holds. It must be quick (a second a point at most) and a function of its point alone."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from studies import h100, settled
from studies.pool import Evaluate, Point
from studies.settled import Site
from twin import calibration as c
from twin import fleet as fleets
from twin.demand import Demand
from twin.scenario import load
from twin.warmup import plain_workload

SEED = 7
"""of the demo's hidden units and demand"""
HOUR_S, STEP_S = 3600, 300
LOWERED_MHZ = 1000.0


class Claim(NamedTuple):
    """A statement that holds where `evaluate` is above 0."""

    name: str
    text: str
    unit: str
    """of the margin"""
    evaluate: Evaluate
    """a function at the top level of a module, so that worker processes find it"""
    reads: tuple[str, ...]
    """the parameters that its point must have"""


@lru_cache(maxsize=1)
def demo_site() -> Site:
    """Return the demo at its hour's mean load after the air handler is lost; units and demand of seed 7."""
    scenario, workload = load("demo"), plain_workload()
    fleet = fleets.build(scenario, SEED)
    demand = Demand(scenario, workload, fleet, SEED)
    seconds = np.arange(STEP_S / 2, HOUR_S, STEP_S)
    saas = fleet.endpoint >= 0
    servers = np.bincount(fleet.endpoint[saas], minlength=len(fleet.topology.endpoints))
    rps = np.zeros(len(fleet.row))
    instances = h100.GPUS // h100.TP  # of a server, alike
    rps[saas] = (demand.rates(seconds).mean(axis=0) / np.maximum(1, servers * instances))[fleet.endpoint[saas]]
    prompt = workload.prompt_tokens.astype(np.float64)
    power_sd = float(np.hypot(h100.GPU_POWER_SD, h100.INSTANCE_POWER_SD))
    return Site(
        row=fleet.row,
        aisle=fleet.aisle,
        saas=saas,
        rps=rps,
        level=demand.levels(seconds).mean(axis=0),
        resistance_score=(fleet.resistance - 1.0) * h100.RESISTANCE_MEAN / h100.RESISTANCE_SD,
        power_score=(fleet.power_factor - 1.0) / power_sd,
        inlet_offset_c=fleet.inlet_offset_c,
        supplied_cfm=np.full(int(fleet.aisle.max()) + 1, scenario.aisle_limit_cfm * c.AHU_LOST_SHARE),
        outside_c=float(demand.outside_c(seconds).mean()),
        prompt=float(prompt.mean()),
        prompt_squared=float((prompt**2).mean()),
        output=float(workload.output_tokens.mean()),
        batch_limit=float(scenario.batch_limit),
    )


def lowered_clock_ends_slowdown(p: Point) -> float:
    """K by which the demo's hottest GPU stays below its slowdown with all SaaS at 1,000 MHz."""
    return h100.SLOWDOWN_C - float(settled.settle(demo_site(), p, LOWERED_MHZ).die_c.max())


def lowered_clock_fits_row(p: Point) -> float:
    """Share of the scenario's limit that the demo's hungriest row leaves free with all SaaS at 1,000 MHz."""
    site = demo_site()
    return 1.0 - float(settled.row_power(site, settled.settle(site, p, LOWERED_MHZ), p).max()) / load("demo").row_limit_w


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="demo-1000mhz-ends-slowdown",
            text="with all SaaS at 1,000 MHz the demo's hottest GPU settles below its slowdown, an air handler lost",
            unit="K",
            evaluate=lowered_clock_ends_slowdown,
            reads=settled.HEAT,
        ),
        Claim(
            name="demo-1000mhz-fits-row",
            text="with all SaaS at 1,000 MHz the demo's hungriest row settles below its limit, an air handler lost",
            unit="share of the limit",
            evaluate=lowered_clock_fits_row,
            reads=settled.HEAT + settled.METER,
        ),
    )
}
