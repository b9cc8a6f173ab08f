from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from contracts.ports import Collected
from contracts.schemas import SCHEMAS
from contracts.workload import Workload
from twin import past
from twin.scenario import load
from twin.world import World


@pytest.fixture(scope="module")
def rows(workload: Workload) -> list[Collected]:
    scenario = load("demo")
    return list(past.rollups(scenario, workload, scenario.start, days=2.0, seed=7))


def joined(rows: list[Collected], topic: str, name: str) -> Any:
    return np.concatenate([np.asarray(r.columns[name]) for r in rows if r.topic == topic])


def test_every_topic_covers_the_days_without_gap_or_overlap(rows: list[Collected]) -> None:
    start = np.datetime64(load("demo").start.replace(tzinfo=None), "us")
    for topic, per_moment in (("server", 80), ("endpoints", 40), ("facility", 2 + 1 + 2 + 4 + 1)):
        moments, counts = np.unique(joined(rows, topic, "ts"), return_counts=True)
        assert set(counts.tolist()) == {per_moment}
        steps = np.diff(moments).astype("timedelta64[s]").astype(int)
        assert (steps[:-180] == 300).all()
        assert (steps[-179:] == 60).all()
        assert moments[-1] == start
        assert moments[0] == start - np.timedelta64(2 * 86_400 - 300, "s")
        assert joined(rows, topic, "backfilled").all()


def test_values_are_possible_and_columns_declared(rows: list[Collected]) -> None:
    for frame in rows:
        for name, column in frame.columns.items():
            declared = SCHEMAS[frame.topic].column(name)
            assert len(column) == frame.rows()
            numbers = [v for v in np.asarray(column).tolist() if isinstance(v, float)]
            if numbers and declared.low is not None and declared.high is not None:
                assert declared.low <= min(numbers)
                assert max(numbers) <= declared.high


def test_the_past_runs_into_the_worlds_first_minute(rows: list[Collected], workload: Workload) -> None:
    scenario = load("demo")
    world = World(scenario, workload, 7)
    world.advance(scenario.start + timedelta(seconds=60))
    last = [r for r in rows if r.topic == "facility"][-1].columns
    unit, power, air = (np.asarray(last[name], dtype=object) for name in ("unit", "power_w", "airflow_cfm"))
    rows_now = world.row_power(0).mean(axis=0)
    for r in range(2):
        assert power[unit == f"row-{r + 1}"][-1] == pytest.approx(rows_now[r], rel=0.02)
    assert air[unit == "aisle-1"][-1] == pytest.approx(world.state.airflow_cfm[0], rel=0.03)
    inlet = joined(rows, "server", "inlet_c")[-80:]
    assert np.abs(inlet - world.state.inlet_c).mean() < 1.2
    server = joined(rows, "server", "power_w")[-80:]
    assert np.corrcoef(server, world.state.server_w)[0, 1] > 0.98


def test_settled_serving_agrees_with_simulated(make_world: Callable[..., World], workload: Workload) -> None:
    """Little's law against the event loop: batch, and the power that follows from it."""
    world = make_world(demand_sd=0.0, warm_s=60)
    end = world.scenario.start + timedelta(seconds=900)
    settled = [r for r in past.rollups(world.scenario, workload, end, days=900 / 86_400, seed=3) if r.topic == "endpoints"]
    running, watts = [], []
    for _ in range(60):
        world.advance(world.now + timedelta(seconds=15))
        inst = world.serving.s.inst
        running.append((inst["decoding"] + inst["fresh"]).mean())
        watts.append(world.state.gpu_w[world.fleet.endpoint >= 0].mean())
    assert np.mean(running) == pytest.approx(np.mean([np.mean(np.asarray(r.columns["running"])) for r in settled]), rel=0.15)
    assert 450.0 < np.mean(watts) < 600.0


def test_the_same_seed_gives_the_same_past(workload: Workload) -> None:
    scenario = load("demo")
    one, two = (list(past.rollups(scenario, workload, scenario.start, days=0.25, seed=7)) for _ in range(2))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert all(np.array_equal(np.asarray(a.columns[n]), np.asarray(b.columns[n])) for n in a.columns)
