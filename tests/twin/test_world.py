from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from contracts.workload import Workload
from twin import calibration as c
from twin.scenario import load
from twin.world import World

Maker = Callable[..., World]


def run(world: World, seconds: int) -> World:
    world.advance(world.now + timedelta(seconds=seconds))
    return world


def cap_all(world: World, mhz: float, *, saas: bool) -> None:
    for i in range(len(world.fleet.row)):
        if (world.fleet.endpoint[i] >= 0) == saas:
            world.caps.command(i, tuple(range(c.GPUS)), mhz, 0.0)


def test_the_same_seed_gives_the_same_run_to_the_bit(make_world: Maker) -> None:
    one, two, other = run(make_world(), 150), make_world(), run(make_world(seed=4), 150)
    for _ in range(15):  # other strides, same run
        run(two, 10)
    assert one.score() == two.score() != other.score()
    for a, b in zip(one.state, two.state, strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(one.serving, two.serving, strict=True):
        assert np.array_equal(a, b)


def test_requests_are_conserved(make_world: Maker) -> None:
    world = make_world(warm_s=0)
    run(world, 200)
    w, s = world.work, world.serving
    assert w.arrived.sum() > 1000
    assert (w.arrived == w.finished + w.rejected + s.running + s.waiting).all()
    assert world.score().requests == (w.finished + w.rejected).sum()


def test_control_does_not_change_what_is_asked(make_world: Maker) -> None:
    free, capped = make_world(), make_world()
    cap_all(capped, 1000.0, saas=True)
    assert run(free, 120).work.arrived.tolist() == run(capped, 120).work.arrived.tolist()


def test_a_cap_lowers_power_and_raises_latency(make_world: Maker) -> None:
    free, capped = make_world(), make_world()
    cap_all(capped, 1000.0, saas=True)
    for world in (free, capped):
        run(world, 180)
    saas = free.fleet.endpoint >= 0
    power = [w.state.energy_j[saas].sum() for w in (free, capped)]
    share = power[1] / power[0]
    assert 0.60 < share < 0.78  # .62 of the busy power at equal work; more work runs at once at a lower clock
    tbt = []
    for world in (free, capped):
        late = [f for second, f in world.finished if second > 90]
        steps = np.concatenate([(f.end_s - f.first_s)[f.output > 1] / (f.output - 1)[f.output > 1] for f in late])
        tbt.append(float(np.median(steps)))
    assert tbt[1] / tbt[0] > 1.39  # the table's ratio at an equal batch; the batch grows besides


def test_weights_decide_who_is_asked(make_world: Maker) -> None:
    world = make_world()
    members = np.flatnonzero(world.fleet.instance_endpoint == 0)
    world.weights[members] = [0.7, 0.3, 0.0, 0.0]
    run(world, 120)
    arrived = world.work.arrived[members]
    assert arrived / arrived.sum() == pytest.approx([0.7, 0.3, 0.0, 0.0], abs=0.02)


def test_losing_an_air_handler_warms_the_inlets(make_world: Maker) -> None:
    limit = {"aisle_limit_cfm": 12e3}
    intact, failed = make_world(**limit), make_world(ahu_lost_after_s=60.0, **limit)
    for world in (intact, failed):
        run(world, 60)
    assert np.array_equal(intact.state.inlet_c, failed.state.inlet_c)
    for world in (intact, failed):
        run(world, 400)
    assert failed.ahu_lost.tolist() == [True, False]
    assert failed.supplied_cfm().tolist() == [0.9 * 12e3]
    assert (failed.state.inlet_c - intact.state.inlet_c).min() > 0.8


def test_a_lost_ups_tightens_the_limit(make_world: Maker) -> None:
    intact, failed = make_world(), make_world(ups_lost_after_s=10.0)
    for world in (intact, failed):
        run(world, 30)
    ratio = failed.score().max_row_power_ratio / intact.score().max_row_power_ratio
    assert ratio == pytest.approx(1 / 0.75, rel=0.05)


def test_advance_never_goes_back_and_takes_whole_seconds(make_world: Maker) -> None:
    world = make_world()
    start = world.now
    world.advance(start + timedelta(seconds=2.9))
    assert world.now == start + timedelta(seconds=2)
    world.advance(start)
    assert world.now == start + timedelta(seconds=2)


def test_the_demo_hurts_without_control_and_lower_clocks_heal_it(workload: Workload) -> None:
    """The reason of the scenario: SaaS at 1,000 MHz keeps its objectives and ends what the uncontrolled site suffers."""
    free, capped = (World(load("demo"), workload, 7) for _ in range(2))
    for world in (free, capped):
        run(world, 300)
    before = [w.score() for w in (free, capped)]
    cap_all(capped, 1000.0, saas=True)
    for world in (free, capped):
        run(world, 900)
    scores = [w.score() for w in (free, capped)]
    suffered = [after.slowdown_gpu_s - b.slowdown_gpu_s for after, b in zip(scores, before, strict=True)]
    assert scores[0].thermal_events > 0
    assert scores[0].power_events > 0
    assert scores[0].max_row_power_ratio > 1.02
    assert suffered[0] > 8 * suffered[1]
    assert capped.scorer.slo_holds().all()
    assert (capped.state.row_w < 0.95 * capped.scenario.row_limit_w).all()
