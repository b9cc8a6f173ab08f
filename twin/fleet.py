"""The site of a scenario: its public topology, and the hidden differences between its units."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin import plant, sitecheck
from twin.draws import draw, per_server
from twin.hardware import Profile
from twin.scenario import Scenario
from twin.services import Service
from twin.site import site as make_site
from twin.tenants import Tenants, check_gpus, named, point, tenants

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What the twin knows of its units and nobody else does. S servers, G GPUs each, I instances, E endpoints, A aisles.

    Offsets and biases are in kelvin; "relative" is to the mean of the server's profile."""

    topology: Topology
    profiles: tuple[Profile, ...]
    """in the order of topology.hardware"""
    services: tuple[Service, ...]
    endpoint_service: Ints
    """[E]"""
    row: Ints
    """[S]"""
    aisle: Ints
    """[S]"""
    server_hardware: Ints
    """[S]"""
    endpoint: Ints
    """[S] -1 = none"""
    instance: Ints
    """[S] the first of the server's instances, -1 = none; the others follow it"""
    customer: Ints
    """[S] IaaS customer, -1 = none"""
    instance_server: Ints
    """[I]"""
    instance_endpoint: Ints
    """[I]"""
    instance_service: Ints
    """[I]"""
    instance_first_gpu: Ints
    """[I] on its server"""
    instance_gpus: Ints
    """[I] tensor parallelism"""
    resistance: Floats
    """[S, G] thermal resistance, relative"""
    power_factor: Floats
    """[S, G] board power, relative"""
    inlet_offset_c: Floats
    """[S] row, rack and server together"""
    temp_bias_c: Floats
    """[S, G] sensor bias"""
    inlet_bias_share: Floats
    """[S] bias of the inlet sensor relative to its reading"""
    memory_offset_c: Floats
    """[S, G]"""
    leakage: Floats
    """[S] relative"""
    overhead: Floats
    """[S] relative"""
    airflow: Floats
    """[S] at full duty, relative"""
    recirculation: Floats
    """[A, A] K of inlet rise in the first aisle per unit of air drawn beyond the supply in the second"""
    cooling_capacity_w: float
    """heat that all cooling devices together carry away"""


def build(scenario: Scenario, seed: int, *, placement: tuple[NDArray[np.bool_], Ints] | None = None) -> Fleet:
    """Return the fleet of `scenario`; the same seed gives the same units.

    `placement` = (is SaaS [S], customer or endpoint group [S]); absent: SaaS and IaaS alternate, customers spread.
    ConfigError names the key of a site, service or event that cannot be.
    """
    site = make_site(scenario)
    who = tenants(scenario, site, placement)
    topology = named(site, who)
    sitecheck.check_events(scenario.happenings(), topology, f"scenario {scenario.name}")
    rows, aisles = _places(r.name for r in topology.rows), _places(a.name for a in topology.aisles)
    kinds = _places(h.name for h in topology.hardware)
    row = np.array([rows[s.row] for s in topology.servers], dtype=np.int64)
    kind = np.array([kinds[s.hardware] for s in topology.servers], dtype=np.int64)
    _check_points(scenario, who, site.profiles, kind)
    return Fleet(
        topology=topology,
        profiles=site.profiles,
        services=who.services,
        endpoint_service=who.endpoint_service,
        row=row,
        aisle=np.array([aisles[r.aisle] for r in topology.rows], dtype=np.int64)[row],
        server_hardware=kind,
        endpoint=who.endpoint,
        customer=who.customer,
        **_instances(who, site.profiles[kind[0]].sheet.gpus)._asdict(),
        **draw(topology, site.profiles, row, kind, seed)._asdict(),
        recirculation=site.recirculation,
        cooling_capacity_w=_cooling(scenario, topology),
    )


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _cooling(scenario: Scenario, topology: Topology) -> float:
    """Return the scenario's capacity, or what all rows may draw and one device more (N + 1 [A])."""
    if scenario.cooling_capacity_w < inf:
        return scenario.cooling_capacity_w
    devices = len(topology.cooling_devices)
    return sum(r.power_limit_w for r in topology.rows) * devices / max(1, devices - 1) if devices else inf


