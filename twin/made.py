"""A fleet as the kernels take it: instances, operating points, plant, tenants, scratch."""

from collections.abc import Mapping
from math import inf

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin import models, plant
from twin.batching.book import Book
from twin.batching.route import router, set_weights
from twin.batching.state import WORK, Instances, Log, Records, grown
from twin.draws import per_server
from twin.events import Down
from twin.fleet import Fleet, units
from twin.parts import STRIDE_S, Serving, Site, Tenants
from twin.plant import Supply
from twin.plant.tree import Feeds, drawn
from twin.points import Point, table
from twin.scenario import Scenario
from twin.services import Service
from twin.tenancy import present
from twin.tenants import point

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
METERS_S = 3600
"""seconds that the row meters remember"""


def points(scenario: Scenario, fleet: Fleet, batch_limits: Mapping[int, int]) -> tuple[tuple[Point, ...], Ints]:
    """Return the operating points in use, and which each instance [I] runs. `batch_limits` by server, where it is less."""
    server = fleet.instance_server
    kind = fleet.server_hardware[server]
    limit = [batch_limits.get(i, scenario.batch_limit) for i in server.tolist()]
    keys = list(zip(fleet.instance_service.tolist(), kind.tolist(), limit, strict=True))
    place = {key: i for i, key in enumerate(sorted(set(keys)))}
    found = tuple(_point(scenario, fleet.services[s], fleet.profiles[k].gpu, most) for s, k, most in place)
    return found, np.array([place[key] for key in keys], dtype=np.int64)


def _point(scenario: Scenario, service: Service, gpu: str, batch_limit: int) -> Point:
    """The operating point with the scenario's scheduler: batch, tokens of an iteration, chunked or not."""
    measured = point(scenario, service, gpu)
    return msgspec.structs.replace(
        measured,
        batch_limit=min(batch_limit, measured.batch_limit),
        token_budget=scenario.prefill_tokens,
        chunked=measured.chunked if scenario.chunked is None else scenario.chunked,
    )


def packed(found: tuple[Point, ...]) -> Records:
    """Return the points as kernels read them; one that nobody runs where there are none."""
    return table(found or models.load("llama2-70b-2023").points[:1])


def slo_s(topology: Topology) -> Floats:
    """[E, 2] objectives of TTFT and TBT."""
    return np.array([[e.ttft_slo_s, e.tbt_slo_s] for e in topology.endpoints], dtype=np.float64).reshape(-1, 2)


def serving(
    scenario: Scenario, fleet: Fleet, instances: Instances, book: Book, log: Log, room: int, batch_limits: Mapping[int, int]
) -> Serving:
    """Return the instances on their servers, all routed alike; `room` = requests that may be routed at once."""
    found, of = points(scenario, fleet, batch_limits)
    instances.inst["point"] = of
    instances.inst["endpoint"] = fleet.instance_endpoint
    count = len(of)
    route = router(fleet.instance_endpoint, len(fleet.topology.endpoints))
    set_weights(route, np.ones(count))
    return Serving(
        s=instances,
        points=packed(found),
        point=of,
        book=book,
        log=log,
        router=route,
        high=np.array([e.priority == "high" for e in fleet.topology.endpoints], dtype=np.bool_),
        server=fleet.instance_server,
        first_gpu=fleet.instance_first_gpu,
        gpus=fleet.instance_gpus,
        present=present(fleet),
        clock_mhz=np.full(count, -1.0),
        power=np.ones(count),
        watt=np.zeros((STRIDE_S, count)),
        spread=np.zeros((STRIDE_S, count)),
        busy=np.zeros(count),
        hot=np.zeros(len(fleet.row), dtype=np.bool_),
        work=np.zeros(STRIDE_S, dtype=WORK),
        pick=np.zeros((4, room), dtype=np.int32),
        start=np.zeros(count + 1, dtype=np.int64),
    )


def refitted(scenario: Scenario, fleet: Fleet, old: Serving, batch_limits: Mapping[int, int], at_s: float) -> Serving:
    """Return the instances of a fleet that has changed; those that stay go on as they stand at `at_s`."""
    found, _ = points(scenario, fleet, batch_limits)
    state = grown(old.s, len(fleet.instance_server), max(p.batch_limit for p in found), at_s)
    new = serving(scenario, fleet, state, old.book, old.log, old.pick.shape[1], batch_limits)
    new.router.at[:] = old.router.at
    return new


def more_weights(weights: Floats, fleet: Fleet) -> Floats:
    """Return weights with those of added instances: the mean of their endpoint."""
    old = len(weights)
    endpoints = len(fleet.topology.endpoints)
    size = np.bincount(fleet.instance_endpoint[:old], minlength=endpoints)
    mean = np.bincount(fleet.instance_endpoint[:old], weights, minlength=endpoints) / np.maximum(1, size)
    return np.concatenate([weights, mean[fleet.instance_endpoint[old:]]])


