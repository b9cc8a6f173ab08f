"""What goes wrong, and when."""

from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from twin import events, fleet
from twin.scenario import load

TOPOLOGY = fleet.build(load("normal"), 7).topology
NAMES = tuple(e.name for e in TOPOLOGY.endpoints)


def of(*tables: dict[str, Any]) -> events.Events:
    return load("normal", events=tables).events


def test_units_stand_still_as_long_as_said() -> None:
    some = of(
        {"kind": "ahu_lost", "at_s": 10, "for_s": 5, "unit": "ahu-2"},
        {"kind": "ups_lost", "at_s": 12, "unit": "ups-3"},
        {"kind": "pdu_lost", "at_s": 12, "unit": "pdu-4"},
        {"kind": "cooling_device_lost", "at_s": 12, "unit": "cooling-1"},
        {"kind": "chiller_restart", "at_s": 12, "for_s": 600, "unit": "chiller-2"},
    )
    assert not any(mask.any() for mask in events.down(some, TOPOLOGY, 9.99))
    found = events.down(some, TOPOLOGY, 12.0)
    lost = [[names[i] for i in np.flatnonzero(mask)] for names, mask in zip(events.units(TOPOLOGY), found, strict=True)]
    assert lost == [["ahu-2"], ["ups-3"], ["pdu-4"], ["cooling-1"], ["chiller-2"]]
    assert not events.down(some, TOPOLOGY, 15.0).ahus.any()
    late = events.down(some, TOPOLOGY, 1e9)
    assert late.upses.any()
    assert not late.chillers.any()


def test_the_short_keys_are_events_too() -> None:
    scenario = load("demo", ups_lost_after_s=50.0)
    found = events.down(scenario.happenings(), TOPOLOGY, 300.0)
    assert (found.ahus.tolist(), found.upses.tolist()) == ([True, False], [True, False, False, False])
    assert not events.down(scenario.happenings(), TOPOLOGY, 299.0).ahus.any()
    assert load("normal").happenings() == ()


def test_a_heat_wave_rises_and_falls() -> None:
    wave = of({"kind": "heat_wave", "at_s": 100, "for_s": 200, "peak_k": 8.0})
    seconds = np.array([0.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0])
    assert events.outside_k(wave, seconds) == pytest.approx([0, 0, 4, 8, 4, 0, 0], abs=1e-12)
    assert events.outside_k(wave * 2, seconds).max() == pytest.approx(16.0)


def test_spikes_and_crowds_multiply_demand() -> None:
    some = of(
        {"kind": "load_spike", "at_s": 10, "for_s": 10, "factor": 2.0},
        {"kind": "flash_crowd", "at_s": 0, "for_s": 100, "ramp_s": 20, "factor": 3.0, "endpoint": "chat-2"},
    )
    factor = events.demand_factor(some, NAMES, np.array([-1.0, 0.0, 5.0, 10.0, 19.9, 20.0, 50.0, 90.0, 100.0]))
    assert factor[:, 0] == pytest.approx([1, 1, 1, 2, 2, 1, 1, 1, 1])
    assert factor[:, 1] == pytest.approx([1, 1, 1.5, 4, 2 * 2.99, 3, 3, 2, 1])


@given(at_s=st.floats(0, 1e5), for_s=st.floats(10, 1e5), part=st.floats(0.001, 0.5), factor=st.floats(0, 10))
def test_a_crowd_stays_between_none_and_all(at_s: float, for_s: float, part: float, factor: float) -> None:
    crowd = of({"kind": "flash_crowd", "at_s": at_s, "for_s": for_s, "ramp_s": part * for_s, "factor": factor})
    seconds = np.linspace(at_s - 1.0, at_s + for_s + 1.0, 101)
    found = events.demand_factor(crowd, NAMES, seconds)
    assert found.min() >= min(1.0, factor) - 1e-12
    assert found.max() <= max(1.0, factor) + 1e-12
    assert (found[[0, -1]] == 1.0).all()


