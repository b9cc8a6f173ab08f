"""Machines that come, go, move and change, in the running world."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from contracts.errors import ActuationError
from contracts.workload import Workload
from twin.knobs import limit_batch, migrate, reconfigure
from twin.scenario import load
from twin.tenancy import Arrive
from twin.world import World

Maker = Callable[..., World]


def run(world: World, seconds: int) -> World:
    world.advance(world.now + timedelta(seconds=seconds))
    return world


def holds(world: World) -> None:
    """No request is lost, and who is not there holds none."""
    inst = world.serving.s.inst
    held = inst["decoding"] + inst["fresh"] + inst["coming"] + inst["waiting_low"] + inst["waiting_high"]
    assert (held[~world.serving.present] == 0).all()
    assert held.sum() == world.serving.s.pool[2]


def serving(world: World, server: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The instances of a server that are there."""
    return np.flatnonzero(world.serving.present & (world.serving.server == server))


def test_a_migrated_machine_drains_and_its_successor_takes_over(make_world: Maker) -> None:
    world = run(make_world(occupancy=0.8), 20)
    source = int(np.flatnonzero(world.fleet.endpoint == 0)[0])
    free = world.machines.free().tolist()
    ready_s = migrate(world, source, free[0])
    assert 360.0 <= ready_s - world.second <= 480.0  # DynamoLLM, Table V
    old, new = serving(world, source), serving(world, free[0])
    before = world.serving.s.inst["arrived"][old].sum()
    run(world, int(ready_s - world.second) - 5)
    assert world.serving.s.inst["arrived"][new].sum() == 0
    assert world.serving.s.inst["arrived"][old].sum() > before
    run(world, 90)
    assert world.serving.s.inst["arrived"][new].sum() > 0
    assert source in world.machines.free().tolist()
    assert world.topology.servers[free[0]].endpoint == world.topology.endpoints[0].name
    assert world.topology.servers[source].tenant == "free"
    holds(world)
    with pytest.raises(ActuationError, match="is taken"):
        migrate(world, free[0], int(np.flatnonzero(world.fleet.endpoint == 1)[0]))
    with pytest.raises(ActuationError, match="runs no instance"):
        migrate(world, source, free[1])


def test_a_server_is_served_by_other_instances_when_it_has_drained(make_world: Maker) -> None:
    world = run(make_world(), 20)
    server = int(np.flatnonzero(world.fleet.endpoint == 0)[0])
    reconfigure(world, server, tp=4)
    run(world, 120)
    mine = serving(world, server)
    assert len(mine) == 2
    assert (world.serving.gpus[mine] == 4).all()
    assert world.serving.first_gpu[mine].tolist() == [0, 4]
    assert world.serving.s.inst["arrived"][mine].min() > 0
    holds(world)
    for knobs, said in (
        ({"tp": 16}, "no llama2-70b h100 TP16"),
        ({"colour": "red"}, "no such knob"),
        ({"model": "gpt"}, "no gpt h100"),
    ):
        with pytest.raises(ActuationError, match=said):
            reconfigure(world, server, **knobs)


def test_a_lower_batch_limit_holds_once_the_batch_has_shrunk(make_world: Maker) -> None:
    world = run(make_world(), 30)
    server = int(np.flatnonzero(world.fleet.endpoint == 0)[0])
    limit_batch(world, server, 4)
    run(world, 120)
    mine = serving(world, server)
    inst = world.serving.s.inst[mine]
    assert (inst["decoding"] + inst["fresh"]).max() <= 4
    assert inst["waiting_low"].sum() + inst["waiting_high"].sum() > 0
    with pytest.raises(ActuationError, match="batch = 4000: must be 1 to 128"):
        limit_batch(world, server, 4000)


def test_machines_come_and_go_and_the_placement_decides_where(workload: Workload) -> None:
    """A site with much churn runs for two days in flows of requests so few that it is quick."""
    asked: list[Arrive] = []

    def last(arrival: Arrive, free: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
        asked.append(arrival)
        return int(free[-1]) if len(free) else -1

    scenario = load(
        "churn", servers_per_row=8, endpoints=2, high_priority_endpoints=1, churn_per_week=1.5, peak_rps=0.01, warm_s=0
    )
    world, twin = World(scenario, workload, 3, step_s=5), World(scenario, workload, 3, step_s=5)
    world.placement = last
    for each in (world, twin):
        run(each, 2 * 86_400)
        holds(each)
    assert len(asked) >= 2
    placed = [a for a in asked if a.vm in world.machines.server_of]
    assert {a.kind for a in asked} <= {"saas", "iaas"}
    assert all(world.machines.server_of[a.vm] >= 0 for a in placed)
    names = [s.tenant for s in world.topology.servers]
    assert names.count("free") == len(world.machines.free())
    assert [s.tenant for s in twin.topology.servers] != names or len(placed) == 0
    assert world.score().requests == pytest.approx(twin.score().requests, rel=0.05)  # what is asked does not depend on it
