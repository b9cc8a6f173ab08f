"""Virtual machines that come and go: who arrives when and stays how long, as a function of the scenario and the seed alone.

What arrives never depends on where things were placed or on what control does, so that runs can be compared pair by pair. A
machine takes a whole server (TAPAS A1). The list is the same however far one looks ahead.

Lifetimes: a share is short-lived, the others stay for months, so that about as many come as leave. At 7 % a week more than 60 %
live longer than two weeks, and three servers in four keep their machine for a month (TAPAS A2)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin.fleet import Fleet
from twin.reconfigure import NEW_INSTANCE_S
from twin.scenario import Scenario
from twin.tenants import evenly

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
SHORT_SHARE = 0.3  # [A] of the arrivals; with the months of the others it gives TAPAS's figure
SHORT_S = 3 * DAY_S  # [A] their mean lifetime
PART_SPREAD = 0.08  # [A] of a part of a start whose time is published as one figure; the whole stays within 6 to 8 min


class Arrive(NamedTuple):
    """A virtual machine asks for a server."""

    at_s: float
    vm: int
    """number, counted on from the fleet's first machines (a server's position is its first machine's number)"""
    kind: Literal["saas", "iaas"]
    owner: int
    """endpoint of a SaaS machine, customer of an IaaS one; a customer may be new"""
    peak_level: float
    """level around which an IaaS machine keeps its GPUs; 1 for SaaS, whose load is what is routed to it"""
    high: bool
    """priority"""


class Depart(NamedTuple):
    """A virtual machine leaves; nothing happens where it found no server."""

    at_s: float
    vm: int


Placement = Callable[[Arrive, Ints], int]
"""Choose one of the free servers (positions, rising) for an arrival; -1 turns it away."""


def first_fit(arrival: Arrive, free: Ints) -> int:  # noqa: ARG001 - the simplest placement looks at nothing
    """The first free server; -1 when there is none."""
    return int(free[0]) if len(free) else -1


def mean_lifetime_s(scenario: Scenario) -> float:
    """Mean lifetime of an arrival: as many leave in a week as churn_per_week says."""
    return WEEK_S / scenario.churn_per_week


def long_lifetime_s(scenario: Scenario) -> float:
    """Mean lifetime of those that stay."""
    return (mean_lifetime_s(scenario) - SHORT_SHARE * SHORT_S) / (1.0 - SHORT_SHARE)


def lifetimes(scenario: Scenario, count: int, rng: np.random.Generator) -> Floats:
    """Lifetimes (s) of `count` arrivals: exponential, of two kinds."""
    short = rng.random(count) < SHORT_SHARE
    drawn: Floats = rng.exponential(np.where(short, SHORT_S, long_lifetime_s(scenario)))
    return drawn


def remaining(scenario: Scenario, count: int, rng: np.random.Generator) -> Floats:
    """Seconds that machines found at a random moment still live: a long life is found more often than a short one."""
    short_s, long_s = SHORT_SHARE * SHORT_S, (1.0 - SHORT_SHARE) * long_lifetime_s(scenario)
    short = rng.random(count) < short_s / (short_s + long_s)
    drawn: Floats = rng.exponential(np.where(short, SHORT_S, long_lifetime_s(scenario)))
    return drawn


def customer_levels(scenario: Scenario, count: int) -> Floats:
    """Levels around which the first `count` customers keep their GPUs: `iaas_hot_share` of them hot, evenly spread."""
    hot = evenly(count, scenario.iaas_hot_share)
    levels: Floats = np.where(hot, scenario.iaas_hot_level, scenario.iaas_cold_level)
    return levels


def timeline(scenario: Scenario, fleet: Fleet, seed: int, until_s: float) -> tuple[Arrive | Depart, ...]:
    """Return arrivals and departures in [0, until_s), by time; none without churn."""
    if scenario.churn_per_week == 0.0:
        return ()
    taken = np.flatnonzero((fleet.endpoint >= 0) | (fleet.customer >= 0))
    rng = np.random.Generator(np.random.PCG64([seed, 8]))
    leaves_s = remaining(scenario, len(taken), rng)
    moves: list[Arrive | Depart] = [Depart(float(t), int(vm)) for t, vm in zip(leaves_s, taken, strict=True)]
    for arrival, lives_s in _arrivals(scenario, fleet, seed, until_s, len(taken)):
        moves += [arrival, Depart(arrival.at_s + lives_s, arrival.vm)]
    return tuple(sorted((move for move in moves if move.at_s < until_s), key=lambda move: (move.at_s, move.vm)))


def _arrivals(scenario: Scenario, fleet: Fleet, seed: int, until_s: float, taken: int) -> Iterator[tuple[Arrive, float]]:
    """Yield arrivals with their lifetimes: a Poisson process, each day with a generator of its own."""
    owners = _Owners(scenario, fleet)
    vm = len(fleet.row)
    for day in range(int(np.ceil(until_s / DAY_S))):
        rng = np.random.Generator(np.random.PCG64([seed, 9, day]))
        count = rng.poisson(taken * DAY_S / mean_lifetime_s(scenario))
        at_s = (day + np.sort(rng.random(count))) * DAY_S
        lives_s = lifetimes(scenario, count, rng)
        for i, draw in enumerate(rng.random((count, 4)).tolist()):
            yield owners.arrival(float(at_s[i]), vm, draw), float(lives_s[i])
            vm += 1


