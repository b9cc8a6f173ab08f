from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from contracts.ports import Collected
from contracts.schemas import SCHEMAS
from twin.exporters import ExporterSettings, exporters
from twin.world import World

Maker = Callable[..., World]
ROWS = {"gpu": 128, "server": 16, "facility": 2 + 4 + 2 + 1 + 1, "endpoints": 8}


def values(column: Any) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def check(frame: Collected) -> None:
    """Every column is declared, of one length, within its range; required ones have no gap."""
    schema = SCHEMAS[frame.topic]
    for name, column in frame.columns.items():
        declared = schema.column(name)
        assert len(column) == frame.rows(), name
        for value in values(column):
            if value is None:
                assert not declared.required, name
            elif declared.dtype in {"f32", "f64", "i16", "i32", "i64"}:
                assert np.isfinite(value), name
                assert declared.low is None or value >= declared.low, name
                assert declared.high is None or value <= declared.high, name
            elif declared.dtype == "str":
                assert isinstance(value, str), name
    assert {c.name for c in schema.columns if c.required} <= frame.columns.keys()


def collect(world: World, made: list[Any]) -> dict[str, Collected]:
    return {frame.topic: frame for e in made for frame in e.collect(world.now)}


@pytest.fixture
def world(make_world: Maker) -> World:
    return make_world(aisle_limit_cfm=12e3, ahu_lost_after_s=20.0, ups_lost_after_s=25.0)


def test_frames_are_whole_and_in_range(world: World) -> None:
    made = exporters(world)
    assert collect(world, made) == {}
    world.advance(world.now + timedelta(seconds=10))
    frames = collect(world, made)
    assert frames.keys() == {"gpu", "server", "facility", "requests", "endpoints"}
    for frame in frames.values():
        check(frame)
    assert {topic: frames[topic].rows() for topic in ROWS} == ROWS
    assert all(set(values(f.columns["ts"])) == {world.now.replace(tzinfo=None)} for t, f in frames.items() if t != "requests")
    assert set(frames["server"].columns["node"]) == {s.name for s in world.topology.servers}
    assert collect(world, made) == {}, "nothing new, nothing said"


def test_facility_tells_power_air_and_what_is_lost(world: World) -> None:
    made = exporters(world)
    for _ in range(2):
        world.advance(world.now + timedelta(seconds=15))
        frames = collect(world, made)
    columns = frames["facility"].columns
    rows = {(k, u): i for i, (k, u) in enumerate(zip(columns["kind"], columns["unit"], strict=True))}
    power = np.array([w for second, w in world.row_power if second > 15])
    assert columns["power_w"][rows["row", "row-1"]] == pytest.approx(power[:, 0].mean())
    assert columns["power_max_w"][rows["row", "row-2"]] == power[:, 1].max()
    assert columns["state"][rows["ahu", "ahu-1"]] == "lost"
    assert columns["state"][rows["ahu", "ahu-2"]] == "ok"
    assert columns["power_w"][rows["ups", "ups-1"]] == 0.0
    assert columns["power_w"][rows["ups", "ups-2"]] == pytest.approx(power.sum(axis=1).mean() / 3)
    assert columns["airflow_cfm"][rows["aisle", "aisle-1"]] == world.state.airflow_cfm[0]
    assert columns["outside_c"][rows["site", "normal"]] == pytest.approx(35.0, abs=0.5)


def test_sampled_requests_weigh_as_much_as_all(world: World) -> None:
    made = exporters(world, ExporterSettings(request_sample=7))
    weight, ids = 0.0, []
    for _ in range(40):
        world.advance(world.now + timedelta(seconds=3))
        frame = collect(world, made)["requests"]
        weight += sum(values(frame.columns["weight"]))
        ids += values(frame.columns["request_id"])
    assert len(set(ids)) == len(ids)
    assert 0 <= weight - world.score().requests < 7


def test_gauges_add_up_to_what_the_instances_did(world: World) -> None:
    made = exporters(world)
    arrived = output = 0.0
    for _ in range(12):
        world.advance(world.now + timedelta(seconds=5))
        columns = collect(world, made)["endpoints"].columns
        arrived += 5 * sum(values(columns["requests_rps"]))
        output += 5 * sum(values(columns["output_tok_s"]))
    assert arrived == pytest.approx(world.work.arrived.sum())
    assert output == pytest.approx(world.work.output_tokens.sum())


def test_temperatures_come_in_whole_degrees_near_the_truth(world: World) -> None:
    made = exporters(world)
    world.advance(world.now + timedelta(seconds=10))
    columns = collect(world, made)["gpu"].columns
    shown = np.array(columns["temp_c"])
    assert (shown == np.rint(shown)).all()
    assert np.abs(shown - world.state.die_c.ravel()).max() < 3.0
    assert columns["energy_j"][0] == pytest.approx(world.state.energy_j[0, 0])


def test_a_gpu_that_shut_down_is_lost_and_its_values_are_absent(world: World) -> None:
    made = exporters(world)
    world.state.down[2, 5] = True
    world.advance(world.now + timedelta(seconds=5))
    frame = collect(world, made)["gpu"]
    check(frame)
    at = 2 * 8 + 5
    assert frame.columns["state"][at] == "lost"
    assert frame.columns["power_w"][at] is None
    assert frame.columns["power_w"][at + 1] > 0


def test_reasons_name_slowdown_cap_and_brake(world: World) -> None:
    made = exporters(world)
    world.caps.command(0, (1,), 1200.0, 0.0)
    world.caps.command(0, (2,), 288.0, 0.0)
    world.state.slow[0, 3] = True
    world.state.die_c[0, 3] = world.state.sink_c[0, 3] = 86.0
    world.advance(world.now + timedelta(seconds=1))
    columns = collect(world, made)["gpu"].columns
    reasons, clocks = values(columns["clock_event_reasons"]), values(columns["sm_clock_mhz"])
    assert [r & 0x2 for r in reasons[:4]] == [0, 0x2, 0, 0]
    assert reasons[2] & 0x88 == 0x88
    assert reasons[3] & 0x48 == 0x48
    assert clocks[:4] == [1980.0, 1200.0, 288.0, 990.0]


def test_periods_are_checked() -> None:
    import msgspec

    with pytest.raises(msgspec.ValidationError, match="gpu_period_s"):
        msgspec.convert({"gpu_period_s": 0}, ExporterSettings)
