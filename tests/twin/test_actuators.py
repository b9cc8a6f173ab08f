import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from contracts.control import Action, Bounds, ClockCap, Raise, Revert, Weights
from contracts.errors import ActuationError
from twin.actuators import actuators, kinds
from twin.world import World

WALL = datetime(2026, 7, 15, 20, 0, tzinfo=UTC)


class TwinTime:
    """Run time is the world's; wall time is 20 ms after the action was made."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> datetime:
        return self.world.now

    def wall(self) -> datetime:
        return WALL + timedelta(milliseconds=20)

    def to_run(self, wall: datetime) -> datetime:
        return wall

    def sleep(self, seconds: float) -> None:
        self.world.advance(self.world.now + timedelta(seconds=seconds))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def made(world: World) -> dict[str, Any]:
    return kinds(actuators(world, TwinTime(world)))


def action(node: str, target: str, value: Any, **changes: Any) -> Action:
    return Action(
        action_id="a1",
        at=WALL,
        created_wall=WALL,
        node=node,
        target=target,
        value=value,
        lease_s=10.0,
        epoch=4,
        **changes,
    )


def cap(node: str, mhz: float, **changes: Any) -> Action:
    gpus = changes.pop("gpus", ())
    return action(node, f"clock_cap/{node}", ClockCap(max_mhz=mhz, gpus=gpus), **changes)


def nodes(world: World) -> tuple[str, str]:
    saas = world.topology.servers[int(world.fleet.instance_server[0])].name
    iaas = next(s.name for s in world.topology.servers if s.tenant == "iaas")
    return saas, iaas


def go(world: World, seconds: int) -> None:
    world.advance(world.now + timedelta(seconds=seconds))


def test_a_cap_on_saas_is_in_force_at_once_and_idempotent_and_reversible(world: World, made: dict[str, Any]) -> None:
    node, _ = nodes(world)
    go(world, 3)
    outcome = made["clock_cap"].apply(cap(node, 1200.0))
    assert (outcome.status, outcome.epoch, outcome.node) == ("applied", 4, node)
    assert outcome.before == "cap none, SM clock 1980 MHz"
    assert outcome.after == "cap 1200 MHz, SM clock 1200 MHz"
    assert outcome.latency_s == pytest.approx(0.02)
    again = made["clock_cap"].apply(cap(node, 1200.0))
    assert (again.status, again.before, again.after) == ("applied", outcome.after, outcome.after)
    assert made["clock_cap"].read(cap(node, 1200.0)) == outcome.after
    for _ in range(2):
        undone = made["clock_cap"].revert(action(node, f"clock_cap/{node}", Revert()))
        assert (undone.status, undone.after) == ("reverted", outcome.before)
    assert np.isinf(world.caps.mhz).all()


def test_a_cap_on_iaas_takes_the_slow_path(world: World, made: dict[str, Any]) -> None:
    _, node = nodes(world)
    go(world, 1)
    outcome = made["clock_cap"].apply(cap(node, 1200.0))
    assert outcome.status == "applied_unverified"
    assert "within 40 s" in outcome.reason
    assert outcome.after == "cap none, SM clock 1980 MHz, commanded 1200 MHz"
    go(world, 9)
    assert "cap none" in made["clock_cap"].read(cap(node, 1200.0))
    made["clock_cap"].apply(cap(node, 1200.0))
    go(world, 32)
    assert made["clock_cap"].apply(cap(node, 1200.0)).status == "applied"
    assert made["clock_cap"].read(cap(node, 1200.0)) == "cap 1200 MHz, SM clock 1200 MHz"
    undone = made["clock_cap"].revert(cap(node, 1200.0))
    assert (undone.status, "out of band" in undone.reason) == ("reverted", True)
    go(world, 41)
    assert made["clock_cap"].read(cap(node, 1200.0)) == "cap none, SM clock 1980 MHz"


def test_the_brake_reaches_everybody_within_5_s(world: World, made: dict[str, Any]) -> None:
    go(world, 1)
    for node in nodes(world):
        made["clock_cap"].apply(cap(node, 288.0))
    go(world, 6)
    assert [made["clock_cap"].read(cap(node, 288.0)) for node in nodes(world)] == ["cap 288 MHz, SM clock 288 MHz"] * 2


@pytest.mark.parametrize("mhz", [287.0, 300.0, 799.0, 1981.0])
def test_a_clock_that_the_hardware_lacks_is_refused(world: World, made: dict[str, Any], mhz: float) -> None:
    node, _ = nodes(world)
    outcome = made["clock_cap"].apply(cap(node, mhz))
    assert outcome.status == "refused"
    assert f"{mhz:g}" in outcome.reason
    assert outcome.before == outcome.after
    assert np.isinf(world.caps.wanted_mhz).all()


def test_each_server_takes_the_clocks_of_its_own_data_sheet(make_world: Callable[..., World]) -> None:
    world = make_world(hardware=("h100", "a100"))
    clocks = kinds(actuators(world, TwinTime(world)))["clock_cap"]
    h100, a100 = (
        next(s.name for s in world.topology.servers if s.hardware == kind and s.tenant == "saas")
        for kind in ("dgx-h100", "dgx-a100")
    )
    assert clocks.apply(cap(a100, 600.0)).after == "cap 600 MHz, SM clock 600 MHz"
    assert "800 to 1980 MHz" in clocks.apply(cap(h100, 600.0)).reason
    assert clocks.apply(cap(h100, 1600.0)).status != "refused"
    assert "210 to 1410 MHz, or 288 as a brake" in clocks.apply(cap(a100, 1600.0)).reason


def test_a_clock_outside_the_actions_bounds_is_refused(world: World, made: dict[str, Any]) -> None:
    node, _ = nodes(world)
    outcome = made["clock_cap"].apply(cap(node, 900.0, bounds=Bounds(low=1000, high=1980)))
    assert (outcome.status, "1000 to 1980" in outcome.reason) == ("refused", True)


def test_single_gpus_can_be_named(world: World, made: dict[str, Any]) -> None:
    node, _ = nodes(world)
    go(world, 1)
    assert made["clock_cap"].apply(cap(node, 1000.0, gpus=(1, 6))).status == "applied"
    server = int(world.fleet.instance_server[0])
    assert np.flatnonzero(np.isfinite(world.caps.mhz[server])).tolist() == [1, 6]


@pytest.mark.parametrize("policy", ["thermal", "caps"])
def test_what_a_cap_was_for_is_kept(world: World, made: dict[str, Any], policy: str) -> None:
    node, _ = nodes(world)
    made["clock_cap"].apply(cap(node, 1000.0, policy=policy))
    assert world.caps.for_heat[int(world.fleet.instance_server[0])] == (policy == "thermal")


@pytest.mark.parametrize(("kind", "unit"), [("ahu_lost", "ahu-1"), ("cooling_device_lost", "cooling-1"), ("ups_lost", "ups-1")])
def test_an_emergencys_cap_is_for_heat_while_cooling_is_lost(make_world: Callable[..., World], kind: str, unit: str) -> None:
    world = make_world(events=[{"kind": kind, "at_s": 0, "unit": unit}])
    go(world, 1)
    clocks = kinds(actuators(world, TwinTime(world)))["clock_cap"]
    clocks.apply(cap(nodes(world)[0], 1000.0, policy="emergency"))
    assert world.caps.for_heat.any() == (kind != "ups_lost")


def test_what_cannot_be_is_one_line(world: World, made: dict[str, Any]) -> None:
    node, _ = nodes(world)
    raised = Raise(alertname="x", severity="warning", labels={}, annotations={})
    for wrong, kind, words in (
        (cap("n999", 1000.0), "clock_cap", "unknown node 'n999'"),
        (cap(node, 1000.0, gpus=(9,)), "clock_cap", r"gpus = \[9\]"),
        (action(node, f"clock_cap/{node}", raised), "clock_cap", "send a ClockCap"),
        (action("router", "weights/chat-9", Weights(endpoint="chat-9", shares={})), "weights", "unknown endpoint 'chat-9'"),
        (action("router", "weights/chat-1", raised), "weights", "send Weights"),
    ):
        with pytest.raises(ActuationError, match=words):
            made[kind].apply(wrong)


def weights(world: World, shares: list[float]) -> Action:
    members = np.flatnonzero(world.fleet.instance_endpoint == 0)
    names = [world.topology.servers[world.fleet.instance_server[i]].name for i in members]
    chosen = dict(zip(names, shares, strict=False))
    return action("router", "weights/chat-1", Weights(endpoint="chat-1", shares=chosen))


def test_weights_are_set_read_back_and_reverted(world: World, made: dict[str, Any]) -> None:
    wanted = weights(world, [0.5, 0.5])
    before = made["weights"].read(wanted)
    assert set(json.loads(before).values()) == {0.25}
    for _ in range(2):
        outcome = made["weights"].apply(wanted)
        assert outcome.status == "applied"
        assert list(json.loads(outcome.after).values()) == [0.5, 0.5, 0.0, 0.0]
    assert world.weights[world.fleet.instance_endpoint == 1].tolist() == [0.25] * 4
    undone = made["weights"].revert(action("router", "weights/chat-1", Revert()))
    assert (undone.status, undone.after) == ("reverted", before)


def test_weights_that_do_not_sum_to_one_or_name_others_are_refused(world: World, made: dict[str, Any]) -> None:
    assert "sum to 0.7" in made["weights"].apply(weights(world, [0.5, 0.2])).reason
    other = world.topology.servers[int(world.fleet.instance_server[world.fleet.instance_endpoint == 1][0])].name
    wrong = action("router", "weights/chat-1", Weights(endpoint="chat-1", shares={other: 1.0}))
    outcome = made["weights"].apply(wrong)
    assert (outcome.status, other in outcome.reason) == ("refused", True)
    assert world.weights.tolist() == [0.25] * 8


def test_a_nodes_share_is_divided_among_its_instances_that_are_there(make_world: Callable[..., World]) -> None:
    world = make_world(tp=4)
    made = kinds(actuators(world, TwinTime(world)))
    fleet = world.fleet
    servers = np.unique(fleet.instance_server[fleet.instance_endpoint == 0])
    names = [world.topology.servers[i].name for i in servers]
    world.serving.present[fleet.instance[servers[0]]] = False
    shares = dict(zip(names, (0.7, 0.2, 0.1), strict=False))
    outcome = made["weights"].apply(action("router", "weights/chat-1", Weights(endpoint="chat-1", shares=shares)))
    assert json.loads(outcome.after) == {**shares, names[3]: 0.0}
    first = fleet.instance[servers]
    assert world.weights[[first[0], first[0] + 1, first[1], first[1] + 1]] == pytest.approx([0.0, 0.7, 0.1, 0.1])
    go(world, 60)
    h = world.serving.s.inst
    arrived = h["arrived"] + h["coming"]
    assert (arrived[fleet.instance_endpoint == 0] / arrived[fleet.instance_endpoint == 0].sum())[[1, 2, 3]] == pytest.approx(
        [0.7, 0.1, 0.1], abs=0.02
    )
    undone = made["weights"].revert(action("router", "weights/chat-1", Revert()))
    assert json.loads(undone.after) == pytest.approx(dict(zip(names, (1 / 7, 2 / 7, 2 / 7, 2 / 7), strict=True)), abs=1e-6)


def test_a_command_on_its_way_keeps_its_time() -> None:
    from twin.caps import Caps

    caps = Caps((1, 8))
    caps.command(0, (0,), 1200.0, 30.0)
    caps.command(0, (0,), 1000.0, 60.0)
    assert np.isinf(caps.in_force(29.0)[0, 0])
    assert caps.in_force(30.0)[0, 0] == 1000.0
    caps.command(0, (0,), 1000.0, 99.0)
    assert not np.isfinite(caps.at_s).any()
