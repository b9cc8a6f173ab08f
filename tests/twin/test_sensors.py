from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from twin import events, sensors
from twin.events import SensorDrift, SensorSilent, SensorStuck
from twin.exporters.instruments import Sensors

SERVERS = {"n1": 0, "n2": 1}


def readings(temp_c: float = 60.0, inlet_c: float = 25.0) -> dict[str, Any]:
    return {"temp_c": np.full((2, 3), temp_c), "inlet_c": np.full(2, inlet_c)}


def at(event: events.SensorFault, seconds: float) -> tuple[sensors.Fault, ...]:
    return sensors.faults_at((event,), SERVERS, seconds)


def test_whole_degrees_with_a_bias_of_each() -> None:
    true = np.array([60.2, 60.2, 60.2])
    assert sensors.degrees(true, np.array([0.0, 0.5, -0.9])).tolist() == [60.0, 61.0, 59.0]
    assert sensors.degrees(true, 0.0, 0.5).tolist() == [60.0, 60.0, 60.0]
    assert sensors.degrees(true, 0.1, np.array([1.0, 0.5, 0.1])).tolist() == pytest.approx([60.0, 60.5, 60.3])
    assert sensors.inlet(np.array([30.0, 30.0]), np.array([0.02, -0.04])).tolist() == [31.0, 29.0]


def test_nothing_is_wrong_without_a_fault() -> None:
    given = readings()
    assert sensors.apply(given, (), {}) == (given, {})


def test_a_stuck_sensor_shows_what_it_showed_when_it_began() -> None:
    event = SensorStuck(at_s=10.0, for_s=20.0, node="n2", gpu=1, quantity="temp_c")
    memory: sensors.Memory = {}
    seen = []
    for second, temp_c in ((5, 60.0), (10, 61.0), (15, 70.0), (29, 80.0), (30, 81.0)):
        given = readings(temp_c)
        shown, memory = sensors.apply(given, at(event, second), memory)
        seen.append(float(shown["temp_c"][1, 1]))
        assert (given["temp_c"] == temp_c).all(), "what is given is not changed"
        assert np.delete(shown["temp_c"].ravel(), 4).tolist() == [temp_c] * 5
    assert seen == [60.0, 61.0, 61.0, 61.0, 81.0]
    assert memory == {}


def test_a_whole_node_gets_stuck_each_gpu_with_its_own_value() -> None:
    event = SensorStuck(at_s=0.0, node="n1", quantity="temp_c")
    first = {"temp_c": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    _, memory = sensors.apply(first, at(event, 0), {})
    shown, _ = sensors.apply(readings(), at(event, 5), memory)
    assert shown["temp_c"].tolist() == [[1.0, 2.0, 3.0], [60.0] * 3]


def test_memory_outlives_a_look_at_other_quantities() -> None:
    event = SensorStuck(at_s=0.0, node="n1", quantity="inlet_c")
    _, memory = sensors.apply(readings(), at(event, 0), {})
    _, memory = sensors.apply({"temp_c": readings()["temp_c"]}, at(event, 1), memory)
    shown, _ = sensors.apply(readings(inlet_c=40.0), at(event, 2), memory)
    assert shown["inlet_c"].tolist() == [25.0, 40.0]


def test_drift_grows_by_the_hour_in_whole_steps() -> None:
    event = SensorDrift(at_s=100.0, node="n1", quantity="inlet_c", k_per_h=6.0)
    shown = [float(sensors.apply(readings(), at(event, s), {})[0]["inlet_c"][0]) for s in (99, 100, 100 + 540, 100 + 3600)]
    assert shown == [25.0, 25.0, 26.0, 31.0]
    fine, _ = sensors.apply(readings(), at(event, 100 + 180), {}, np.array([0.1, 1.0]))
    assert fine["inlet_c"].tolist() == pytest.approx([25.3, 25.0])


def test_a_silent_sensor_shows_nothing_even_when_it_is_stuck() -> None:
    silent = SensorSilent(at_s=0.0, for_s=10.0, node="n1", gpu=2, quantity="temp_c")
    stuck = SensorStuck(at_s=0.0, node="n1", quantity="temp_c")
    faults = sensors.faults_at((silent, stuck), SERVERS, 5.0)
    shown, memory = sensors.apply(readings(61.0), faults, {})
    assert np.isnan(shown["temp_c"][0, 2])
    assert np.isnan(shown["temp_c"]).sum() == 1
    shown, _ = sensors.apply(readings(99.0), sensors.faults_at((silent, stuck), SERVERS, 10.0), memory)
    assert shown["temp_c"].tolist() == [[61.0] * 3, [99.0] * 3]


def test_two_who_look_at_a_worlds_sensors_see_the_same(make_world: Any) -> None:
    world = make_world(events=[{"kind": "sensor_stuck", "at_s": 2, "node": "n001", "gpu": 0, "quantity": "temp_c"}])
    instruments = Sensors(world)
    seen = []
    for _ in range(3):
        world.advance(world.now + timedelta(seconds=2))
        world.state.die_c[0, 0] += 5.0
        seen.append(float(instruments.gpus()["temp_c"][0, 0]))
        assert instruments.gpus()["temp_c"][0, 0] == seen[-1]
    assert seen[0] == seen[1] == seen[2] == np.rint(seen[0])
    bias = world.fleet.inlet_bias_share
    assert instruments.servers()["inlet_c"].tolist() == np.rint(world.state.inlet_c * (1.0 + bias)).tolist()
