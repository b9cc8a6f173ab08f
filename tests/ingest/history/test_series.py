"""Series by hand: each target from each of its sources, intervals closed at their end, gaps left as gaps."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.errors import HistoryError
from ingest.history.series import TARGETS
from ingest.history.store import History
from tests.factories import NOW, make_topology
from tests.ingest.history.conftest import fill
from tests.ingest.history.logs import Log, ago, naive

Values = dict[tuple[str, int], float]


def values(history: History, target: str, *, as_of: datetime = NOW, since: datetime | None = None, step_s: int = 60) -> Values:
    """(series, seconds from NOW to the interval's end) -> value."""
    frame = history.series(target, as_of=as_of, since=since or ago(600), step_s=step_s)
    assert frame.columns == ["ts", "series", "value"]
    assert frame.equals(frame.sort("series", "ts"))
    return {(s, int((ts - naive(NOW)).total_seconds())): v for ts, s, v in frame.iter_rows()}


def log_of(topic: str, rows: list[dict[str, Any]], delay_s: float = 1.0) -> Log:
    """One record a row; `t` is the row's time in seconds from NOW."""
    log = Log()
    for row in rows:
        at = NOW + timedelta(seconds=row["t"])
        columns = {"ts": [at]} | {k: [v] for k, v in row.items() if k != "t"}
        log.rows(topic, columns, at + timedelta(seconds=delay_s))
    return log


def test_an_interval_is_closed_at_its_end(history: History) -> None:
    seen = [(-120, 10.0), (-119.9, 20.0), (-60, 30.0), (-59, 50.0)]
    fill(history, log_of("server", [{"t": t, "node": "a", "inlet_c": c} for t, c in seen]))
    assert values(history, "inlet") == {("a", -120): 10.0, ("a", -60): 25.0, ("a", 0): 50.0}


def test_intervals_before_since_and_after_as_of_are_left_out(history: History) -> None:
    fill(history, log_of("server", [{"t": t, "node": "a", "inlet_c": 20.0} for t in range(-300, 1, 10)]))
    found = values(history, "inlet", as_of=ago(30), since=ago(200))
    assert sorted(found) == [("a", -120), ("a", -60)]  # -180 began before since, 0 has not ended
    assert values(history, "inlet", as_of=ago(30), since=ago(40)) == {}


def test_backfilled_and_live_rows_stand_side_by_side(history: History) -> None:
    rows: list[dict[str, Any]] = [{"t": -600, "node": "a", "inlet_c": 20.0, "backfilled": True}]
    rows += [{"t": -300, "node": "a", "inlet_c": 21.0, "backfilled": True}]
    rows += [{"t": t, "node": "a", "inlet_c": 24.0 + (t % 2)} for t in range(-20, 0)]
    fill(history, log_of("server", rows))
    found = values(history, "inlet", as_of=NOW + timedelta(seconds=2), since=ago(1200), step_s=300)
    assert found == {("a", -600): 20.0, ("a", -300): 21.0, ("a", 0): 24.5}
    # the minute that a back-filled row takes to arrive
    assert values(history, "inlet", as_of=ago(241), since=ago(1200), step_s=300) == {("a", -600): 20.0}


def test_gpu_series_come_from_the_servers_gauge_or_from_the_gpus(history: History) -> None:
    log = log_of("server", [{"t": -10, "node": "a", "gpu_max_c": 70.0, "gpu_power_w": 3000.0}, {"t": -10, "node": "b"}])
    at = ago(10)
    log.rows(
        "gpu",
        {
            "ts": [at] * 4 + [ago(5)] * 2,
            "node": ["a", "b", "b", "b", "b", "b"],
            "gpu": [0, 0, 1, 2, 0, 1],
            "temp_c": [99.0, 60.0, 80.0, None, 62.0, 70.0],
            "power_w": [9.0, 400.0, 500.0, None, 420.0, 500.0],
        },
        at,
    )
    fill(history, log)
    assert values(history, "gpu_temp") == {("a", 0): 70.0, ("b", 0): 75.0}
    assert values(history, "gpu_power") == {("a", 0): 3000.0, ("b", 0): 910.0}


def test_row_power_is_the_meters_or_the_sum_of_all_servers(history: History) -> None:
    log = Log()
    topology = make_topology(servers_per_row=2)
    log.record("state", topology, ago(900), key="topology")
    for t, powers in [(-70, (1.0, 2.0, 3.0, 4.0)), (-10, (5.0, 6.0, 7.0, None))]:
        at = NOW + timedelta(seconds=t)
        log.rows("server", {"ts": [at] * 4, "node": [s.name for s in topology.servers], "power_w": powers}, at)
    log.rows("facility", {"ts": [ago(10)], "kind": ["row"], "unit": ["row-0"], "power_w": [100.0]}, ago(9))
    fill(history, log)
    found = values(history, "power")
    # row-0: the meter where it spoke, the sum before; row-1: no sum while one server is silent
    assert found == {("row-0", -60): 3.0, ("row-0", 0): 100.0, ("row-1", -60): 7.0}


def test_load_sums_instances_and_counts_requests_where_there_are_no_gauges(history: History) -> None:
    log = log_of(
        "endpoints",
        [
            {"t": -10, "endpoint": "chat", "node": "a", "requests_rps": 2.0},
            {"t": -10, "endpoint": "chat", "node": "b", "requests_rps": 4.0},
            {"t": -5, "endpoint": "chat", "node": "b", "requests_rps": 6.0},
            {"t": -5, "endpoint": "mute", "node": "c", "running": 1.0},
        ],
    )
    asked = [(-170, "mute", None), (-100, "other", 3.0), (-20, "mute", 59.0), (-10, "mute", None), (-10, "chat", 1000.0)]
    for i, (t, endpoint, weight) in enumerate(asked):
        at = NOW + timedelta(seconds=t)
        log.rows("requests", {"ts": [at], "request_id": [str(i)], "endpoint": [endpoint], "weight": [weight]}, at)
    fill(history, log)
    assert values(history, "load") == {
        ("chat", 0): 7.0,
        ("mute", -120): 1 / 60,
        ("mute", -60): 0.0,  # others were logged, this one had none
        ("mute", 0): 1.0,
        ("other", -60): 0.05,
        ("other", 0): 0.0,
    }


def test_the_sites_air(history: History) -> None:
    log = Log()
    columns: dict[str, list[Any]] = {
        "ts": [ago(10)] * 3,
        "kind": ["aisle", "site", "row"],
        "unit": ["aisle-0", "north", "row-0"],
        "airflow_cfm": [5000.0, None, None],
        "outside_c": [None, 31.0, None],
        "power_w": [None, None, 1.0],
    }
    log.rows("facility", columns, ago(9))
    fill(history, log)
    assert values(history, "airflow") == {("aisle-0", 0): 5000.0}
    assert values(history, "outside") == {("site", 0): 31.0}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_recorded_is_an_empty_frame(history: History, target: str) -> None:
    frame = history.series(target, as_of=NOW, since=ago(3600))
    assert frame.is_empty()
    assert frame.columns == ["ts", "series", "value"]


def test_request_classes_come_from_the_log_beside_the_endpoints_gauges(history: History) -> None:
    log = log_of(
        "endpoints",
        [{"t": -10, "endpoint": "chat", "node": "a", "requests_rps": 2.0, "prompt_tok_s": 900.0, "output_tok_s": 70.0}],
    )
    asked = [(-100, 100, 20, None), (-20, 100, 20, 6.0), (-15, 300, 500, None), (-10, 5_000, 99, 3.0), (-5, None, 1, None)]
    for i, (t, prompt, output, weight) in enumerate(asked):
        at = NOW + timedelta(seconds=t)
        columns: dict[str, list[Any]] = {"prompt_tokens": [prompt], "output_tokens": [output], "weight": [weight]}
        log.rows("requests", {"ts": [at], "request_id": [str(i)], "endpoint": ["chat"], **columns}, at)
    fill(history, log)
    load = values(history, "load", since=ago(120))
    assert load == {
        ("chat", 0): 2.0,
        ("chat/SS", -60): 1 / 60,
        ("chat/SS", 0): 0.1,
        ("chat/ML", 0): 1 / 60,
        ("chat/LS", 0): 0.05,
    }
    assert values(history, "prompt_tok", since=ago(60)) == {
        ("chat", 0): 900.0,
        ("chat/SS", 0): 10.0,
        ("chat/ML", 0): 5.0,
        ("chat/LS", 0): 250.0,
    }
    assert values(history, "output_tok", since=ago(60))[("chat/ML", 0)] == pytest.approx(500 / 60)


def test_upses_and_single_gpus(history: History) -> None:
    log = log_of("facility", [{"t": -10, "kind": "ups", "unit": "ups-0", "power_w": 5e5}])
    at = ago(10)
    log.rows("gpu", {"ts": [at] * 2, "node": ["a", "a"], "gpu": [0, 11], "temp_c": [60.0, 61.0]}, at)
    fill(history, log)
    assert values(history, "ups_power") == {("ups-0", 0): 5e5}
    assert values(history, "gpu_temp_each") == {("a/0", 0): 60.0, ("a/11", 0): 61.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"target": "luck"}, "unknown target 'luck': there are load, prompt_tok", id="target"),
        pytest.param({"as_of": naive(NOW)}, "both need a time zone", id="naive"),
        pytest.param({"step_s": 0}, "step_s = 0: must be 1 to 86400", id="step"),
    ],
)
def test_wrong_questions_are_named(history: History, given: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"target": "inlet", "as_of": NOW, "since": ago(600), "step_s": 300} | given
    with pytest.raises(HistoryError, match=message):
        history.series(asked.pop("target"), **asked)
