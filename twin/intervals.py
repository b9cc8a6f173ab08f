"""What the fluid engine lives through, as means over intervals: what a history and a design day are made of."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.compiled import kernel
from twin.flow import Flow, Means, flow
from twin.fluid import Fluid
from twin.parts import Site

Floats = NDArray[np.float64]


class Intervals(NamedTuple):
    """T intervals of S servers, I instances, R rows, A aisles; all are means over the interval."""

    gpu_w: Floats
    """[T, S] summed"""
    gpu_max_c: Floats
    """[T, S] hottest GPU of the moment"""
    server_w: Floats
    """[T, S]"""
    inlet_c: Floats
    duty: Floats
    row_w: Floats
    """[T, R]"""
    airflow_cfm: Floats
    """[T, A]"""
    batch: Floats
    """[T, I] running requests"""
    rps: Floats
    """[T, I]"""
    outside_c: Floats
    """[T]"""


def lived(
    fluid: Fluid, count: int, interval_s: int, step_s: int, *, rates: Floats | None = None, outside_c: float | None = None
) -> Intervals:
    """Let the site live through `count` intervals from its present moment, in steps of `step_s` (a divisor of `interval_s`).

    `rates` [count, E] requests/s in each interval and `outside_c` in place of the scenario's. Cooling stays as it is in
    `fluid.site.supply`: nothing gets lost. A GPU that shuts down counts as slowed down.
    """
    per = interval_s // step_s
    steps = count * per
    middle: Floats = fluid.now_s + step_s * (np.arange(steps, dtype=np.float64) + 0.5)
    weather = fluid.demand.outside_c(middle) if outside_c is None else np.full(steps, outside_c)
    asked = fluid.demand.rates(middle) if rates is None else np.repeat(rates, per, axis=0)
    out = _empty(fluid, count)
    _live(
        fluid.flow, fluid.means, fluid.site, fluid.cap_mhz, asked, fluid.demand.levels(middle), weather, float(step_s), per, out
    )
    fluid.now_s += count * interval_s
    for sums in out:
        sums /= per
    return out


def _empty(fluid: Fluid, count: int) -> Intervals:
    topology, instances = fluid.topology, len(fluid.flow.server)
    servers, rows, aisles = len(topology.servers), len(topology.rows), len(topology.aisles)
    sizes = (servers, servers, servers, servers, servers, rows, aisles, instances, instances)
    return Intervals._make([*(np.zeros((count, size)) for size in sizes), np.zeros(count)])


@kernel
def _live(f: Flow, m: Means, p: Site, cap_mhz: Floats, rates: Floats, level: Floats, outside_c: Floats, dt_s: float, per: int,
          out: Intervals) -> None:  # fmt: skip
    """Fill `out` with sums over the `per` steps of each interval."""
    for n in range(len(outside_c)):
        flow(f, m, p, cap_mhz, rates[n : n + 1], level[n : n + 1], outside_c[n : n + 1], dt_s, False)
        k = n // per
        out.outside_c[k] += outside_c[n]
        out.server_w[k] += p.s.server_w
        out.inlet_c[k] += p.s.inlet_c
        out.duty[k] += p.s.duty
        out.row_w[k] += p.s.row_w
        out.airflow_cfm[k] += p.s.airflow_cfm
        out.batch[k] += f.batch
        out.rps[k] += f.rps
        for i in range(len(p.s.server_w)):
            out.gpu_w[k, i] += p.s.gpu_w[i].sum()
            out.gpu_max_c[k, i] += p.s.die_c[i].max()
