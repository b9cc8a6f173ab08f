"""What limits were made for: the uncontrolled baseline at +0 % over a typical day, lived through by the twin's fluid engine.

`python -m twin.limits demo` prints the figures that a scenario file keeps. Two kinds of limit, as a site has them:

- Row power is one rating for all rows (TAPAS 2.1: limits are homogeneous per level), so it is made for the hungriest of many
  rows. Tenants come in groups of one customer or endpoint and fill rows as they come; so rows differ, and most stay well
  below the hungriest (TAPAS, 100 rows: half draw 28 % less, three quarters 18 %, nine tenths 10 %).
- An aisle's air is made for the aisle's own tenants."""

import argparse
import sys
from math import inf

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ColdaisleError
from contracts.workload import Workload
from twin import fleet as fleets
from twin.fluid import Fluid
from twin.intervals import Intervals, lived
from twin.scenario import Scenario, load

INTERVAL_S, STEP_S = 300, 60
DAY_S = 86_400
WARM_S = 3600
"""lived through before the day begins"""
AMPLE = 1e15
"""air (CFM) and cooling (W) that nothing exceeds: the limits in the scenario must not bear on those that are sought"""
DESIGN_SEED = 1
DESIGN_ROWS = 100
DESIGN_OUTSIDE_C = 15.0
"""a typical day's outside temperature where the site stands [A]; 35 degC is its emergency"""
DESIGN_GROUP = 20
"""mean number of neighbours that belong to one customer or endpoint [A] (TAPAS: endpoints of 23 to 100)"""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits at +0 % and how the design's rows spread below theirs."""

    row_limit_w: float
    aisle_limit_cfm: float
    row_share_p50: float
    """of the design's rows: median of the rows' 5 min maxima over the hungriest (TAPAS: .72)"""
    row_share_p90: float


def design(scenario: Scenario, workload: Workload, *, seed: int = DESIGN_SEED, rows: int = DESIGN_ROWS) -> Limits:
    """Return the limits that fit `scenario` without its oversubscription: same mix, same load per server, 5 min means."""
    share = 1.0 / (1.0 + scenario.oversubscription)
    calm = msgspec.structs.replace(scenario, events=(), ahu_lost_after_s=inf, ups_lost_after_s=inf)
    many = msgspec.structs.replace(calm, rows=rows)
    own = _day(Fluid(calm, workload, seed, at_s=float(-WARM_S)))
    fleet = fleets.build(many, seed, placement=fill(many, seed))
    maxima = _day(Fluid(many, workload, seed, fleet=fleet, at_s=float(-WARM_S))).row_w.max(axis=0) * share
    return Limits(
        row_limit_w=round(float(maxima.max()), -2),
        aisle_limit_cfm=round(float(own.airflow_cfm.max()) * share, -2),
        row_share_p50=round(float(np.median(maxima) / maxima.max()), 3),
        row_share_p90=round(float(np.quantile(maxima, 0.9) / maxima.max()), 3),
    )


def _day(fluid: Fluid) -> Intervals:
    """Return the day from the scenario's start on, in means of 5 min, with as much air and cooling as is asked for."""
    fluid.site.supply.aisle_cfm[:] = AMPLE
    fluid.site.supply.capacity_w[:] = AMPLE
    lived(fluid, WARM_S // STEP_S, STEP_S, STEP_S, outside_c=DESIGN_OUTSIDE_C)
    return lived(fluid, DAY_S // INTERVAL_S, INTERVAL_S, STEP_S, outside_c=DESIGN_OUTSIDE_C)


def fill(scenario: Scenario, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (is SaaS, group) for every server of a site that is filled group by group as tenants come.

    Group sizes are geometric around DESIGN_GROUP; a group is SaaS with the scenario's share.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 4]))
    servers = scenario.rows * scenario.servers_per_row
    sizes = rng.geometric(1.0 / DESIGN_GROUP, servers)
    group = np.repeat(np.arange(servers), sizes)[:servers]
    saas = rng.random(servers) < scenario.saas_share
    return saas[group], group


def main(arguments: list[str]) -> int:
    """Print the limits of a scenario as TOML lines; return the exit status."""
    from twin.warmup import plain_workload

    parser = argparse.ArgumentParser(
        prog="python -m twin.limits",
        description="Find the limits that a scenario's servers were made for.",
        epilog="example: python -m twin.limits demo",
    )
    parser.add_argument("scenario", help="name of a shipped one, or a TOML file")
    parser.add_argument("--rows", type=int, default=DESIGN_ROWS, help="rows among which the hungriest is sought (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        limits = design(load(options.scenario), plain_workload(), rows=options.rows)
    except ColdaisleError as error:
        print(f"twin.limits: {error}", file=sys.stderr)
        return error.status
    print(f"row_limit_w = {limits.row_limit_w:.0f}\naisle_limit_cfm = {limits.aisle_limit_cfm:.0f}")
    print(f"# rows: median {limits.row_share_p50}, 90 % {limits.row_share_p90} of the hungriest; means over {INTERVAL_S} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
