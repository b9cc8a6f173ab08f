"""Machines that come, go, move and change: which instances take requests, and from when.

A SaaS machine that leaves, moves or changes first drains: it gets no new request and goes when its last one has ended. What
starts takes requests when it is ready: a new machine after 6 to 8 min (DynamoLLM, Table V), a re-sharded one after its weights
have travelled and the engines agree (Table VI), a reloaded one after some seconds (TAPAS 4.4)."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ActuationError
from twin.fleet import Fleet
from twin.reconfigure import CONVENTIONAL_RESHARD_S, ENGINE_SYNC_S, LAYOUTS, RELOAD_S, reshard_s
from twin.scenario import Scenario
from twin.services import Service
from twin.tenancy import Arrive, Depart, moved_in, moved_out, present, recreate_s, timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Machines:
    """Follows who takes requests. Times are seconds from the run's start."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        """All instances of `fleet` are ready."""
        self.fleet = fleet
        self.ready_s: Floats = np.full(len(fleet.instance_server), -np.inf)
        """[I]"""
        self.draining: dict[int, Service | None] = {}
        """server -> what its endpoint is served by when it has drained; None = the machine leaves"""
        self.server_of = {i: i for i in range(len(fleet.row))}
        """machine number -> server, of those that have one"""
        self.moving: list[tuple[float, int]] = []
        """(when its successor is ready, server) of machines that move"""
        self._rng = np.random.Generator(np.random.PCG64([seed, 11]))

    def takes(self, at_s: float) -> NDArray[np.bool_]:
        """[I] whether an instance takes new requests."""
        held = np.isin(self.fleet.instance_server, list(self.draining))
        takes: NDArray[np.bool_] = (self.ready_s <= at_s) & present(self.fleet) & ~held
        return takes

    def next_s(self, at_s: float) -> float:
        """When next somebody becomes ready; inf = nobody is starting."""
        return float(self.ready_s[self.ready_s > at_s].min(initial=np.inf))

    def free(self) -> Ints:
        """Positions of the servers that nobody has, rising."""
        return np.flatnonzero((self.fleet.endpoint < 0) & (self.fleet.customer < 0))

    def arrive(self, arrival: Arrive, server: int, at_s: float) -> None:
        """Put a machine on a free server; a SaaS one serves when it has started."""
        self.fleet = moved_in(self.fleet, server, arrival)
        self.server_of[arrival.vm] = server
        self._start(at_s + sum(recreate_s(self._rng).values()))

    @property
    def unsettled(self) -> bool:
        """Whether somebody drains or moves."""
        return bool(self.draining or self.moving)

    def depart(self, vm: int) -> None:
        """Let a machine leave: an opaque one at once, a SaaS one when it has drained; nothing where it has no server."""
        if vm not in self.server_of:
            return
        server = self.server_of[vm]
        if self.fleet.endpoint[server] >= 0:
            self.draining[server] = None
        else:
            self._gone(server)

    def migrate(self, server: int, to: int, at_s: float) -> float:
        """Move a SaaS machine: it is made anew on a free server, and drains when that is ready; return when that is.

        ActuationError when there is no SaaS machine, or the other server is taken.
        """
        endpoint = self._served(server)
        name = self.fleet.topology.servers[to].name
        if self.fleet.endpoint[to] >= 0 or self.fleet.customer[to] >= 0:
            raise ActuationError(f"{name}: is taken; choose a free server")
        high = self.fleet.topology.servers[server].priority == "high"
        vm = next((number for number, where in self.server_of.items() if where == server), -1)
        self.arrive(Arrive(at_s, vm, "saas", endpoint, 1.0, high), to, at_s)
        ready_s = float(self.ready_s[-1])
        self.moving.append((ready_s, server))
        return ready_s

    def reconfigure(self, server: int, service: Service) -> None:
        """Serve the endpoint of `server` by another configuration as soon as it has drained.

        ActuationError when it has no instances, or the GPUs do not suffice.
        """
        self._served(server)
        gpus = self.fleet.power_factor.shape[1]
        if gpus % service.tp:
            raise ActuationError(
                f"{self.fleet.topology.servers[server].name}: tp = {service.tp}: {gpus} GPUs cannot be shared so"
            )
        self.draining[server] = service

    def drained(self, busy: Ints, at_s: float) -> None:
        """Let those go that are not among the servers with requests (`busy`)."""
        for ready_s, server in self.moving:
            if ready_s <= at_s:
                self.draining[server] = None
        self.moving = [one for one in self.moving if one[0] > at_s]
        for server in [one for one in self.draining if one not in busy]:
            service = self.draining.pop(server)
            if service is None:
                self._gone(server)
            else:
                self._again(server, service, at_s)

    def _served(self, server: int) -> int:
        endpoint = int(self.fleet.endpoint[server])
        if endpoint < 0:
            raise ActuationError(f"{self.fleet.topology.servers[server].name}: runs no instance of an endpoint")
        return endpoint

    def _gone(self, server: int) -> None:
        self.fleet = moved_out(self.fleet, server)
        for vm, where in list(self.server_of.items()):
            if where == server:
                del self.server_of[vm]

    def _start(self, ready_s: float) -> None:
        """Let the instances that the fleet has got since become ready at `ready_s`."""
        more = len(self.fleet.instance_server) - len(self.ready_s)
        self.ready_s = np.concatenate([self.ready_s, np.full(more, ready_s)])

    def _again(self, server: int, service: Service, at_s: float) -> None:
        fleet = self.fleet
        endpoint, tenant = int(fleet.endpoint[server]), fleet.topology.servers[server]
        before = fleet.services[fleet.endpoint_service[endpoint]]
        now = fleet.services[fleet.instance_service[fleet.instance[server]]]
        vm = next((number for number, where in self.server_of.items() if where == server), -1)
        services = (*fleet.services, service)
        fleet = replace(moved_out(fleet, server), services=services)
        arrival = Arrive(at_s, vm, "saas", endpoint, 1.0, tenant.priority == "high")
        # `moved_in` serves an endpoint by its own service: for this server that is the new one.
        own = fleet.endpoint_service.copy()
        own[endpoint] = len(services) - 1
        fleet = moved_in(replace(fleet, endpoint_service=own), server, arrival)
        own = own.copy()
        own[endpoint] = services.index(before)
        self.fleet = replace(fleet, endpoint_service=own)
        self.server_of[vm] = server
        self._start(at_s + self._change_s(now, service))

    def _change_s(self, old: Service, new: Service) -> float:
        """Seconds from drained to ready."""
        if (old.model, old.quantisation) != (new.model, new.quantisation):
            return float(self._rng.uniform(*RELOAD_S))
        layouts = {2: "4TP2", 4: "2TP4", 8: "TP8"}
        src, dst = layouts.get(old.tp), layouts.get(new.tp)
        if self.fleet.power_factor.shape[1] != 8 or src not in LAYOUTS or dst not in LAYOUTS:
            return float(self._rng.uniform(*CONVENTIONAL_RESHARD_S))
        return reshard_s(src, dst) + float(self._rng.uniform(*ENGINE_SYNC_S))


LOOK_AHEAD_S = 7 * 86_400.0
"""machines that come and go are known so far ahead"""


class Moves:
    """The machines that come and go, in order of time."""

    def __init__(self, scenario: Scenario, fleet: Fleet, seed: int) -> None:
        """`fleet` as it stands at the beginning."""
        self._scenario, self._fleet, self._seed = scenario, fleet, seed
        self._known: deque[Arrive | Depart] = deque()
        self._known_until_s = 0.0

    def due(self, second: int) -> Iterator[Arrive | Depart]:
        """Yield what is due by `second`."""
        while self._known_until_s <= second and self._scenario.churn_per_week > 0.0:
            until_s = self._known_until_s + LOOK_AHEAD_S
            moves = timeline(self._scenario, self._fleet, self._seed, until_s)
            self._known.extend(move for move in moves if move.at_s >= self._known_until_s)
            self._known_until_s = until_s
        while self._known and self._known[0].at_s <= second:
            yield self._known.popleft()

    def next_s(self) -> float:
        """When next there may be something to do; inf = never."""
        if self._scenario.churn_per_week == 0.0:
            return inf
        return self._known[0].at_s if self._known else self._known_until_s
