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
    for topic, per_moment in (("server", 80), ("endpoints", 40), ("facility", 2 + 4 + 4 + 2 + 1 + 4 + 3 + 1)):
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
    kind, power, air = (np.asarray(last[name], dtype=object) for name in ("kind", "power_w", "airflow_cfm"))
    newest = np.asarray(last["ts"]) == np.asarray(last["ts"]).max()
    rows_now = world.row_power(0).mean(axis=0)
    assert power[newest & (kind == "row")].tolist() == pytest.approx(rows_now.tolist(), rel=0.02)
    shares = world.ledger.part_share
    carried = power[newest & np.isin(kind, ["pdu", "ups"])].astype(float)
    assert carried == pytest.approx(shares @ rows_now, rel=0.02)
    assert air[newest & (kind == "aisle")].tolist() == pytest.approx(world.state.airflow_cfm.tolist(), rel=0.03)
    inlet = joined(rows, "server", "inlet_c")[-80:]
    assert np.abs(inlet - world.state.inlet_c).mean() < 1.2
    hottest = joined(rows, "server", "gpu_max_c")[-80:]
    assert np.abs(hottest - world.state.die_c.max(axis=1)).mean() < 2.0
    server = joined(rows, "server", "power_w")[-80:]
    assert np.corrcoef(server, world.state.server_w)[0, 1] > 0.98


def test_a_servers_instances_are_one_row_and_agree_with_the_exact_engine(workload: Workload) -> None:
    small: dict[str, Any] = {"servers_per_row": 8, "endpoints": 2, "high_priority_endpoints": 1, "demand_sd": 0.0, "tp": 4}
    scenario = load("normal", **small)
    end = scenario.start + timedelta(seconds=900)
    ours = list(past.rollups(scenario, workload, end, days=900 / 86_400, seed=3))
    world = World(scenario, workload, 3)
    inst = world.serving.s.inst
    world.advance(end)
    running = joined(ours, "endpoints", "running")
    assert len(running) == 15 * 8
    assert running.mean() == pytest.approx(2 * inst["batch_s"].mean() / 900, rel=0.06)
    asked = joined(ours, "endpoints", "requests_rps").sum() * 60
    assert asked == pytest.approx(inst["arrived"].sum(), rel=0.02)
    assert joined(ours, "endpoints", "output_tok_s").sum() * 60 == pytest.approx(inst["made_tokens"].sum(), rel=0.03)
    gpu_w = joined(ours, "server", "gpu_power_w").reshape(15, 16).mean(axis=0).sum()
    assert gpu_w * 900 == pytest.approx(world.state.energy_j.sum(), rel=0.01)


def test_a_site_that_only_serves_nobody_has_a_past(workload: Workload) -> None:
    scenario = load("normal", saas_share=0.0, servers_per_row=4)
    ours = list(past.rollups(scenario, workload, scenario.start, days=0.05, seed=3))
    assert {r.topic: r.rows() > 0 for r in ours} == {"server": True, "facility": True, "endpoints": False}


def test_the_same_seed_gives_the_same_past(workload: Workload) -> None:
    scenario = load("demo")
    one, two = (list(past.rollups(scenario, workload, scenario.start, days=0.25, seed=7)) for _ in range(2))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert all(np.array_equal(np.asarray(a.columns[n]), np.asarray(b.columns[n])) for n in a.columns)
