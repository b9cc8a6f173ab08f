"""The weeks before a run, as a history would have them: lived through by the fluid engine, ending where the world begins."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.ports import Collected
from contracts.workload import Workload
from twin import made
from twin.events import down
from twin.fluid import Fluid
from twin.intervals import Intervals, lived
from twin.points import BLOCK_TOKENS
from twin.scenario import Scenario
from twin.sensors import inlet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Stamps = NDArray[np.datetime64]

INTERVAL_S, STEP_S = 300, 150
FINE_INTERVAL_S, FINE_STEP_S = 60, 20
FINE_S = 3 * 3600
"""the last hours have finer rows"""
WARM_S = 3600
"""lived through before the first row: a site does not begin cold"""
CHUNK = 1024
"""intervals of a frame"""


def rollups(scenario: Scenario, workload: Workload, until: datetime, days: float = 28.0, *, seed: int) -> Iterator[Collected]:
    """Yield back-filled rows of `server`, `facility` and `endpoints` for the `days` before `until`, oldest first.

    300 s means, 60 s in the last 3 h; ts = END of the interval, naive UTC. Fleet, demand and weather are those of
    World(scenario, workload, seed), so the past runs into its first moment. Nothing is lost or capped in the past. What
    flows do not have stays absent: latency, highest 1 s power, objectives.
    """
    end_s = int((until - scenario.start).total_seconds())
    first = end_s - int(days * 86_400)
    fine = max(first, end_s - FINE_S)
    coarse = (fine - first) // INTERVAL_S
    fluid = Fluid(scenario, workload, seed, at_s=float(fine - coarse * INTERVAL_S - WARM_S))
    lived(fluid, WARM_S // STEP_S, STEP_S, STEP_S)
    for count, interval_s, step_s in (
        (coarse, INTERVAL_S, STEP_S),
        ((end_s - fine) // FINE_INTERVAL_S, FINE_INTERVAL_S, FINE_STEP_S),
    ):
        for at in range(0, count, CHUNK):
            yield from _frames(fluid, workload, min(CHUNK, count - at), interval_s, step_s, seed)


def _frames(
    fluid: Fluid, workload: Workload, count: int, interval_s: int, step_s: int, seed: int
) -> tuple[Collected, Collected, Collected]:
    ends = int(fluid.now_s) + interval_s * (1 + np.arange(count))
    rates = fluid.demand.rates(ends.astype(np.float64) - interval_s / 2)
    means = lived(fluid, count, interval_s, step_s, rates=_counted(rates, workload.burst_cv, interval_s, int(ends[0]), seed))
    start = np.datetime64(fluid.scenario.start.astimezone(UTC).replace(tzinfo=None), "us")
    stamps = start + ends.astype("timedelta64[s]")
    return _servers(fluid, means, stamps), _facility(fluid, means, stamps), _endpoints(fluid, means, stamps)


def _counted(rates: Floats, burst_cv: float, interval_s: int, at: int, seed: int) -> Floats:
    """What is counted in `interval_s` at expected rates: the world's index of dispersion, normal at such numbers."""
    rng = np.random.Generator(np.random.PCG64([seed, 5, at + (1 << 40)]))
    mean = rates * interval_s
    counted = mean + np.sqrt(mean * max(1.0, burst_cv**2)) * rng.standard_normal(mean.shape)
    found: Floats = np.maximum(0.0, np.rint(counted)) / interval_s
    return found


def _servers(fluid: Fluid, means: Intervals, stamps: Stamps) -> Collected:
    servers = fluid.topology.servers
    return Collected(
        topic="server",
        columns={
            "ts": np.repeat(stamps, len(servers)),
            "node": [s.name for s in servers] * len(stamps),
            "inlet_c": inlet(means.inlet_c, fluid.fleet.inlet_bias_share).ravel(),
            "power_w": means.server_w.ravel(),
            "fan_pct": (100.0 * means.duty).ravel(),
            "gpu_power_w": means.gpu_w.ravel(),
            "gpu_max_c": np.rint(means.gpu_max_c).ravel(),
            "backfilled": [True] * (len(stamps) * len(servers)),
        },
    )


