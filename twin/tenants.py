"""Whose the servers are when a run begins, and the endpoints with their objectives."""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.topology import Endpoint, Topology
from twin import models
from twin.hardware import Profile
from twin.scenario import Scenario
from twin.services import Asked, Service, endpoints, spread
from twin.site import Site

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Tenants(NamedTuple):
    """S servers. A server that is neither SaaS nor a customer's is free."""

    services: tuple[Service, ...]
    endpoints: tuple[Endpoint, ...]
    endpoint_service: Ints
    """[E]"""
    endpoint: Ints
    """[S] -1 = none"""
    customer: Ints
    """[S] IaaS customer, -1 = none"""
    high: Bools
    """[S] priority"""


def tenants(scenario: Scenario, site: Site, placement: tuple[Bools, Ints] | None) -> Tenants:
    """Return who stands where at the start.

    A site file's tenants hold where it has some; else the scenario's shares fill the servers: SaaS and IaaS alternate, or as
    `placement` = (is SaaS [S], customer or endpoint group [S]) says. ConfigError when an endpoint gets no server.
    """
    if site.tenants:
        return _from_file(scenario, site.topology)
    services = scenario.offered()
    asked = endpoints(services)
    for service in services:
        check_gpus(scenario, service, site.profiles[0])
    saas, iaas, group = _shares(scenario, len(site.topology.servers), placement)
    rank = np.cumsum(saas) - 1 if group is None else group
    sequence = spread([e.share for e in asked], int(rank.max(initial=-1)) + 1)
    endpoint = np.full(len(saas), -1, dtype=np.int64)
    endpoint[saas] = sequence[rank[saas]]
    for e, one in enumerate(asked):
        if saas.any() and placement is None and not (endpoint == e).any():
            raise ConfigError(f"scenario {scenario.name}: services: share: none of {saas.sum()} SaaS servers for {one.name}")
    iaas_rank = np.cumsum(iaas) - 1
    customer = np.where(iaas, iaas_rank // scenario.iaas_group if group is None else group, -1)
    high = saas & np.array([e.high for e in asked])[endpoint]
    high[iaas] = evenly(int(iaas.sum()), scenario.iaas_high_share)
    return Tenants(
        services=services,
        endpoints=_objectives(scenario, services, asked, site.profiles[0].gpu) if saas.any() else (),
        endpoint_service=np.array([e.service for e in asked if saas.any()], dtype=np.int64),
        endpoint=endpoint,
        customer=customer.astype(np.int64),
        high=high,
    )


def evenly(count: int, share: float) -> Bools:
    """`share` of `count` positions, evenly spread."""
    steps = np.floor(np.arange(count + 1) * share + 1e-9)
    picked: Bools = np.diff(steps) > 0
    return picked


def _shares(scenario: Scenario, servers: int, placement: tuple[Bools, Ints] | None) -> tuple[Bools, Bools, Ints | None]:
    """Return which servers are SaaS, which IaaS, and their groups where `placement` says them."""
    if placement is not None:
        return placement[0], ~placement[0], placement[1]
    taken = evenly(servers, scenario.occupancy)
    saas = np.zeros(servers, dtype=np.bool_)
    saas[taken] = evenly(int(taken.sum()), scenario.saas_share)
    return saas, taken & ~saas, None


def _from_file(scenario: Scenario, topology: Topology) -> Tenants:
    """The tenants that the site file names; the scenario says how its endpoints are served: by services, or by plain keys."""
    place = {e.name: i for i, e in enumerate(topology.endpoints)}
    customers = {name: i for i, name in enumerate(dict.fromkeys(s.customer for s in topology.servers if s.tenant == "iaas"))}
    if scenario.services:
        services = scenario.services
        of_name = {e.name: e.service for e in endpoints(services)}
        missing = [name for name in place if name not in of_name]
        if missing:
            raise ConfigError(f"scenario {scenario.name}: services: none for the endpoint {missing[0]!r} of {topology.site}")
        endpoint_service = [of_name[name] for name in place]
    else:
        tp, quantisation = scenario.tp, scenario.quantisation
        services = tuple(Service(name=e.name, model=e.model, tp=tp, quantisation=quantisation) for e in topology.endpoints)
        endpoint_service = list(range(len(services)))
    servers = topology.servers
    return Tenants(
        services=services,
        endpoints=topology.endpoints,
        endpoint_service=np.array(endpoint_service, dtype=np.int64),
        endpoint=np.array([place[str(s.endpoint)] if s.tenant == "saas" else -1 for s in servers], dtype=np.int64),
        customer=np.array([customers[s.customer] if s.tenant == "iaas" else -1 for s in servers], dtype=np.int64),
        high=np.array([s.priority == "high" for s in servers]),
    )


def named(site: Site, t: Tenants) -> Topology:
    """Return the site's topology with these tenants in it."""
    if site.tenants:
        return site.topology
    servers = []
    for i, server in enumerate(site.topology.servers):
        if t.endpoint[i] < 0 and t.customer[i] < 0:
            servers.append(server)
            continue
        saas = t.endpoint[i] >= 0
        servers.append(
            msgspec.structs.replace(
                server,
                tenant="saas" if saas else "iaas",
                endpoint=t.endpoints[t.endpoint[i]].name if saas else None,
                customer="provider" if saas else f"customer-{t.customer[i] + 1}",
                priority="high" if t.high[i] else "low",
            )
        )
    return msgspec.structs.replace(site.topology, servers=tuple(servers), endpoints=t.endpoints)


def check_gpus(scenario: Scenario, service: Service, profile: Profile) -> None:
    """Raise ConfigError for a service that asks for more GPUs than such a server has."""
    if service.tp > profile.sheet.gpus:
        where = f"scenario {scenario.name}: service {service.name}"
        raise ConfigError(f"{where}: tp = {service.tp}: a {profile.sheet.name} has {profile.sheet.gpus} GPUs")


def point(scenario: Scenario, service: Service, gpu: str) -> models.Point:
    """Return the operating point of a service on a GPU; ConfigError says which service has none."""
    try:
        return models.load(scenario.calibration).point(service.model, gpu, service.tp, service.quantisation)
    except ConfigError as error:
        raise ConfigError(f"scenario {scenario.name}: service {service.name}: {error}") from None


def _objectives(scenario: Scenario, services: tuple[Service, ...], asked: tuple[Asked, ...], gpu: str) -> tuple[Endpoint, ...]:
    """Objectives are the services' own, or `slo_factor` times an unloaded request on the site's first hardware."""
    seconds = []
    for s in services:
        if s.ttft_slo_s is not None and s.tbt_slo_s is not None:
            seconds.append((s.ttft_slo_s, s.tbt_slo_s))
            continue
        first_s, step_s = (round(scenario.slo_factor * each, 3) for each in _unloaded(scenario, s, gpu))
        seconds.append((s.ttft_slo_s or first_s, s.tbt_slo_s or step_s))
    return tuple(
        Endpoint(
            name=e.name,
            model=services[e.service].model,
            ttft_slo_s=seconds[e.service][0],
            tbt_slo_s=seconds[e.service][1],
            priority="high" if e.high else "low",
        )
        for e in asked
    )


def _unloaded(scenario: Scenario, s: Service, gpu: str) -> tuple[float, float]:
    """Return (first token of a long prompt, decode step of a batch of one) in s: what an empty instance needs."""
    n = scenario.slo_prompt_tokens if s.prompt_tokens is None else s.prompt_tokens[1]
    at = point(scenario, s, gpu)
    chunked = at.chunked if scenario.chunked is None else scenario.chunked
    iterations = -(-n // at.token_budget) if chunked else 1
    return iterations * at.p0 + at.p1 * n + at.p2 * n * n, at.d0 + at.d1 + at.d2 * n
