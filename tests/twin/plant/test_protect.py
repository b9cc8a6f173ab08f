from collections.abc import Callable

import numpy as np

from twin import plant
from twin.plant import Units
from twin.plant.protect import protect


def test_slowdown_has_a_hysteresis_and_shutdown_is_for_good(make_units: Callable[..., Units]) -> None:
    u = make_units(rows=1, per_row=1)
    s = plant.state(u, 1, 1)
    seen = []
    for temp in (86.9, 87.0, 80.0, 77.5, 77.0, 86.9, 92.0, 30.0):
        s.die_c[0, 0] = temp
        protect(u, s)
        seen.append(bool(s.slow[0, 0]))
    assert seen == [False, True, True, True, False, False, True, False]
    assert s.down[0].tolist() == [True] + [False] * 7
    plant.clocks(u, s, np.full((1, 8), np.inf))
    assert s.clock_mhz[0].tolist() == [0.0] + [1980.0] * 7
    s.down[0, 0] = False
    plant.clocks(u, s, np.full((1, 8), np.inf))
    assert s.clock_mhz[0, 0] == 1980.0


def test_the_lowest_of_cap_and_slowdown_is_in_force(make_units: Callable[..., Units]) -> None:
    u = make_units("a100", rows=1, per_row=1)
    s = plant.state(u, 1, 1)
    s.slow[0, :2] = True
    caps = np.full((1, 8), np.inf)
    caps[0, 1:3] = 600.0
    plant.clocks(u, s, caps)
    assert s.clock_mhz[0, :4].tolist() == [705.0, 600.0, 600.0, 1410.0]


def test_limits_are_each_servers_own(make_units: Callable[..., Units]) -> None:
    u = make_units(rows=1, per_row=2)._replace(slowdown_c=np.array([87.0, 89.0]))
    s = plant.state(u, 1, 1)
    s.die_c[:] = 88.0
    protect(u, s)
    assert s.slow.all(axis=1).tolist() == [True, False]
    assert not s.slow[1].any()


def test_a_gpu_too_hot_stops_drawing_power_and_stays_off(
    make_units: Callable[..., Units], make_supply: Callable[..., plant.Supply]
) -> None:
    u = make_units(rows=1, per_row=1)
    u.r_sink[0, 4] *= 3.0
    s, supply = plant.state(u, 1, 1), make_supply(u)
    for _ in range(900):
        plant.step(u, s, np.full((1, 8), 690.0), 25.0, supply, 1.0)
    assert s.down[0].tolist() == [g == 4 for g in range(8)]
    assert s.gpu_w[0, 4] == 0.0
    assert s.die_c[0, 4] < 60.0
