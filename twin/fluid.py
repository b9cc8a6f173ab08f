"""The fluid engine: the same plant and the same load, but instances as flows; for the past, for limits, for what-ifs.

An instance at rate r (requests/s, mean prompt p, mean output o) spends rho = r prefill(p) of its time on prompts. Its batch
grows with r and shrinks as requests end: b' = r - b / T, T = (o - 1) step(b) / (1 - rho), solved exactly over a step with the
T of its beginning. As many decode as a Poisson number of mean b, so that it is busy 1 - exp(-b) of the rest."""

from datetime import datetime
from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin import fleet as fleets
from twin import made
from twin.batching.state import Records
from twin.compiled import bare, seldom
from twin.demand import Demand
from twin.events import down, next_change_s
from twin.fleet import Fleet
from twin.nominal import iaas_power
from twin.parts import Site
from twin.plant.protect import clocks
from twin.plant.step import step
from twin.points import DECODE, PREFILL, relative_power, relative_time
from twin.scenario import Scenario
from twin.tenancy import present

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Means(NamedTuple):
    """[E] of an endpoint's requests."""

    prompt: Floats
    """tokens to compute, cached ones left out"""
    prompt_square: Floats
    output: Floats
    context: Floats
    """tokens that a decoding request holds, on average over its time"""


class Flow(NamedTuple):
    """I instances. Times in s."""

    point: Ints
    points: Records
    endpoint: Ints
    share: Floats
    """[I] of its endpoint's requests"""
    server: Ints
    first_gpu: Ints
    gpus: Ints
    present: Bools
    clock_mhz: Floats
    prefill_slow: Floats
    decode_slow: Floats
    power: Floats
    batch: Floats
    """requests that decode"""
    waiting: Floats
    rps: Floats
    """requests/s that came in the last step"""
    served: Floats
    """requests that ended, counts up"""


@bare
def _clock(f: Flow, p: Site, i: int) -> None:
    mhz = np.inf
    for g in range(f.first_gpu[i], f.first_gpu[i] + f.gpus[i]):
        mhz = min(mhz, p.s.clock_mhz[f.server[i], g])
    if mhz != f.clock_mhz[i]:
        f.clock_mhz[i] = mhz
        point = f.points[f.point[i]]
        f.prefill_slow[i] = relative_time(point, mhz, PREFILL) if mhz > 0.0 else np.inf
        f.decode_slow[i] = relative_time(point, mhz, DECODE) if mhz > 0.0 else np.inf
        f.power[i] = relative_power(point, mhz) if mhz > 0.0 else 0.0


@bare
def _instance(f: Flow, m: Means, p: Site, i: int, rate: float, dt_s: float) -> None:
    """Move one instance on and set the nominal power of its GPUs."""
    point, e = f.points[f.point[i]], f.endpoint[i]
    f.rps[i] = rate
    rho, decode_share, load = 0.0, 0.0, 0.0
    if f.clock_mhz[i] > 0.0:
        alone_s = 0.0 if point.chunked else point.p0
        prefill_s = f.prefill_slow[i] * (alone_s + point.p1 * m.prompt[e] + point.p2 * m.prompt_square[e])
        step_s = f.decode_slow[i] * (point.d0 + (point.d1 + point.d2 * m.context[e]) * max(1.0, f.batch[i]))
        alone_stay_s = step_s * max(1.0, m.output[e] - 1.0)
        # No more are let in than leave, where the batch is full; who is let in makes the others stay longer.
        room = max(0.0, point.batch_limit - f.batch[i]) / dt_s
        most = (room + f.batch[i] / alone_stay_s) / (1.0 + f.batch[i] * prefill_s / alone_stay_s)
        taken = min(rate + f.waiting[i] / dt_s, min(0.98 / prefill_s, most))
        rho = taken * prefill_s
        stay_s = alone_stay_s / (1.0 - rho)
        settled = taken * stay_s
        batch = settled + (f.batch[i] - settled) * exp(-dt_s / stay_s)
        f.served[i] += f.batch[i] + taken * dt_s - batch
        f.waiting[i] = max(0.0, f.waiting[i] + (rate - taken) * dt_s)
        f.batch[i] = batch
        busy = 1.0 - exp(-batch)
        decode_share = (1.0 - rho) * busy
        together = batch / busy if busy > 0.0 else 1.0
        load = together / (together + point.decode_half_batch)
    watt = f.power[i] * (point.prefill_w * rho + (point.decode_base_w + point.decode_span_w * load) * decode_share)
    watt += point.loaded_w * (1.0 - rho - decode_share)
    row = f.server[i]
    p.s.util[row] += (rho + decode_share) * f.gpus[i] / p.nominal_w.shape[1]
    for g in range(f.first_gpu[i], f.first_gpu[i] + f.gpus[i]):
        p.nominal_w[row, g] = 0.0 if p.s.down[row, g] else watt


@seldom
def flow(f: Flow, m: Means, p: Site, cap_mhz: Floats, rates: Floats, level: Floats, outside_c: Floats, dt_s: float,
         lasting: bool) -> None:  # fmt: skip
    """Live through T steps of `dt_s` with rates [T, E], levels [T, S] of opaque tenants and outside temperature [T].

    `lasting` = a GPU that is shut down stays so; else it counts as slowed down, for steps that are longer than its heating.
    """
    servers, gpus = p.nominal_w.shape
    t = p.tenants
    for n in range(len(outside_c)):
        clocks(p.u, p.s, cap_mhz)
        for i in range(servers):
            level_i = level[n, i] if t.customer[i] >= 0 else 0.0
            p.s.util[i] = level_i
            idle_w = t.loaded_w[i] if t.customer[i] >= 0 else t.idle_w[i]
            for g in range(gpus):
                watt = idle_w
                if level_i > 0.0:
                    watt += (p.u.tdp_w[i] * iaas_power(p, i, g) - idle_w) * level_i
                p.nominal_w[i, g] = 0.0 if p.s.down[i, g] else watt
        for i in range(len(f.server)):
            if f.present[i]:
                _clock(f, p, i)
                _instance(f, m, p, i, rates[n, f.endpoint[i]] * f.share[i], dt_s)
        step(p.u, p.s, p.nominal_w, outside_c[n], p.supply, dt_s)
        if not lasting:
            for i in range(servers):
                for g in range(gpus):
                    p.s.down[i, g] = False


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
    )