def _facility(fluid: Fluid, means: Intervals, stamps: Stamps) -> Collected:
    """Every unit of the facility while all of them work, one block of all moments after the other."""
    topology, moments = fluid.topology, len(stamps)
    shares = made.shares(topology, down((), topology, 0.0))
    carried = np.concatenate([means.row_w, means.row_w @ shares.T], axis=1)
    blocks: list[tuple[str, str, dict[str, Any]]] = []
    ok = {"state": ["ok"] * moments}
    parts = [("row", r.name) for r in topology.rows]
    parts += [("pdu", p.name) for p in topology.pdus] + [("ups", u.name) for u in topology.upses]
    for k, (kind, name) in enumerate(parts):
        state = {"source": ["meter"] * moments} if kind == "row" else ok
        blocks.append((kind, name, {"power_w": carried[:, k].tolist(), **state}))
    blocks.extend(("ahu", name, ok) for aisle in topology.aisles for name in aisle.ahus)
    for a, aisle in enumerate(topology.aisles):
        blocks.append(("aisle", aisle.name, {"airflow_cfm": means.airflow_cfm[:, a].tolist()}))
    blocks.extend(("cooling", name, ok) for name in topology.cooling_devices)
    blocks.extend(("chiller", name, ok) for name in topology.chillers)
    blocks.append(("site", topology.site, {"outside_c": means.outside_c.tolist()}))
    nothing = [None] * moments
    values = ("state", "power_w", "airflow_cfm", "outside_c", "source")
    return Collected(
        topic="facility",
        columns={
            "ts": np.tile(stamps, len(blocks)),
            "kind": [kind for kind, _, _ in blocks for _ in range(moments)],
            "unit": [unit for _, unit, _ in blocks for _ in range(moments)],
            **{name: [value for _, _, block in blocks for value in block.get(name, nothing)] for name in values},
            "backfilled": [True] * (moments * len(blocks)),
        },
    )


def _endpoints(fluid: Fluid, means: Intervals, stamps: Stamps) -> Collected:
    """One row per server: its instances together, which all serve one endpoint."""
    fleet, lengths = fluid.fleet, fluid.means
    at = fleet.instance_server
    servers, first = np.unique(at, return_index=True)
    endpoint = fleet.instance_endpoint[first]

    def by_server(values: Floats) -> Floats:
        summed: Floats = np.add.reduceat(values, first, axis=1) if len(first) else values
        return summed

    rps = by_server(means.rps)
    held = by_server(means.batch * lengths.context[fleet.instance_endpoint])
    room = by_server(BLOCK_TOKENS * fluid.flow.points["kv_blocks"][fluid.flow.point][None].astype(np.float64))
    names = [fluid.topology.endpoints[e].name for e in endpoint]
    return Collected(
        topic="endpoints",
        columns={
            "ts": np.repeat(stamps, len(servers)),
            "endpoint": names * len(stamps),
            "node": [fluid.topology.servers[i].name for i in servers] * len(stamps),
            "running": by_server(means.batch).ravel(),
            "kv_cache_pct": np.minimum(100.0, 100.0 * held / room).ravel(),
            "requests_rps": rps.ravel(),
            "prompt_tok_s": (rps * _whole_prompt(fluid)[endpoint]).ravel(),
            "output_tok_s": (rps * lengths.output[endpoint]).ravel(),
            "backfilled": [True] * rps.size,
        },
    )


def _whole_prompt(fluid: Fluid) -> Floats:
    """[E] mean prompt tokens, cached ones included."""
    lengths = fluid.demand.lengths
    return np.array(
        [lengths.prompt[a : a + n].mean() for a, n in zip(lengths.first.tolist(), lengths.size.tolist(), strict=True)]
    )
