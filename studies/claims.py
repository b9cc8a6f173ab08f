"""Claims about the twin that can be put to the test by name: `python -m studies.sensitivity --claim NAME`.

A claim gives a margin above 0 where it holds. It must be quick (a second a point at most) and a function of its point alone."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from studies import settled
from studies.pool import Evaluate, Point
from studies.settled import Site
from twin.fluid import Fluid
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
    scenario = load("demo")
    fluid = Fluid(scenario, plain_workload(), SEED)
    seconds = np.arange(STEP_S / 2, HOUR_S, STEP_S)
    topology = fluid.topology
    return Site(
        fluid=fluid,
        rps=fluid.demand.rates(seconds).mean(axis=0),
        level=fluid.demand.levels(seconds).mean(axis=0),
        supplied_cfm=np.array([a.airflow_limit_cfm * topology.ahu_lost_share for a in topology.aisles]),
        outside_c=float(fluid.demand.outside_c(seconds).mean()),
    )


def lowered_clock_ends_slowdown(p: Point) -> float:
    """K by which the demo's hottest GPU stays below its slowdown with all SaaS at 1,000 MHz."""
    site = demo_site()
    margin_c = site.fluid.site.u.slowdown_c[:, None] - settled.settle(site, p, LOWERED_MHZ).die_c
    return float(margin_c.min())


def lowered_clock_fits_row(p: Point) -> float:
    """Share of the scenario's limit that the demo's hungriest row leaves free with all SaaS at 1,000 MHz."""
    site = demo_site()
    limit_w = np.array([r.power_limit_w for r in site.fluid.topology.rows])
    return float((1.0 - settled.settle(site, p, LOWERED_MHZ).row_w / limit_w).min())


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="demo-1000mhz-ends-slowdown",
            text="with all SaaS at 1,000 MHz the demo's hottest GPU settles below its slowdown, an air handler lost",
            unit="K",
            evaluate=lowered_clock_ends_slowdown,
            reads=settled.READS,
        ),
        Claim(
            name="demo-1000mhz-fits-row",
            text="with all SaaS at 1,000 MHz the demo's hungriest row settles below its limit, an air handler lost",
            unit="share of the limit",
            evaluate=lowered_clock_fits_row,
            reads=settled.READS,
        ),
    )
}
