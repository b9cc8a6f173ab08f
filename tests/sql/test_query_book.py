"""The SRE's query book and the views, on the small story of one capped node."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import sql
from ingest.history.frames import micro_batch
from ingest.history.store import History
from tests.factories import NOW
from tests.ingest.history.logs import CLUSTER, Log, naive, story

BOOK = (
    *("hottest", "capped", "cap_story", "headroom", "forecast_error", "slo_misses", "energy_per_mtok", "rejected"),
    *("node_story", "peak_hours"),
)
NEEDED = {"cap_story": {"node": "r1s1"}, "node_story": {"node": "r1s1"}}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with History(tmp_path_factory.mktemp("book") / "history.duckdb", CLUSTER) as opened:
        opened.append(micro_batch(story().records, lambda wall: wall))
        yield opened


def answer(told: History, name: str, **given: Any) -> list[dict[str, Any]]:
    question = sql.query(name)
    return told.query(question.text, question.bind(NEEDED.get(name, {}) | given)).to_dicts()


@pytest.mark.parametrize("name", sql.names("queries"))
def test_every_query_says_what_it_answers(name: str) -> None:
    question = sql.query(name)
    assert question.title
    assert all(p.doc for p in question.parameters)


@pytest.mark.parametrize("name", sql.names("queries"))
def test_every_query_fits_the_tables_and_declares_its_parameters(told: History, name: str) -> None:
    question = sql.query(name)
    assert told.query(f"EXPLAIN {question.text}", dict.fromkeys((p.name for p in question.parameters), "1")).height == 1


@pytest.mark.parametrize("name", BOOK)
def test_every_question_of_the_book_is_answered(told: History, name: str) -> None:
    assert answer(told, name)


@pytest.mark.parametrize("name", BOOK)
def test_every_question_can_be_asked_of_an_empty_history(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    with History(tmp_path_factory.mktemp("empty") / "history.duckdb", CLUSTER) as history:
        assert answer(history, name) == []


def test_hottest_is_nearest_to_slowdown(told: History) -> None:
    rows = answer(told, "hottest", n=2)
    assert [(r["node"], r["gpu_max_c"], r["margin_k"]) for r in rows] == [("r1s3", 67.0, 20.0), ("r1s2", 66.0, 21.0)]


def test_capped_shows_what_is_in_force(told: History) -> None:
    (cap,) = answer(told, "capped")
    assert (cap["node"], cap["max_mhz"], cap["outcome"], cap["renewals"]) == ("r1s1", 1305.0, "applied", 1)


def test_cap_story_joins_forecast_and_power(told: History) -> None:
    (story_,) = answer(told, "cap_story")
    assert story_["forecast_id"] == "f-1"
    assert (story_["predicted"], story_["predicted_for"]) == (33_000.0, naive(NOW + timedelta(minutes=14)))
    assert (story_["before_w"], story_["after_w"], story_["after_max_w"]) == (29_000.0, 26_000.0, 26_400.0)
    assert [r["action_id"] for r in answer(told, "cap_story", node="%")] == ["a-1", "a-3"]


def test_a_lifted_cap_says_so(told: History) -> None:
    row = told.query("SELECT ended_as, ended_at, forecast_ids FROM caps WHERE action_id = 'a-3'").row(0)
    assert row == ("reverted", naive(NOW - timedelta(seconds=200)), [])


def test_headroom_now_and_ahead(told: History) -> None:
    rows = {r["row"]: r for r in answer(told, "headroom")}
    assert (rows["row-1"]["headroom_w"], rows["row-1"]["headroom_1h_w"]) == (4_000.0, -3_000.0)
    assert (rows["row-0"]["headroom_w"], rows["row-0"]["headroom_1h_w"]) == (10_000.0, None)
    assert answer(told, "headroom", level=0.5)[0]["headroom_1h_w"] == 1_500.0


def test_forecast_error_by_target_model_and_horizon(told: History) -> None:
    (row,) = answer(told, "forecast_error")
    assert (row["target"], row["model"], row["horizon"], row["forecasts"]) == ("power", "ridge", "5 min", 1)
    # median 28 kW for 14:04; the interval that ended at 14:05 had 26 kW: below the 5 % quantile, below the 99 % one
    assert (row["mean_error"], row["bias"], row["coverage_90_pct"], row["below_99_pct"]) == (2_000.0, -2_000.0, 0.0, 100.0)


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[History]:
    """The forecaster's own record: two counts of one class, a choice that changed, jobs, absences."""
    log, both = Log(), {"target": ["power"] * 2, "kind": ["smooth"] * 2}
    for ago_s, points in ((3_600, 10), (0, 20)):
        at = NOW - timedelta(seconds=ago_s)
        names: dict[str, list[Any]] = {"model": ["champion", "ridge"], "champion": [True, False]}
        columns: dict[str, list[Any]] = {"horizon_s": [900] * 2, "points": [points] * 2, **names}
        log.rows("forecast_scores", {"ts": [at] * 2, **both, **columns, "mae": [9.0, 8.0], "coverage_90": [0.9, 0.8]}, at)
    named: dict[str, list[Any]] = {"band": ["short"] * 2, "model": ["ridge"] * 2, "reason": ["kept", "better"]}
    lists: dict[str, list[Any]] = {"models": [["ridge"]] * 2, "ratios": [[0.9]] * 2}
    log.rows("forecast_choices", {"ts": [NOW] * 2, **both, **named, **lists}, NOW)
    status: dict[str, list[Any]] = {"status": ["ok", "failed"], "took_s": [1.0, 3.0], "detail": [None, "worker died"]}
    log.rows("forecast_jobs", {"ts": [NOW] * 2, "job": ["tick"] * 2, **status}, NOW)
    for ago_s, reason in ((60, "too few points"), (0, None)):
        at = NOW - timedelta(seconds=ago_s)
        log.rows("forecast_absent", {"ts": [at], "target": ["load"], "series": ["chat"], "reason": [reason]}, at)
    log.rows("forecast_absent", {"ts": [NOW], "target": ["inlet"], "series": [None], "reason": ["no series is known"]}, NOW)
    with History(tmp_path / "history.duckdb", CLUSTER) as history:
        history.append(micro_batch([*story().records, *log.records], lambda wall: wall))
        yield history


