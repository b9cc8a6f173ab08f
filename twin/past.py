"""The weeks before a run, as a history would have them: from the settled physics, ending where the world begins."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Collected
from contracts.workload import Workload
from twin import calibration as c
from twin import fleet as fleets
from twin import steady
from twin.demand import Demand
from twin.fleet import Fleet
from twin.scenario import Scenario
from twin.sensors import degrees

Floats = NDArray[np.float64]
Stamps = NDArray[np.datetime64]

STEP_S, FINE_STEP_S = 300, 60
FINE_S = 3 * 3600
"""the last hours have finer rows"""
CHUNK_STEPS = 1024


def rollups(scenario: Scenario, workload: Workload, until: datetime, days: float = 28.0, *, seed: int) -> Iterator[Collected]:
    """Yield back-filled rows of `server`, `facility` and `endpoints` for the `days` before `until`, oldest first.

    300 s means, 60 s in the last 3 h; ts = END of the interval, naive UTC. Fleet, demand and weather are those of
    World(scenario, workload, seed), so the past runs into its first moment. Nothing is lost or capped in the past. What a
    settled state does not have stays absent: latency, highest 1 s power, objectives.
    """
    fleet = fleets.build(scenario, seed)
    demand = Demand(scenario, workload, fleet, seed)
    end_s = int((until - scenario.start).total_seconds())
    fine_from = end_s - min(FINE_S, int(days * 86_400))
    for first, last, step in ((end_s - int(days * 86_400), fine_from, STEP_S), (fine_from, end_s, FINE_STEP_S)):
        ends = np.arange(last, first, -step, dtype=np.int64)[::-1]
        for at in range(0, len(ends), CHUNK_STEPS):
            yield from _chunk(scenario, workload, fleet, demand, ends[at : at + CHUNK_STEPS], step, seed)


def _chunk(
    scenario: Scenario, workload: Workload, fleet: Fleet, demand: Demand, ends: NDArray[np.int64], step: int, seed: int
) -> Iterator[Collected]:
    middle = ends.astype(np.float64) - step / 2
    rps = _counted(steady.expected_rps(scenario, fleet, demand, middle), workload.burst_cv, step, int(ends[0]), seed)
    settled = steady.settle(scenario, workload, fleet, demand, middle, supplied_cfm=scenario.aisle_limit_cfm, rps=rps)
    start = np.datetime64(scenario.start.astimezone(UTC).replace(tzinfo=None), "us")
    stamps = start + ends.astype("timedelta64[s]")
    yield _servers(fleet, settled, stamps)
    yield _facility(fleet, settled, stamps, demand.outside_c(middle))
    yield _endpoints(fleet, settled, stamps, steady.tokens(workload))


def _counted(rps: Floats, burst_cv: float, step: int, at: int, seed: int) -> Floats:
    """What is counted in `step` seconds at an expected rate: the world's index of dispersion, normal at such numbers."""
    rng = np.random.Generator(np.random.PCG64([seed, 5, at + (1 << 40)]))
    mean = rps * step
    counted = mean + np.sqrt(mean * max(1.0, burst_cv**2)) * rng.standard_normal(mean.shape)
    rates: Floats = np.maximum(0.0, np.rint(counted)) / step
    return rates


def _servers(fleet: Fleet, settled: steady.Settled, stamps: Stamps) -> Collected:
    servers = fleet.topology.servers
    count = len(stamps) * len(servers)
    return Collected(
        topic="server",
        columns={
            "ts": np.repeat(stamps, len(servers)),
            "node": [s.name for s in servers] * len(stamps),
            "inlet_c": degrees(settled.inlet_c, fleet.inlet_bias_c).ravel(),
            "power_w": settled.server_w.ravel(),
            "fan_pct": (100.0 * settled.duty).ravel(),
            "gpu_power_w": settled.gpu_w.ravel(),
            "gpu_max_c": np.rint(settled.gpu_max_c).ravel(),
            "backfilled": [True] * count,
        },
    )


def _facility(fleet: Fleet, settled: steady.Settled, stamps: Stamps, outside_c: Floats) -> Collected:
    """Rows, aisles, UPSes, AHUs and the site, one block of all moments after the other."""
    topology = fleet.topology
    moments = len(stamps)
    nothing = [None] * moments
    ups_w = (settled.row_w.sum(axis=1) / max(1, len(topology.upses))).tolist()
    blocks: list[tuple[str, str, str | None, list[float] | list[None], list[float] | list[None], list[float] | list[None]]] = []
    for r, row in enumerate(topology.rows):
        blocks.append(("row", row.name, None, settled.row_w[:, r].tolist(), nothing, nothing))
    for a, aisle in enumerate(topology.aisles):
        blocks.append(("aisle", aisle.name, None, nothing, settled.airflow_cfm[:, a].tolist(), nothing))
        blocks.extend(("ahu", name, "ok", nothing, nothing, nothing) for name in aisle.ahus)
    blocks.extend(("ups", ups.name, "ok", ups_w, nothing, nothing) for ups in topology.upses)
    blocks.append(("site", topology.site, None, nothing, nothing, outside_c.tolist()))
    return Collected(
        topic="facility",
        columns={
            "ts": np.tile(stamps, len(blocks)),
            "kind": [b[0] for b in blocks for _ in range(moments)],
            "unit": [b[1] for b in blocks for _ in range(moments)],
            "state": [b[2] for b in blocks for _ in range(moments)],
            "power_w": [value for b in blocks for value in b[3]],
            "airflow_cfm": [value for b in blocks for value in b[4]],
            "outside_c": [value for b in blocks for value in b[5]],
            "source": ["meter" if b[0] == "row" else None for b in blocks for _ in range(moments)],
            "backfilled": [True] * (moments * len(blocks)),
        },
    )


def _endpoints(fleet: Fleet, settled: steady.Settled, stamps: Stamps, tokens: steady.Tokens) -> Collected:
    names = [fleet.topology.servers[i].name for i in fleet.instance_server]
    endpoints = [fleet.topology.endpoints[e].name for e in fleet.instance_endpoint]
    rps = settled.rps
    held_tokens = settled.batch * (tokens.prompt + tokens.output / 2)
    return Collected(
        topic="endpoints",
        columns={
            "ts": np.repeat(stamps, len(names)),
            "endpoint": endpoints * len(stamps),
            "node": names * len(stamps),
            "running": settled.batch.ravel(),
            "kv_cache_pct": np.minimum(100.0, held_tokens * (100.0 / c.KV_TOKENS)).ravel(),
            "requests_rps": rps.ravel(),
            "prompt_tok_s": (rps * tokens.prompt).ravel(),
            "output_tok_s": (rps * tokens.output).ravel(),
            "backfilled": [True] * rps.size,
        },
    )
