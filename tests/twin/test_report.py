"""What a run's report says of its requests, against the requests themselves; what watches a run, against the run."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from twin.classes import CLASSES, classify
from twin.report import Cost, Latency, Report, report
from twin.watch import Map, Series, said, sample_s
from twin.world import World

RUN_S = 180
COST = Cost(cpu_s=1.0, startup_cpu_s=2.0, wall_s=3.0, rss_mib=4.0)


def lived(world: World, seconds: int = RUN_S) -> World:
    world.advance(world.scenario.start + timedelta(seconds=seconds))
    return world


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return lived(make_world())


def latencies(r: Report) -> dict[tuple[str, str], Latency]:
    return {(one.endpoint, one.request_class): one for one in r.latencies}


def test_latencies_are_those_of_the_requests(world: World) -> None:
    found = latencies(report(world, COST))
    ended = world.ended_after(0)
    assert found["all", "all"].requests == len(ended) == report(world, COST).requests
    names = [e.name for e in world.topology.endpoints]
    of_class = classify(ended["prompt"], ended["output"])
    for (endpoint, label), one in found.items():
        mine = np.ones(len(ended), dtype=np.bool_)
        if endpoint != "all":
            mine &= ended["endpoint"] == names.index(endpoint)
        if label != "all":
            mine &= of_class == CLASSES.index(label)
        ttft_s = (ended["first_s"] - ended["arrival_s"])[mine]
        assert one.requests == mine.sum()
        assert one.slo_ok == pytest.approx(ended["ok"][mine].mean())
        assert one.ttft_mean_s == pytest.approx(ttft_s.mean())
        # A quantile read off the histogram lies within a bin of one of its neighbours.
        low, high = (np.quantile(ttft_s, 0.5, method=way) for way in ("lower", "higher"))
        assert one.ttft_p50_s is not None
        assert low * 0.968 <= one.ttft_p50_s <= high * 1.032


def test_a_report_holds_run_and_cost(world: World) -> None:
    r = report(world, COST)
    assert (r.cpu_s, r.startup_cpu_s, r.wall_s, r.rss_mib) == (1.0, 2.0, 3.0, 4.0)
    assert (r.servers, r.rows, r.gpus, r.seed, r.step_s) == (16, 2, 128, 3, 1)
    assert r.gpu_seconds == 128 * RUN_S == r.gpus * r.simulated_s


def test_without_requests_there_are_no_latencies(make_world: Callable[..., World]) -> None:
    r = report(lived(make_world(saas_share=0.0), 10), COST)
    assert (r.requests, r.latencies, r.slo_ok) == (0, (), 1.0)


def test_the_map_sees_every_second_of_row_power(make_world: Callable[..., World]) -> None:
    world = make_world()
    watched = Map(world)
    for second in range(10, RUN_S + 1, 10):
        watched.take(lived(world, second))
    f = watched.frames()
    power = world.row_power(0)
    assert f.samples.sum() == RUN_S
    assert f.row_max_w.max(axis=0) == pytest.approx(power.max(axis=0))
    assert np.average(f.row_w, axis=0, weights=f.samples) == pytest.approx(power.mean(axis=0))
    assert (f.row_max_w / f.row_limit_w).max() == pytest.approx(report(world, COST).max_row_power_ratio)


def test_the_series_closes_its_last_minute_early(make_world: Callable[..., World]) -> None:
    world = make_world()
    series = Series(world)
    for second in (30, 60, 90):
        series.take(lived(world, second))
    columns = series.columns()
    power = world.row_power(0)
    start = np.datetime64(world.scenario.start.replace(tzinfo=None), "s")
    assert [int(s) for s in (np.asarray(columns["ts"]) - start) / np.timedelta64(1, "s")] == [60, 60, 90, 90]
    assert columns["row"] == ["row-1", "row-2"] * 2
    wanted = np.concatenate([power[:60].mean(axis=0), power[60:].mean(axis=0)])
    assert columns["power_w"] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("run_s", "each_s"), [(60, 1), (1200, 5), (3600, 10), (86_400, 60), (604_800, 60)])
def test_samples_are_parts_of_a_minute(run_s: float, each_s: int) -> None:
    assert sample_s(run_s) == each_s
    assert 60 % each_s == 0


def test_every_kind_of_event_can_be_said(make_world: Callable[..., World]) -> None:
    events = (
        {"kind": "ahu_lost", "unit": "ahu-1", "at_s": 1},
        {"kind": "chiller_restart", "unit": "chiller-1", "at_s": 1},
        {"kind": "heat_wave", "peak_k": 9, "at_s": 1, "for_s": 60},
        {"kind": "load_spike", "factor": 2, "at_s": 1},
        {"kind": "flash_crowd", "factor": 3, "ramp_s": 5, "endpoint": "chat-1", "at_s": 1},
        {"kind": "sensor_stuck", "node": "n001", "quantity": "inlet_c", "at_s": 1},
        {"kind": "sensor_drift", "node": "n001", "quantity": "temp_c", "k_per_h": 2, "at_s": 1},
        {"kind": "sensor_silent", "node": "n001", "quantity": "power_w", "at_s": 1},
        {"kind": "exporter_outage", "exporter": "gpu", "at_s": 1},
    )
    world = make_world(events=events)
    assert [said(event) for event in world.scenario.happenings()] == [
        "ahu-1 lost",
        "chiller-1 restarts",
        "heat wave: up to 9 K warmer outside",
        "load x 2 on all endpoints",
        "a crowd: load x 3 on chat-1",
        "inlet_c of n001 stuck",
        "temp_c of n001 drifts by 2 K/h",
        "power_w of n001 silent",
        "exporter gpu silent",
    ]
