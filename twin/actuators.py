"""The twin's actuators: clock caps and routing weights, verified by reading back.

SaaS servers are the provider's own: their clocks are set in band, within 50 to 80 ms (DynamoLLM), below the world's step. An
opaque tenant's are set by the management controller, which takes up to 40 s of run time (POLCA); the brake takes 5 s."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.control import Action, ClockCap, Outcome, Status, Weights
from contracts.errors import ActuationError
from contracts.ports import Actuator, Clock
from contracts.topology import Hardware
from twin.caps import NONE_MHZ
from twin.world import World

Ints = NDArray[np.int64]

HEAT_POLICIES = ("thermal", "emergency")
"""whose caps count as held down for temperature (an emergency's while cooling is lost), all others' for power"""
OUT_OF_BAND_S = (10.0, 40.0)  # [P] at most 40 s (POLCA); the lower end [A]
BRAKE_S = 5.0  # [P] POLCA: the power brake


def actuators(world: World, clock: Clock) -> list[Actuator]:
    """Return the actuators of a world: clock_cap and weights."""
    return [TwinClocks(world, clock), TwinWeights(world, clock)]


class _Twin:
    """What both share."""

    def __init__(self, world: World, clock: Clock) -> None:
        """`clock` gives the times of outcomes."""
        self._world, self._clock = world, clock

    def _outcome(self, action: Action, status: Status, before: str, after: str, reason: str = "") -> Outcome:
        return Outcome(
            action_id=action.action_id,
            at=self._clock.now(),
            node=action.node,
            target=action.target,
            status=status,
            before=before,
            after=after,
            reason=reason,
            latency_s=max(0.0, (self._clock.wall() - action.created_wall).total_seconds()),
            epoch=action.epoch,
        )


class TwinClocks(_Twin):
    """Locks SM clocks of a server's GPUs."""

    kind = "clock_cap"

    def __init__(self, world: World, clock: Clock) -> None:
        """Every server of the world can be named."""
        super().__init__(world, clock)
        self._position = {server.name: i for i, server in enumerate(world.topology.servers)}

    def read(self, action: Action) -> str:
        """Caps in force and wanted, and the highest SM clock of the named GPUs."""
        with self._world.lock:
            server, gpus = self._named(action)
            return self._text(server, gpus)

    def apply(self, action: Action) -> Outcome:
        """Cap the named GPUs; refused outside the hardware's clocks and the action's bounds.

        The hardware takes what its data sheet names, and the brake's clock. `applied` = every named GPU under load stands at
        or below the cap; out of band it is `applied_unverified` until that is so (apply again, or read).
        """
        if not isinstance(action.value, ClockCap):
            raise ActuationError(f"{action.target}: a clock cannot take {type(action.value).__name__}; send a ClockCap")
        mhz = action.value.max_mhz
        with self._world.lock:
            server, gpus = self._named(action)
            before = self._text(server, gpus)
            if refusal := _refusal(action, mhz, self._sheet(server)):
                return self._outcome(action, "refused", before, before, refusal)
            self._command(action, server, gpus, mhz)
            return self._verify(action, server, gpus, mhz, before)

    def revert(self, action: Action) -> Outcome:
        """Lift the caps of the named GPUs (of all, where the action names none)."""
        with self._world.lock:
            server, gpus = self._named(action)
            before = self._text(server, gpus)
            self._command(action, server, gpus, NONE_MHZ)
            gone = bool(np.isinf(self._world.caps.mhz[server, list(gpus)]).all())
            return self._outcome(action, "reverted", before, self._text(server, gpus), "" if gone else _late())

    def _command(self, action: Action, server: int, gpus: tuple[int, ...], mhz: float) -> None:
        w = self._world
        cooling_lost = any(units.any() for units in (w.down.ahus, w.down.cooling_devices, w.down.chillers))
        for_heat = action.policy in HEAT_POLICIES and (action.policy != "emergency" or cooling_lost)
        w.caps.command(server, gpus, mhz, w.second + self._delay_s(server, mhz), for_heat=for_heat)
        w.refresh_clocks()

    def _delay_s(self, server: int, mhz: float) -> float:
        """Seconds of run time until a command acts; the controller's are drawn per server and moment."""
        w = self._world
        if w.fleet.endpoint[server] >= 0:
            return 0.0
        if mhz <= self._sheet(server).brake_clock_mhz:
            return BRAKE_S
        rng = np.random.Generator(np.random.PCG64([w.seed, 6, server, w.second]))
        return float(np.ceil(rng.uniform(*OUT_OF_BAND_S)))

    def _verify(self, action: Action, server: int, gpus: tuple[int, ...], mhz: float, before: str) -> Outcome:
        w = self._world
        picked = list(gpus)
        after = self._text(server, gpus)
        if (w.caps.mhz[server, picked] != mhz).any():
            return self._outcome(action, "applied_unverified", before, after, _late())
        if (w.state.clock_mhz[server, picked] > mhz).any():
            return self._outcome(action, "failed", before, after, f"SM clock above {mhz:g} MHz after the cap was set")
        if w.state.util[server] <= 0.0:
            return self._outcome(action, "applied_unverified", before, after, "the GPUs are idle")
        return self._outcome(action, "applied", before, after)

    def _named(self, action: Action) -> tuple[int, tuple[int, ...]]:
        server = self._position.get(action.node)
        if server is None:
            raise ActuationError(f"{action.target}: unknown node {action.node!r}: the site has {len(self._position)} servers")
        gpus = action.value.gpus if isinstance(action.value, ClockCap) else ()
        count = self._sheet(server).gpus
        wrong = [g for g in gpus if not 0 <= g < count]
        if wrong:
            raise ActuationError(f"{action.target}: gpus = {wrong}: {action.node} has 0 to {count - 1}")
        return server, gpus or tuple(range(count))

    def _sheet(self, server: int) -> Hardware:
        fleet = self._world.fleet
        return fleet.profiles[int(fleet.server_hardware[server])].sheet

    def _text(self, server: int, gpus: tuple[int, ...]) -> str:
        w, picked = self._world, list(gpus)
        cap, wanted = w.caps.mhz[server, picked].min(), w.caps.wanted_mhz[server, picked].min()
        text = f"cap {_mhz(cap)}, SM clock {_mhz(w.state.clock_mhz[server, picked].max())}"
        return text if cap == wanted else f"{text}, commanded {_mhz(wanted)}"


def _late() -> str:
    return f"out of band: in force within {OUT_OF_BAND_S[1]:g} s of run time"


def _mhz(mhz: float) -> str:
    return f"{mhz:g} MHz" if np.isfinite(mhz) else "none"


def _refusal(action: Action, mhz: float, sheet: Hardware) -> str:
    """Why a clock cannot be; empty when it can."""
    low, high, brake = sheet.min_clock_mhz, sheet.max_clock_mhz, sheet.brake_clock_mhz
    if mhz != brake and not low <= mhz <= high:
        return f"max_mhz = {mhz:g}: the hardware takes {low:g} to {high:g} MHz, or {brake:g} as a brake"
    if action.bounds is not None and not action.bounds.low <= mhz <= action.bounds.high:
        return f"max_mhz = {mhz:g}: the action's bounds are {action.bounds.low:g} to {action.bounds.high:g} MHz"
    return ""


class TwinWeights(_Twin):
    """Sets the routing shares of an endpoint's nodes; a node's is divided evenly among its instances."""

    kind = "weights"

    def __init__(self, world: World, clock: Clock) -> None:
        """Every endpoint of the world can be named."""
        super().__init__(world, clock)
        self._endpoints = {endpoint.name: e for e, endpoint in enumerate(world.topology.endpoints)}

    def read(self, action: Action) -> str:
        """The endpoint's shares as JSON, node -> share."""
        with self._world.lock:
            return self._text(self._members(self._endpoint(action)))

    def apply(self, action: Action) -> Outcome:
        """Set the shares; refused unless they name nodes of the endpoint and sum to 1."""
        if not isinstance(action.value, Weights):
            raise ActuationError(f"{action.target}: a router cannot take {type(action.value).__name__}; send Weights")
        shares = action.value.shares
        with self._world.lock:
            endpoint = self._endpoint(action)
            members = self._members(endpoint)
            before = self._text(members)
            if refusal := _wrong_shares(endpoint, members, shares):
                return self._outcome(action, "refused", before, before, refusal)
            self._set(endpoint, members, shares)
            return self._outcome(action, "applied", before, self._text(members))

    def revert(self, action: Action) -> Outcome:
        """Back to equal shares of the instances."""
        with self._world.lock:
            endpoint = self._endpoint(action)
            members = self._members(endpoint)
            before = self._text(members)
            self._set(endpoint, members, {node: float(len(own)) for node, own in members.items()})
            return self._outcome(action, "reverted", before, self._text(members))

    def _endpoint(self, action: Action) -> str:
        name = action.value.endpoint if isinstance(action.value, Weights) else action.target.partition("/")[2]
        if name not in self._endpoints:
            known = ", ".join(self._endpoints) or "none"
            raise ActuationError(f"{action.target}: unknown endpoint {name!r}: there are {known}")
        return name

    def _members(self, endpoint: str) -> dict[str, Ints]:
        """Node -> its instances of the endpoint that are there."""
        fleet = self._world.fleet
        mine = np.flatnonzero((fleet.instance_endpoint == self._endpoints[endpoint]) & self._world.serving.present)
        servers = fleet.instance_server[mine]
        return {fleet.topology.servers[i].name: mine[servers == i] for i in np.unique(servers).tolist()}

    def _set(self, endpoint: str, members: Mapping[str, Ints], shares: Mapping[str, float]) -> None:
        weights, total = self._world.weights.copy(), sum(shares.values())
        weights[self._world.fleet.instance_endpoint == self._endpoints[endpoint]] = 0.0
        for node, own in members.items():
            weights[own] = shares.get(node, 0.0) / total / len(own)
        self._world.set_weights(weights)

    def _text(self, members: Mapping[str, Ints]) -> str:
        sums = {node: float(self._world.weights[own].sum()) for node, own in members.items()}
        total = sum(sums.values()) or 1.0
        return json.dumps({node: round(share / total, 6) for node, share in sums.items()})


def _wrong_shares(endpoint: str, members: Mapping[str, Ints], shares: Mapping[str, float]) -> str:
    """Why shares cannot be; empty when they can."""
    unknown = sorted(shares.keys() - members.keys())
    if unknown:
        return f"shares name {', '.join(unknown)}: no instance of {endpoint}"
    total = sum(shares.values())
    return "" if abs(total - 1.0) <= 1e-3 else f"shares sum to {total:g}: must be 1"


def kinds(made: Sequence[Actuator]) -> dict[str, Actuator]:
    """Return actuators by the kind of value that they take, as an agent wants them."""
    return {actuator.kind: actuator for actuator in made}