def test_the_forecasters_record_answers_who_how_good_what_ran_and_what_is_missing(judged: History) -> None:
    skill = answer(judged, "forecast_skill", target="pow%")
    assert [(r["model"], r["points"], r["coverage_90_pct"]) for r in skill] == [("champion", 20, 90.0), ("ridge", 20, 80.0)]
    assert [r["reason"] for r in answer(judged, "forecast_choices")] == ["better"]
    (job,) = answer(judged, "forecast_jobs")
    assert (job["job"], job["runs"], job["not_ok"], job["longest_s"], job["last_trouble"]) == ("tick", 2, 1, 3.0, "worker died")
    assert [(r["target"], r["series"]) for r in answer(judged, "forecast_absent")] == [("inlet", None)]


def test_slo_misses_count_what_rows_stand_for(told: History) -> None:
    (row,) = answer(told, "slo_misses")
    assert (row["requests"], row["missed"], row["not_served"]) == (68.0, 67.0, 1.0)  # 2 late, 1 rejected, 64 slow


def test_energy_per_million_tokens(told: History) -> None:
    rows = answer(told, "energy_per_mtok")
    # 2 x 5 kW + 2 x 6.5 kW for 5,000 tokens/s
    assert rows[0]["kwh_per_mtok"] == pytest.approx(23_000 / 5_000 * 1e6 / 3.6e6)


def test_rejected_by_reason(told: History) -> None:
    (row,) = answer(told, "rejected")
    assert (row["source"], row["reason"], row["times"], row["sample"]) == ("r0s0", "GPU 3 is lost", 1, "x")


def test_node_story_is_in_order(told: History) -> None:
    rows = answer(told, "node_story")
    assert [r["what"] for r in rows] == ["gpu lost", "outcome", "alert", "action", "decision"]


def test_peak_hours(told: History) -> None:
    assert answer(told, "peak_hours")[0]["max_share"] == pytest.approx(29 / 30)


def test_row_power_falls_back_to_the_sum_of_all_servers(tmp_path_factory: pytest.TempPathFactory) -> None:
    with History(tmp_path_factory.mktemp("sum") / "history.duckdb", CLUSTER) as history:
        metered = [r for r in story().records if r.topic != "facility"]
        history.append(micro_batch(metered, lambda wall: wall))
        rows = history.query("SELECT row, power_w, source FROM row_power WHERE ts = $at ORDER BY row", {"at": NOW}).rows()
    assert rows == [("row-0", 20_000.0, "sum"), ("row-1", 29_000.0, "sum")]


def test_alerts_open_are_those_that_fire(told: History) -> None:
    assert told.query("SELECT alert_id FROM alerts_open").rows() == [("w-1",)]


def test_forecast_path_has_a_row_per_time_and_level(told: History) -> None:
    rows = told.query("SELECT lead_s, level, value FROM forecast_path WHERE lead_s = 900 ORDER BY level").rows()
    assert rows == [(900, 0.05, 26_000.0), (900, 0.5, 28_500.0), (900, 0.95, 30_000.0), (900, 0.99, 33_000.0)]


def test_gpu_now_and_server_now_hold_the_newest(told: History) -> None:
    lost = told.query("SELECT node, gpu, state, power_w FROM gpu_now WHERE state = 'lost'").rows()
    assert lost == [("r1s1", 1, "lost", None)]
    assert told.query("SELECT max(age_s), count(*) FROM server_now").row(0) == (0.0, 8)


def test_parameters_and_names_are_checked() -> None:
    with pytest.raises(KeyError, match="no queries file 'nothing'; there are"):
        sql.query("nothing")
    with pytest.raises(KeyError, match="query cap_story needs node: the server"):
        sql.query("cap_story").bind({})
    with pytest.raises(KeyError, match="query headroom has no parameter 'rack'; it takes level"):
        sql.query("headroom").bind({"rack": 1})
    assert sql.query("headroom").bind() == {"level": "0.99"}
    assert "row_power" in sql.text("views", "row_power")


PAGE = (Path(__file__).parent.parent.parent / "docs" / "sql.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_every_example_of_the_page_answers(told: History, example: str) -> None:
    assert told.query(example).height


def test_the_page_names_every_question_and_view() -> None:
    for name in (*BOOK, *sql.names("views")):
        assert f"`{name}`" in PAGE
