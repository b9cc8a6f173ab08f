from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from twin.ledger import slo_holds
from twin.world import World


@pytest.fixture
def calm(make_world: Callable[..., World]) -> World:
    """Nothing slows down by itself, no limit is near."""
    return make_world(outside_c=10.0, iaas_hot_level=0.3, aisle_limit_cfm=40e3, row_limit_w=90e3)


def go(world: World, seconds: int) -> None:
    world.advance(world.now + timedelta(seconds=seconds))


def test_nothing_happens_in_a_calm_site(calm: World) -> None:
    go(calm, 60)
    score = calm.score()
    assert (score.thermal_events, score.power_events, score.throttled_gpu_s) == (0, 0, 0.0)
    assert score.energy_gpu_j == pytest.approx(calm.state.energy_j.sum())
    assert score.energy_wall_j > score.energy_gpu_j


def test_any_cap_on_iaas_counts_and_one_on_saas_does_not_while_its_objectives_hold(calm: World) -> None:
    saas = int(calm.fleet.instance_server[0])
    iaas = int(np.flatnonzero(calm.fleet.customer >= 0)[0])
    calm.caps.command(saas, tuple(range(8)), 1400.0, 0.0)
    go(calm, 30)
    assert calm.score().throttled_gpu_s == 0.0
    calm.caps.command(iaas, (0, 1), 1400.0, 0.0)
    go(calm, 10)
    assert calm.score().throttled_gpu_s == 20.0
    assert (calm.score().power_events, calm.score().thermal_events) == (1, 0)


def test_a_cap_for_temperature_is_a_thermal_event(calm: World) -> None:
    iaas = int(np.flatnonzero(calm.fleet.customer >= 0)[0])
    calm.caps.command(iaas, (3,), 1400.0, 0.0, for_heat=True)
    go(calm, 10)
    assert (calm.score().power_events, calm.score().thermal_events) == (0, 1)


def test_a_cap_that_breaks_the_objectives_counts(calm: World) -> None:
    for i in calm.fleet.instance_server:
        calm.caps.command(int(i), tuple(range(8)), 400.0, 0.0)
    go(calm, 240)
    score = calm.score()
    assert not slo_holds(calm.ledger).all()
    assert score.slo_ok < 0.99
    assert score.throttled_gpu_s > 0


def test_the_brake_counts_whatever_the_objectives(calm: World) -> None:
    calm.caps.command(int(calm.fleet.instance_server[0]), tuple(range(8)), 288.0, 0.0)
    go(calm, 5)
    assert calm.score().throttled_gpu_s == 40.0


@pytest.mark.parametrize(("gap_s", "events"), [(59, 1), (60, 2)])
def test_short_gaps_do_not_end_an_event(calm: World, gap_s: int, events: int) -> None:
    iaas = int(np.flatnonzero(calm.fleet.customer >= 0)[0])
    for mhz in (1400.0, np.inf, 1400.0):
        calm.caps.command(iaas, (0,), mhz, 0.0, for_heat=True)
        go(calm, gap_s if mhz == np.inf else 5)
    score = calm.score()
    assert (score.thermal_events, score.power_events) == (events, 0)
    assert score.throttled_gpu_s == 10.0


def test_events_of_servers_and_rows_are_counted_on_their_own(calm: World) -> None:
    iaas = np.flatnonzero(calm.fleet.customer >= 0)
    one, other = (int(iaas[calm.fleet.row[iaas] == r][0]) for r in (0, 1))
    calm.caps.command(one, (0,), 1400.0, 0.0, for_heat=True)
    calm.caps.command(other, (0,), 1400.0, 0.0, for_heat=True)
    go(calm, 5)
    calm.caps.command(one, (1,), 1400.0, 0.0)
    calm.caps.command(other, (1,), 1400.0, 0.0)
    go(calm, 5)
    assert (calm.score().thermal_events, calm.score().power_events) == (2, 2)
