"""Forecasts as the page draws them: cut to the next hour, one line per quantile level."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dashboard.model import Path
from dashboard.moment import HOUR, Asker, Moment, aware, seconds

Paths = Mapping[tuple[str, str], Path]
"""(target, series) -> its newest champion forecast"""


def paths(ask: Asker) -> Paths:
    """Ask for the newest champions of row power and load; those that say nothing about the next hour are left out."""
    found = {(row["target"], row["series"]): path_of(row, ask.at) for row in ask.rows("page_paths")}
    return {key: path for key, path in found.items() if path.t}


def path_of(row: Mapping[str, Any], at: Moment) -> Path:
    """Return one forecast; `row["values"]` is row-major [time][level]."""
    width = len(row["levels"])
    steps = [i for i, t in enumerate(row["valid_at"]) if at.now < aware(t) <= at.now + HOUR]
    return Path(
        model=row["model"],
        issued_at=aware(row["issued_at"]),
        age_s=max((at.now - aware(row["data_until"])).total_seconds(), 0.0),
        t=tuple(seconds(row["valid_at"][i]) for i in steps),
        bands={
            f"{level:g}": tuple(round(row["values"][i * width + k], 3) for i in steps) for k, level in enumerate(row["levels"])
        },
        degradations=tuple(row["degradations"]),
    )


def highest(path: Path | None, level: str) -> tuple[datetime, float] | None:
    """Return when and how high the level's line is at its highest; None where there is no such line."""
    if path is None or not path.bands.get(level):
        return None
    value, t = max(zip(path.bands[level], path.t, strict=True))
    return datetime.fromtimestamp(t, UTC), value