def test_sensors_and_exporters_fail_while_said() -> None:
    some = of(
        {"kind": "sensor_stuck", "at_s": 5, "for_s": 5, "node": "n001", "gpu": 7, "quantity": "temp_c"},
        {"kind": "sensor_drift", "at_s": 0, "node": "n002", "quantity": "inlet_c", "k_per_h": 6.0},
        {"kind": "exporter_outage", "at_s": 5, "for_s": 5, "exporter": "gpu"},
    )
    assert [type(e).__name__ for e in events.sensor_faults(some, 5.0)] == ["SensorStuck", "SensorDrift"]
    (drift,) = events.sensor_faults(some, 10.0)
    assert isinstance(drift, events.SensorDrift)
    assert events.drifted_k(drift, 1800.0) == pytest.approx(3.0)
    assert [events.exporters_out(some, t) for t in (4.9, 5.0, 10.0)] == [frozenset(), frozenset({"gpu"}), frozenset()]


def test_the_next_change_leads_through_all_of_them() -> None:
    some = of(
        {"kind": "ahu_lost", "at_s": 10, "for_s": 5, "unit": "ahu-2"},
        {"kind": "flash_crowd", "at_s": 12, "for_s": 100, "ramp_s": 20, "factor": 3.0},
        {"kind": "load_spike", "at_s": 50, "factor": 2.0},
    )
    moments, at_s = [], -1.0
    while (at_s := events.next_change_s(some, at_s)) < inf:
        moments.append(at_s)
    assert moments == [10, 12, 15, 32, 50, 92, 112]
    assert events.next_change_s((), 0.0) == inf


AT = {"at_s": 1, "node": "n001"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "fire"}, "events[0].kind = 'fire': must be one of ahu_lost, ups_lost"),
        ({}, "events[0].kind = None: must be one of"),
        ({"kind": "ahu_lost", "at_s": -1, "unit": "ahu-1"}, "events[0].at_s = -1: expected `float` >= 0.0"),
        ({"kind": "ahu_lost", "at_s": 1}, "events[0]: Object missing required field `unit`"),
        ({"kind": "ahu_lost", "at_s": 1, "for_s": 0, "unit": "ahu-1"}, "events[0].for_s = 0"),
        ({"kind": "ahu_lost", "at_s": 1, "unit": "ahu-9"}, "events[0].unit = 'ahu-9': there are ahu-1, ahu-2"),
        ({"kind": "ups_lost", "at_s": 1, "unit": "ahu-1"}, "events[0].unit = 'ahu-1': there are ups-1"),
        ({"kind": "chiller_restart", "at_s": 1, "for_s": 10, "unit": "chiller-1"}, "events[0].for_s = 10"),
        ({"kind": "heat_wave", "at_s": 1, "peak_k": 3}, "missing required field `for_s`"),
        ({"kind": "heat_wave", "at_s": 1, "for_s": 9, "peak_k": 99}, "events[0].peak_k = 99"),
        ({"kind": "load_spike", "at_s": 1, "factor": -1}, "events[0].factor = -1"),
        ({"kind": "load_spike", "at_s": 1, "factor": 2, "endpoint": "x"}, "events[0].endpoint = 'x': there are chat-1"),
        ({"kind": "flash_crowd", "at_s": 1, "for_s": 9, "ramp_s": 5, "factor": 2}, "events[0].ramp_s = 5.0: must be at most"),
        ({"kind": "sensor_stuck", "at_s": 1, "node": "n999", "quantity": "inlet_c"}, "events[0].node = 'n999': no such server"),
        ({"kind": "sensor_stuck", **AT, "quantity": "colour"}, "events[0].quantity = 'colour'"),
        ({"kind": "sensor_silent", **AT, "gpu": 8, "quantity": "temp_c"}, "events[0].gpu = 8: n001 has GPUs 0 to 7"),
        ({"kind": "sensor_silent", **AT, "gpu": 0, "quantity": "inlet_c"}, "events[0].gpu = 0: inlet_c is the server's"),
        ({"kind": "sensor_drift", **AT, "quantity": "power_w", "k_per_h": 1}, "events[0].quantity = 'power_w'"),
        ({"kind": "exporter_outage", "at_s": 1, "exporter": "nvml"}, "events[0].exporter = 'nvml'"),
    ],
)
def test_an_event_that_cannot_be_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        fleet.build(load("normal", events=[table]), 7)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
