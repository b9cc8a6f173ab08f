"""What the twin lends to the judging of forecasts: row power under a real fortnight of load, and inlets while cooling fails.

Made by the fluid engine and kept under build/. The engine's week repeats; a fortnight is two weeks with other loads, wander and
weather on the same fleet.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contracts.workload import Workload
from forecast.grids import Floats
from twin import fleet as fleets
from twin.fluid import Fluid
from twin.intervals import lived
from twin.scenario import Scenario, load

STEP_S, WARM_S = 300, 3_600
WEEK_MIN = 7 * 1_440
MONDAY = datetime(2026, 7, 13, tzinfo=UTC)
HIGHEST_RPS = 1.4
"""per instance in the fortnight's highest hour, as in the scenario azure-week"""
ROWS, SERVERS = 25, 20


def row_power(fortnight: Floats, workload: Workload, folder: Path, seed: int = 11) -> Floats:
    """Return [R, T] 300 s means of row power, W, under `fortnight`: requests/s at 10 min, two weeks; kept in the folder."""
    kept = folder / f"rows-{seed}.npy"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        weeks = np.split(fortnight, 2)
        highest = max(_hour(week).max() for week in weeks)
        np.save(kept, np.concatenate([_week(n, week, highest, workload, seed) for n, week in enumerate(weeks)]).T)
    return np.asarray(np.load(kept), dtype=np.float64)


def _hour(week: Floats) -> Floats:
    """Means over an hour of 10 min points."""
    return np.convolve(np.concatenate([week, week[:5]]), np.ones(6) / 6, mode="valid")


def _week(number: int, rate: Floats, highest: float, workload: Workload, seed: int) -> Floats:
    """Return [T, R] of one week; its Monday's highest hour is what the scenario's rate is relative to."""
    curve = replace(workload, minute_of_week=np.arange(5.0, 10.0 * len(rate), 10.0), rate=rate / rate.max())
    monday = float(_hour(rate)[:144].max())
    site = _site(float(HIGHEST_RPS * monday / highest), MONDAY + timedelta(days=7 * number))
    fluid = Fluid(site, curve, seed + number, fleet=fleets.build(site, seed), at_s=-float(WARM_S))
    lived(fluid, WARM_S // 150, 150, 150)
    count = 7 * 86_400 // STEP_S
    middle = np.arange(STEP_S / 2, STEP_S * count, STEP_S)
    rates = fluid.demand.rates(middle)
    rng = np.random.default_rng([seed, number])
    mean = rates * STEP_S
    counted = np.maximum(0.0, mean + np.sqrt(mean * max(1.0, workload.burst_cv**2)) * rng.standard_normal(mean.shape))
    return lived(fluid, count, STEP_S, 150, rates=counted / STEP_S).row_w


def _site(peak_rps: float, start: datetime) -> Scenario:
    service: Mapping[str, Any] = {
        "name": "chat", "endpoints": 10, "high_endpoints": 5, "model": "llama3.1-70b", "tp": 4, "peak_rps": peak_rps,
    }  # fmt: skip
    return load(
        "azure-week", rows=ROWS, servers_per_row=SERVERS, row_limit_w=166_300, aisle_limit_cfm=31_150,
        services=[service], start=start.isoformat(),
    )  # fmt: skip
