"""What is told of GPUs and servers, also by sensors that fail and exporters that are away."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.twin.exported import collect, go
from twin.exporters import exporters
from twin.world import World

Maker = Callable[..., World]
G = 8


@pytest.fixture
def world(make_world: Maker) -> World:
    return make_world()


def node(number: int) -> str:
    return f"n{number + 1:03d}"


def at(column: list[Any], number: int) -> list[Any]:
    """The GPUs of a server."""
    return column[number * G : number * G + G]


def test_temperatures_come_in_whole_degrees_near_the_truth(world: World) -> None:
    made = exporters(world)
    go(world, 10)
    frames = collect(world, made)
    shown, inlet = np.array(frames["gpu"]["temp_c"]), np.array(frames["server"]["inlet_c"])
    assert (shown == np.rint(shown)).all()
    assert np.abs(shown - world.state.die_c.ravel()).max() < 3.0
    assert (inlet == np.rint(inlet)).all()
    assert np.abs(inlet / world.state.inlet_c - 1.0 - world.fleet.inlet_bias_share).max() < 0.5 / inlet.min() + 1e-6
    assert frames["gpu"]["energy_j"][0] == pytest.approx(world.state.energy_j[0, 0])
    assert frames["server"]["gpu_max_c"] == shown.reshape(-1, G).max(axis=1).tolist()
    assert frames["server"]["power_w"] == pytest.approx(world.state.server_w.tolist())
    assert frames["server"]["gpu_power_w"] == pytest.approx(world.state.gpu_w.sum(axis=1).tolist())


def test_a_gpu_that_shut_down_is_lost_and_its_values_are_absent(world: World) -> None:
    made = exporters(world)
    world.state.down[2, 5] = True
    go(world, 5)
    frames = collect(world, made)
    gpu, lost = frames["gpu"], 2 * G + 5
    assert [gpu["state"][k] for k in (lost, lost + 1)] == ["lost", "ok"]
    told = {"ts", "node", "gpu", "uuid", "state"}
    assert {name for name, column in gpu.items() if column[lost] is not None} == told
    assert gpu["power_w"][lost + 1] > 0
    assert frames["server"]["gpu_max_c"][2] == max(t for t in at(gpu["temp_c"], 2) if t is not None)
    world.state.down[2, 5] = False
    go(world, 5)
    assert set(collect(world, made)["gpu"]["state"]) == {"ok"}


def test_reasons_name_slowdown_cap_and_brake(world: World) -> None:
    made = exporters(world)
    world.caps.command(0, (1,), 1200.0, 0.0)
    world.caps.command(0, (2,), 288.0, 0.0)
    world.state.slow[0, 3] = True
    world.state.die_c[0, 3] = world.state.sink_c[0, 3] = 86.0
    go(world, 1)
    gpu = collect(world, made)["gpu"]
    reasons = gpu["clock_event_reasons"]
    assert [r & 0x2 for r in reasons[:4]] == [0, 0x2, 0, 0]
    assert reasons[2] & 0x88 == 0x88
    assert reasons[3] & 0x48 == 0x48
    assert gpu["sm_clock_mhz"][:4] == [1980.0, 1200.0, 288.0, 990.0]


def test_each_model_has_its_own_clocks_and_limits(make_world: Maker) -> None:
    world = make_world(hardware=("h100", "a100"))
    a100 = next(i for i, s in enumerate(world.topology.servers) if s.hardware == "dgx-a100")
    made = exporters(world)
    world.state.gpu_w[:] = 399.0
    world.caps.command(a100, (0,), 1200.0, 0.0)
    go(world, 1)
    gpu = collect(world, made)["gpu"]
    assert at(gpu["sm_clock_mhz"], a100)[:2] == [1200.0, 1410.0]
    assert {at(gpu["mem_clock_mhz"], i)[0] for i in (0, a100)} == {2619.0, 1593.0}
    assert at(gpu["clock_event_reasons"], a100)[0] & 0x2
    power = np.array(gpu["power_w"]).reshape(-1, G)
    limited = np.array(gpu["clock_event_reasons"]).reshape(-1, G) & 0x4
    assert (limited == 0x4 * (power >= world.site.u.tdp_w[:, None])).all()


def test_utilisation_is_an_instances_own_and_a_tenants_level(make_world: Maker) -> None:
    world = make_world(tp=2)
    made = exporters(world)
    members = np.flatnonzero(world.fleet.instance_server == world.fleet.instance_server[0])
    weights = world.weights.copy()
    weights[members[:2]] = 0.0
    world.set_weights(weights)
    go(world, 60)
    collect(world, made)
    before = world.serving.s.inst["busy_s"].copy()
    go(world, 5)
    util = np.array(collect(world, made)["gpu"]["util_pct"]).reshape(-1, G)
    server = int(world.fleet.instance_server[0])
    busy = 20.0 * (world.serving.s.inst["busy_s"] - before)[members]
    assert util[server] == pytest.approx(np.repeat(busy, 2), abs=1e-3)
    assert (busy[:2] < busy[2:].max()).all()
    opaque = int(np.flatnonzero(world.fleet.customer >= 0)[0])
    assert util[opaque] == pytest.approx([100.0 * world.state.util[opaque]] * G)


def test_faulty_sensors_are_stuck_drift_and_fall_silent(make_world: Maker) -> None:
    busy = int(make_world().fleet.instance_server[0])
    quiet = [i for i in range(4) if i != busy][:2]
    faults: list[dict[str, Any]] = [
        {"kind": "sensor_stuck", "node": node(busy), "gpu": 1, "quantity": "temp_c"},
        {"kind": "sensor_stuck", "node": node(busy), "quantity": "server_power_w"},
        {"kind": "sensor_drift", "node": node(quiet[0]), "quantity": "inlet_c", "k_per_h": 90.0},
        {"kind": "sensor_silent", "node": node(quiet[1]), "quantity": "power_w"},
        {"kind": "sensor_silent", "node": node(quiet[1]), "quantity": "fan_pct"},
    ]
    world = make_world(events=[{**fault, "at_s": 5, "for_s": 400} for fault in faults])
    sound = make_world()
    told, truth = exporters(world), exporters(sound)
    for _ in range(2):
        for w in (world, sound):
            w.caps.command(busy, tuple(range(G)), 800.0 if w.second else 1980.0, 0.0)
            go(w, 40)
        frames, right = collect(world, told), collect(sound, truth)
        if world.second == 40:
            first = frames
    gpu, server = frames["gpu"], frames["server"]
    held, moved, true = (at(f["temp_c"], busy) for f in (gpu, first["gpu"], right["gpu"]))
    assert held[1] == moved[1] != true[1]
    assert [*held[:1], *held[2:]] == [*true[:1], *true[2:]], "its neighbours are sound"
    assert server["power_w"][busy] == first["server"]["power_w"][busy] != right["server"]["power_w"][busy]
    drifts, silent = quiet
    assert server["inlet_c"][drifts] == right["server"]["inlet_c"][drifts] + round(90.0 * 75 / 3600)
    assert at(gpu["power_w"], silent) == [None] * G
    assert server["fan_pct"][silent] is server["gpu_power_w"][silent] is None
    assert at(gpu["temp_c"], silent) == at(right["gpu"]["temp_c"], silent)


def test_an_exporter_that_was_away_tells_of_the_time_since(make_world: Maker) -> None:
    away = [{"kind": "exporter_outage", "at_s": 10, "for_s": 20, "exporter": e} for e in ("endpoints", "gpu", "facility")]
    stuck = {"kind": "sensor_stuck", "at_s": 12, "node": node(0), "quantity": "temp_c"}
    world = make_world(events=[*away, stuck])
    made = exporters(world)
    topics, held = [], []
    for _ in range(7):
        go(world, 5)
        frames = collect(world, made)
        topics.append(set(frames))
        if world.second == 15:
            held = np.rint(world.state.die_c[0] + world.fleet.temp_bias_c[0]).tolist()
    some = {"server", "requests"}
    assert topics == [topics[0], some, some, some, some, topics[0], topics[0]]
    assert topics[0] > some
    assert at(frames["gpu"]["temp_c"], 0) == held, "it got stuck while the exporter was away"


def test_the_first_frame_after_an_outage_covers_it(make_world: Maker) -> None:
    events = [{"kind": "exporter_outage", "at_s": 10, "for_s": 20, "exporter": e} for e in ("endpoints", "facility")]
    world = make_world(events=events)
    made = exporters(world)
    go(world, 5)
    collect(world, made)
    before = world.serving.s.inst["made_tokens"].sum()
    go(world, 10)
    assert "endpoints" not in collect(world, made)
    go(world, 15)
    frames = collect(world, made)
    assert 25 * sum(frames["endpoints"]["output_tok_s"]) == pytest.approx(
        world.serving.s.inst["made_tokens"].sum() - before, rel=1e-5
    )
    power = world.row_power(5)
    assert len(power) == 25
    assert frames["facility"]["power_max_w"][0] == power[:, 0].max()
