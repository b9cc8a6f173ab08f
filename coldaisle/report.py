"""The report of a demo: what was recorded, as SQL counts it, and what the twin suffered."""

import time
from pathlib import Path
from typing import Any

import msgspec

import sql
from contracts.ports import HistoryReader


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of the command-line contract (docs/architecture.md), and the twin's whole score."""

    telemetry_rows: int
    request_rows: int
    forecasts: int
    decisions: dict[str, int]
    """policy -> decisions that wanted something (`NoChange` left out)"""
    outcomes: dict[str, int]
    alerts: int
    rejected: int
    simulated_s: float
    wall_s: float
    freshness_s: float
    """p99 from creation to commit, wall time"""
    thermal_events: int
    power_events: int
    throttled_gpu_s: float
    score: dict[str, Any]


def collect(history: HistoryReader, state: Path, *, simulated_s: float, began: float) -> Report:
    """Return the report of the run that `history` recorded; `began` is the monotonic time at its start."""
    counts = history.query(sql.query("run_totals").text).row(0, named=True)
    score = msgspec.json.decode((state / "twin_score.json").read_bytes())
    return Report(
        **{name: int(counts[name]) for name in ("telemetry_rows", "request_rows", "forecasts", "alerts", "rejected")},
        decisions=_counts(history, "run_decisions"),
        outcomes=_counts(history, "run_outcomes"),
        freshness_s=round(float(counts["freshness_s"] or 0.0), 3),
        simulated_s=round(simulated_s, 1),
        wall_s=round(time.monotonic() - began, 1),
        thermal_events=score["thermal_events"],
        power_events=score["power_events"],
        throttled_gpu_s=score["throttled_gpu_s"],
        score=score,
    )


def _counts(history: HistoryReader, query: str) -> dict[str, int]:
    return {row["name"]: int(row["n"]) for row in history.query(sql.query(query).text).iter_rows(named=True)}
