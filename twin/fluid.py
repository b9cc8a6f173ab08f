"""The fluid engine: the same plant and the same load, but instances as flows; for the past, for limits, for what-ifs."""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin import fleet as fleets
from twin import made
from twin.demand import Demand
from twin.events import down, next_change_s
from twin.fleet import Fleet
from twin.flow import Flow, Means, flow
from twin.scenario import Scenario
from twin.tenancy import present

Floats = NDArray[np.float64]


def means(demand: Demand) -> Means:
    """Return the means of all endpoints' requests."""
    lengths = demand.lengths
    rows = [slice(a, a + n) for a, n in zip(lengths.first.tolist(), lengths.size.tolist(), strict=True)]
    prompt = [lengths.prompt[r] * (1.0 - share) for r, share in zip(rows, lengths.cached_share, strict=True)]
    whole = [lengths.prompt[r].astype(np.float64) for r in rows]
    output = [lengths.output[r].astype(np.float64) for r in rows]
    made_s = [float((o * o).mean() / (2.0 * o.mean())) for o in output]
    # A request stays as long as its output is, and holds its prompt all the while.
    held = [float((p * o).mean() / o.mean()) for p, o in zip(whole, output, strict=True)]
    return Means(
        prompt=np.array([p.mean() for p in prompt]),
        prompt_square=np.array([(p * p).mean() for p in prompt]),
        output=np.array([o.mean() for o in output]),
        context=np.array([a + b for a, b in zip(held, made_s, strict=True)]),
    )


class Fluid:
    """A site as flows. `now_s` counts from the scenario's start and may be negative."""

    def __init__(
        self, scenario: Scenario, workload: Workload, seed: int, *, fleet: Fleet | None = None, at_s: float = 0.0
    ) -> None:
        """Build a cold site at `at_s`; run it for half an hour before its figures are used. Nothing is capped."""
        self.scenario = scenario
        self.fleet = fleets.build(scenario, seed) if fleet is None else fleet
        self.topology = self.fleet.topology
        self.demand = Demand(scenario, workload, self.fleet, seed)
        self.site = made.site(self.fleet)
        self.means = means(self.demand)
        self.flow = _flow(scenario, self.fleet)
        self.cap_mhz = np.full(self.fleet.power_factor.shape, np.inf)
        self.now_s = at_s

    @classmethod
    def at(cls, scenario: Scenario, workload: Workload, seed: int, moment: datetime) -> "Fluid":
        """Return a cold site at a moment."""
        return cls(scenario, workload, seed, at_s=(moment - scenario.start).total_seconds())

    def advance(self, steps: int, step_s: float, *, lasting: bool = True, outside_c: Floats | None = None,
                rates: Floats | None = None) -> None:  # fmt: skip
        """Go on by `steps` of `step_s` seconds; `outside_c` [steps] and `rates` [steps, E] in place of the scenario's.

        What stands still changes at the first step that begins after it.
        """
        done = 0
        events = self.scenario.happenings()
        while done < steps:
            made.supply_now(self.topology, down(events, self.topology, self.now_s), self.site.supply)
            until = next_change_s(events, self.now_s)
            count = min(steps - done, made.forever((until - self.now_s) / step_s))
            middle: Floats = self.now_s + step_s * (np.arange(count, dtype=np.float64) + 0.5)
            part = slice(done, done + count)
            flow(
                self.flow,
                self.means,
                self.site,
                self.cap_mhz,
                self.demand.rates(middle) if rates is None else rates[part],
                self.demand.levels(middle),
                self.demand.outside_c(middle) if outside_c is None else outside_c[part],
                step_s,
                lasting,
            )
            done += count
            self.now_s += count * step_s


def _flow(scenario: Scenario, fleet: Fleet) -> Flow:
    found, of = made.points(scenario, fleet, {})
    count = len(of)
    size = np.bincount(fleet.instance_endpoint, minlength=max(1, len(fleet.topology.endpoints)))
    return Flow(
        point=of,
        points=made.packed(found),
        endpoint=fleet.instance_endpoint,
        share=1.0 / np.maximum(1, size)[fleet.instance_endpoint],
        server=fleet.instance_server,
        first_gpu=fleet.instance_first_gpu,
        gpus=fleet.instance_gpus,
        present=present(fleet),
        clock_mhz=np.full(count, -1.0),
        prefill_slow=np.ones(count),
        decode_slow=np.ones(count),
        power=np.ones(count),
        batch=np.zeros(count),
        waiting=np.zeros(count),
        rps=np.zeros(count),
        served=np.zeros(count),
        ended=np.zeros(count),
        like=np.arange(count),
        newest=np.zeros((max(1, len(fleet.topology.endpoints)), max(1, len(found))), dtype=np.int64),
        busy=np.zeros(count),
        watt=np.zeros(count),
    )