class Instances(NamedTuple):
    """The fields of a fleet that tell of its instances."""

    instance: Ints
    instance_server: Ints
    instance_endpoint: Ints
    instance_service: Ints
    instance_first_gpu: Ints
    instance_gpus: Ints


def _instances(who: Tenants, gpus: int) -> Instances:
    """Each SaaS server carries gpus // tp instances of its service."""
    tp = np.array([s.tp for s in who.services] or [1], dtype=np.int64)
    saas = np.flatnonzero(who.endpoint >= 0)
    each_tp = tp[who.endpoint_service[who.endpoint[saas]]] if len(saas) else np.zeros(0, dtype=np.int64)
    count = gpus // each_tp
    first = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    instance = np.full(len(who.endpoint), -1, dtype=np.int64)
    instance[saas] = first[:-1]
    server = np.repeat(saas, count)
    endpoint = who.endpoint[server]
    own_tp = np.repeat(each_tp, count)
    return Instances(
        instance=instance,
        instance_server=server,
        instance_endpoint=endpoint,
        instance_service=who.endpoint_service[endpoint] if len(server) else endpoint,
        instance_first_gpu=(np.arange(first[-1]) - instance[server]) * own_tp,
        instance_gpus=own_tp,
    )


def _check_points(scenario: Scenario, who: Tenants, profiles: tuple[Profile, ...], kind: Ints) -> None:
    """Raise ConfigError for a service that its servers cannot run: too many GPUs, or no calibration."""
    saas = np.flatnonzero(who.endpoint >= 0)
    service = who.endpoint_service[who.endpoint[saas]].tolist() if len(saas) else []
    for k, position in sorted(set(zip(kind[saas].tolist(), service, strict=True))):
        s, profile = who.services[position], profiles[k]
        check_gpus(scenario, s, profile)
        point(scenario, s, profile.gpu)


def units(fleet: Fleet) -> plant.Units:
    """Return what the plant's kernels need of a fleet."""
    of = per_server(fleet.profiles, fleet.server_hardware)
    position = np.array([[k / (p.sheet.gpus * p.heat.position_at_w) for k in p.heat.position_c] for p in fleet.profiles])
    return plant.Units(
        row=fleet.row,
        aisle=fleet.aisle,
        tdp_w=of(lambda p: p.sheet.gpu_tdp_w),
        max_mhz=of(lambda p: p.sheet.max_clock_mhz),
        slowdown_mhz=of(lambda p: p.heat.slowdown_mhz),
        overhead_w=of(lambda p: p.power.overhead_w) * fleet.overhead,
        fans_w=of(lambda p: p.power.fans_w),
        psu_share=of(lambda p: p.power.psu_share),
        cfm_full=of(lambda p: p.fans.cfm_full) * fleet.airflow,
        idle_duty=of(lambda p: p.fans.idle_duty),
        fan_hot_c=of(lambda p: p.fans.hot_c),
        fan_hot_duty=of(lambda p: p.fans.hot_duty),
        fan_per_k=of(lambda p: p.fans.per_k),
        slowdown_c=of(lambda p: p.sheet.slowdown_c),
        slowdown_hysteresis_c=of(lambda p: p.heat.slowdown_hysteresis_c),
        shutdown_c=of(lambda p: p.sheet.shutdown_c),
        inlet_offset_c=fleet.inlet_offset_c,
        air_offset_c=of(lambda p: p.heat.air_offset_c),
        air_slope=of(lambda p: p.heat.air_slope),
        die_j_per_k=of(lambda p: p.heat.die_j_per_k),
        sink_j_per_k=of(lambda p: p.heat.sink_j_per_k),
        leakage_per_k=of(lambda p: p.power.leakage_per_k) * fleet.leakage,
        leakage_at_c=of(lambda p: p.power.leakage_at_c),
        r_die=of(lambda p: p.heat.die_k_per_w)[:, None] * fleet.resistance,
        r_sink=of(lambda p: p.heat.sink_k_per_w)[:, None] * fleet.resistance,
        position_k_per_w=position[fleet.server_hardware],
        power_factor=fleet.power_factor,
    )
