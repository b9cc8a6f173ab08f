"""What can be done to SaaS machines while a site runs: moving them, and other configurations of their instances."""

import msgspec
import numpy as np

from contracts.errors import ActuationError, ConfigError
from twin.services import Service
from twin.tenants import point
from twin.world import World


def migrate(world: World, server: int, to: int) -> float:
    """Move a SaaS machine to a free server; return when (s from the start) its successor serves. See `Machines.migrate`."""
    with world.lock:
        ready_s = world.machines.migrate(server, to, float(world.second))
        world.refit()
        return ready_s


def reconfigure(world: World, server: int, **knobs: object) -> None:
    """Serve the endpoint of `server` with another tp, model or quantisation once it has drained.

    ActuationError names what cannot be.
    """
    with world.lock:
        fleet = world.fleet
        if fleet.instance[server] < 0:
            raise ActuationError(f"{world.topology.servers[server].name}: runs no instance of an endpoint")
        service = variant(fleet.services[fleet.instance_service[fleet.instance[server]]], **knobs)
        try:
            point(world.scenario, service, fleet.profiles[fleet.server_hardware[server]].gpu)
        except ConfigError as error:
            raise ActuationError(str(error)) from None
        world.machines.reconfigure(server, service)
        world.refit()


def limit_batch(world: World, server: int, requests: int) -> None:
    """Let each instance of `server` run at most so many requests at once; those that run go on. ActuationError out of range."""
    with world.lock:
        mine = np.flatnonzero(world.serving.present & (world.serving.server == server))
        name = world.topology.servers[server].name
        if len(mine) == 0:
            raise ActuationError(f"{name}: runs no instance of an endpoint")
        if not 1 <= requests <= world.scenario.batch_limit:
            raise ActuationError(f"{name}: batch = {requests}: must be 1 to {world.scenario.batch_limit}")
        world.batch_limits[server] = requests
        world.refit()


def variant(service: Service, **knobs: object) -> Service:
    """Return a service with other knobs (tp, model, quantisation); ActuationError for one that a service has not."""
    unknown = knobs.keys() - {"tp", "model", "quantisation"}
    if unknown:
        raise ActuationError(f"{service.name}: {', '.join(sorted(unknown))}: no such knob; there are tp, model, quantisation")
    return msgspec.convert({**msgspec.to_builtins(service), **knobs}, Service)
