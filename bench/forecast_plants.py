"""The learnt plant on a week that it has not seen, against the sensors' own readings: `studies.plant_errors` with intervals.

Three kinds of sites, three seeds that no constant was chosen on; learnt from three weeks, scored on the fourth. A figure is the
mean over servers of each server's mean error; servers stand for others, so they are drawn too, beside days.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.forecast_lines import at_most, line
from forecast.grids import Floats
from forecast.intervals import mean
from forecast.plant import fit
from studies.plant_errors import DAY, TARGETS, WEEK, said, shown
from studies.plant_history import KINDS, history

SEEDS = (12, 13, 14)
BARS = {"inlet_c": (1.0, 0.5), "gpu_each_c": (1.0, 0.5), "server_power_w": (3.0, 2.0)}
WORDS = {
    "inlet_c": "inlet, MAE, K",
    "gpu_c": "hottest GPU, MAE, K",
    "gpu_each_c": "each GPU, MAE, K",
    "server_power_w": "server power, error, %",
    "airflow_cfm": "airflow of an aisle, error, %",
}
PARTS = ("server_power_w", "airflow_cfm")
"""errors in percent of the reading"""


def errors(kind: str, seed: int, folder: Path, data: Path | None) -> dict[str, Floats]:
    """Return, by law, [N, T] absolute errors of the held-out week: N servers (of their GPUs the mean) or aisles."""
    seen = history(kind, seed, folder, data)
    cut = seen.values["inlet"].shape[1] - WEEK
    plant = fit(seen.topology, {name: seen.batch(name, 0, cut) for name in TARGETS})
    week = slice(cut, None)
    truth, found = shown(seen, week), said(plant, seen, week)
    out = {}
    for name, values in truth.items():
        rest = np.abs(found[name] - values)
        rest = 100.0 * rest / values if name in PARTS else rest
        out[name] = rest.mean(axis=1) if rest.ndim == 3 else rest
    return out


def lines(folder: Path, data: Path | None, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the lines of all laws over all sites; histories are kept in the folder."""
    parts: dict[str, list[Floats]] = {}
    for kind in KINDS:
        for seed in SEEDS:
            for name, values in errors(kind, seed, folder, data).items():
                parts.setdefault(name, []).extend(values)
            told(f"plant {kind} {seed}")
    return scored(parts)


def scored(parts: Mapping[str, list[Floats]]) -> list[dict[str, Any]]:
    """Return a line per law: law -> one array of errors per server."""
    out = []
    for name, series in parts.items():
        bar, goal = (at_most(end) for end in BARS[name]) if name in BARS else (None, None)
        worst = max(float(np.nanmean(one)) for one in series)
        found = mean(series, DAY, series_too=True)
        out.append(line(WORDS[name], "plant, held-out week", found, bar, goal, worst=round(worst, 3), units=len(series)))
    return out