class _Owners:
    """Whose the next machine is. Endpoints in proportion to their machines; customers grow in number."""

    def __init__(self, scenario: Scenario, fleet: Fleet) -> None:
        self._scenario = scenario
        self._endpoints = fleet.topology.endpoints
        saas = fleet.endpoint[fleet.endpoint >= 0]
        self._up_to = np.cumsum(np.bincount(saas, minlength=len(self._endpoints))) / max(1, len(saas))
        self._levels = customer_levels(scenario, int(fleet.customer.max(initial=-1)) + 1).tolist()

    def arrival(self, at_s: float, vm: int, draw: list[float]) -> Arrive:
        """Return an arrival from four numbers in [0, 1).

        An IaaS machine is a new customer's once in `iaas_group` times, else that of one of those seen so far.
        """
        s = self._scenario
        if self._endpoints and draw[0] < s.saas_share:
            endpoint = int(np.searchsorted(self._up_to, draw[1], side="right"))
            return Arrive(at_s, vm, "saas", endpoint, 1.0, self._endpoints[endpoint].priority == "high")
        if not self._levels or draw[1] < 1.0 / s.iaas_group:
            self._levels.append(s.iaas_hot_level if draw[2] < s.iaas_hot_share else s.iaas_cold_level)
            customer = len(self._levels) - 1
        else:
            customer = int(draw[2] * len(self._levels))
        return Arrive(at_s, vm, "iaas", customer, self._levels[customer], draw[3] < s.iaas_high_share)


def recreate_s(rng: np.random.Generator) -> dict[str, float]:
    """Seconds of each part of starting a SaaS machine's instance anew elsewhere (DynamoLLM, Table V: 6 to 8 min in all).

    A migration is this, and draining the old one meanwhile: no machine with GPUs moves while it runs (TAPAS A4).
    """
    return {
        part: float(rng.uniform(low, high) if high > low else low * rng.uniform(1.0 - PART_SPREAD, 1.0 + PART_SPREAD))
        for part, (low, high) in NEW_INSTANCE_S.items()
    }


def moved_in(fleet: Fleet, server: int, arrival: Arrive) -> Fleet:
    """Return the fleet with `arrival` on a free server. Instances of a SaaS machine are appended, so that others keep theirs.

    ValueError when the server is taken.
    """
    if fleet.endpoint[server] >= 0 or fleet.customer[server] >= 0:
        raise ValueError(f"server {fleet.topology.servers[server].name} is taken")
    saas = arrival.kind == "saas"
    tenant = {
        "tenant": arrival.kind,
        "endpoint": fleet.topology.endpoints[arrival.owner].name if saas else None,
        "customer": "provider" if saas else f"customer-{arrival.owner + 1}",
        "priority": "high" if arrival.high else "low",
    }
    topology = _with_server(fleet, server, tenant)
    if not saas:
        return replace(fleet, topology=topology, customer=_put(fleet.customer, server, arrival.owner))
    service = int(fleet.endpoint_service[arrival.owner])
    tp = fleet.services[service].tp
    count = fleet.power_factor.shape[1] // tp
    return replace(
        fleet,
        topology=topology,
        endpoint=_put(fleet.endpoint, server, arrival.owner),
        instance=_put(fleet.instance, server, len(fleet.instance_server)),
        instance_server=_more(fleet.instance_server, np.full(count, server)),
        instance_endpoint=_more(fleet.instance_endpoint, np.full(count, arrival.owner)),
        instance_service=_more(fleet.instance_service, np.full(count, service)),
        instance_first_gpu=_more(fleet.instance_first_gpu, np.arange(count) * tp),
        instance_gpus=_more(fleet.instance_gpus, np.full(count, tp)),
    )


def moved_out(fleet: Fleet, server: int) -> Fleet:
    """Return the fleet with the server free. Its instances keep their places in the arrays; see `present`."""
    free = {"tenant": "free", "endpoint": None, "customer": None, "priority": "low"}
    return replace(
        fleet,
        topology=_with_server(fleet, server, free),
        endpoint=_put(fleet.endpoint, server, -1),
        customer=_put(fleet.customer, server, -1),
        instance=_put(fleet.instance, server, -1),
    )


def present(fleet: Fleet) -> Bools:
    """[I] whether an instance's machine is still there."""
    first = fleet.instance[fleet.instance_server]
    number = np.arange(len(first))
    here: Bools = (first >= 0) & (number >= first) & (number < first + fleet.power_factor.shape[1] // fleet.instance_gpus)
    return here


def _with_server(fleet: Fleet, server: int, tenant: dict[str, str | None]) -> Topology:
    servers = list(fleet.topology.servers)
    servers[server] = msgspec.structs.replace(servers[server], **tenant)
    return msgspec.structs.replace(fleet.topology, servers=tuple(servers))


def _put(array: Ints, at: int, value: int) -> Ints:
    changed = array.copy()
    changed[at] = value
    return changed


def _more(array: Ints, values: Ints) -> Ints:
    return np.concatenate([array, values.astype(np.int64)])