def tenants(fleet: Fleet) -> Tenants:
    """Return what is on the servers."""
    of = per_server(fleet.profiles, fleet.server_hardware)
    return Tenants(
        endpoint=fleet.endpoint,
        customer=fleet.customer,
        idle_w=of(lambda p: p.power.idle_w),
        loaded_w=of(lambda p: p.power.loaded_w),
        clock_floor=of(lambda p: p.power.clock_floor),
        clock_exponent=of(lambda p: p.power.clock_exponent),
        brake_mhz=of(lambda p: p.sheet.brake_clock_mhz),
        iaas_clock_mhz=np.full(fleet.power_factor.shape, -1.0),
        iaas_power=np.ones(fleet.power_factor.shape),
    )


def site(fleet: Fleet) -> Site:
    """Return the plant of a fleet, cold, with nothing lost."""
    u = units(fleet)
    of_idle = tenants(fleet).idle_w
    rows, aisles = len(fleet.topology.rows), len(fleet.topology.aisles)
    return Site(
        u=u,
        s=plant.state(u, rows, aisles),
        supply=Supply(
            aisle_cfm=np.array([a.airflow_limit_cfm for a in fleet.topology.aisles]),
            recirculation=np.ascontiguousarray(fleet.recirculation),
            cooling_share=np.ones(1),
            chiller_share=np.ones(1),
            capacity_w=np.array([fleet.cooling_capacity_w]),
        ),
        tenants=tenants(fleet),
        nominal_w=np.repeat(of_idle, u.r_die.shape[1]).reshape(u.r_die.shape),
        held=np.ones(1, dtype=np.int64),
        row_w=np.zeros((METERS_S, rows)),
        row_sd_w=np.zeros(rows),
        row_nominal_w=np.zeros((STRIDE_S, rows)),
    )


def supply_now(topology: Topology, down: Down, supply: Supply) -> None:
    """Put into `supply` what stands still: an air handler costs its aisle 10 % (TAPAS Table 2), a device its share of all."""
    at = 0
    for a, aisle in enumerate(topology.aisles):
        lost = int(down.ahus[at : at + len(aisle.ahus)].sum())
        supply.aisle_cfm[a] = aisle.airflow_limit_cfm * topology.ahu_lost_share**lost
        at += len(aisle.ahus)
    for share, units_down in ((supply.cooling_share, down.cooling_devices), (supply.chiller_share, down.chillers)):
        share[0] = 1.0 - float(units_down.mean()) if len(units_down) else 1.0


def feeds(topology: Topology) -> Feeds | None:
    """Return the power tree; None where the topology names no PDUs."""
    if not topology.pdus or not topology.upses or any(len(r.pdus) != 2 for r in topology.rows):
        return None
    place = {p.name: i for i, p in enumerate(topology.pdus)}
    ups = {u.name: i for i, u in enumerate(topology.upses)}
    fed = np.zeros((len(place), len(ups)), dtype=np.bool_)
    for row in topology.rows:
        for name in row.pdus:
            fed[place[name], [ups[u] for u in row.upses]] = True
    return Feeds(np.array([[place[name] for name in r.pdus] for r in topology.rows], dtype=np.int64), fed)


def shares(topology: Topology, down: Down) -> Floats:
    """[P + U, R] share of each row's power that each PDU and each UPS carries now."""
    rows, pdus, upses = len(topology.rows), len(topology.pdus), len(topology.upses)
    out = np.zeros((pdus + upses, rows))
    tree = feeds(topology)
    for r in range(rows):
        if tree is not None:
            one = drawn(tree, np.eye(rows)[r], down.pdus, down.upses)
            out[:, r] = np.concatenate([one.pdu_w, one.ups_w])
        elif upses:
            out[pdus:, r] = np.where(down.upses, 0.0, 1.0 / max(1, int((~down.upses).sum())))
    return out


def limits_now(topology: Topology, down: Down) -> Floats:
    """[R] W that the rows may draw now: less where one of their UPSes is lost (TAPAS 2.1: 4N/3)."""
    lost = {u.name for u, gone in zip(topology.upses, down.upses, strict=True) if gone}
    return np.array([r.power_limit_w * (topology.ups_lost_share if lost & set(r.upses) else 1.0) for r in topology.rows])


def forever(second_s: float) -> int:
    """Return whole seconds until a moment, far away for inf."""
    return 1 << 40 if second_s == inf else int(np.ceil(second_s))
