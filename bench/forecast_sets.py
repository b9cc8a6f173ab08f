"""The series that forecasts are judged on: real loads on a 10 min grid, with the part of each that is scored.

ServeGen's models and clients as counted, collection gaps masked. Azure's weeks come in steps of 7.2 min; a 10 min point is the
last one known by then: to interpolate would read ahead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.ports import Batch
from forecast.grids import DAY_S, Floats, Ints

Bools = NDArray[np.bool_]

Part = Literal["dev", "test"]
STEP_S = 600
DAY = DAY_S // STEP_S
TEST_TENTHS = 7
"""of a series comes before its test part"""
DEV_TENTHS = 6
"""of the development part comes before what is scored of it"""
CLIENTS = 30
MONDAY_S = 1_767_571_200
"""2026-01-05: the series have no date; they are given one that all share"""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A class of series that are forecast together, and the columns of each that belong to it and are scored."""

    name: str
    batch: Batch
    begins: Ints
    """[S] first column of each series"""
    first: Ints
    """[S] first scored origin"""
    ends: Ints
    """[S] one past the last column"""
    groups: tuple[str, ...]
    """[S] model | client | row"""


def loads(data: Path) -> dict[str, tuple[str, Floats]]:
    """Return name -> (group, requests/s at 10 min; NaN = gap) of all real series. FileNotFoundError names what is not there."""
    models = pl.read_parquet(data / "servegen_load_10min.parquet").filter(pl.col("model").is_in(["m-large", "m-mid"]))
    found: dict[str, tuple[str, Floats]] = {}
    gaps: dict[str, Bools] = {}
    for name in ("m-large", "m-mid"):
        own = models.filter(pl.col("model") == name).sort("t_s")
        gaps[name] = own["gap"].to_numpy()
        found[name] = ("model", np.where(gaps[name], np.nan, own["rate_rps"].cast(pl.Float64).to_numpy()))
    week = pl.read_parquet(data / "azure2024_week_rpm.parquet")
    for service in ("conv", "coding"):
        found[f"azure-{service}"] = ("model", held(week.filter(pl.col("service") == service).sort("minute_of_week")))
    clients = pl.read_parquet(data / "servegen_clients_10min.parquet").filter(pl.col("model").is_in(list(gaps)))
    return found | largest(clients, gaps)


def held(week: pl.DataFrame) -> Floats:
    """Return requests/s at each 10 min of the week: the newest point that was known then."""
    minute = np.arange(1, 7 * DAY + 1) * (STEP_S / 60)
    newest = np.searchsorted(week["minute_of_week"].to_numpy(), minute, side="right") - 1
    rate = week["mid_rpm"].cast(pl.Float64).to_numpy() / 60.0
    return np.where(newest >= 0, rate[np.maximum(newest, 0)], np.nan)


def largest(clients: pl.DataFrame, gaps: Mapping[str, Bools]) -> dict[str, tuple[str, Floats]]:
    """Return the clients with the highest mean rate over their development part, under their model's gaps."""
    rates: dict[str, Floats] = {}
    for (model, client), rows in clients.group_by(["model", "client"]):
        gap = gaps[str(model)]
        values = np.zeros(len(gap))
        values[rows["t_s"].to_numpy() // STEP_S] = rows["rate_rps"].cast(pl.Float64).to_numpy()
        rates[f"{model}/{client}"] = np.where(gap, np.nan, values)
    size = {name: float(np.nanmean(v[: len(v) * TEST_TENTHS // 10])) for name, v in rates.items()}
    chosen = sorted(size, key=lambda name: (-size[name], name))[:CLIENTS]
    return {name: ("client", rates[name]) for name in chosen}


def judged(name: str, target: str, series: Mapping[str, tuple[str, Floats]], part: Part, step_s: int = STEP_S) -> Judged:
    """Put series of different length on one grid, such that all end within half a day of each other and keep their time of day.

    `dev`: the first 70 % of each, the last 40 % of them scored. `test`: the whole of each, its last 30 % scored.
    """
    day = DAY_S // step_s
    cut = {key: v[: len(v) * TEST_TENTHS // 10] if part == "dev" else v for key, (_, v) in series.items()}
    tenths = DEV_TENTHS if part == "dev" else TEST_TENTHS
    longest = max(len(v) for v in cut.values())
    begins = np.array([round((longest - len(v)) / day) * day for v in cut.values()], dtype=np.int64)
    sizes = np.array([len(v) for v in cut.values()], dtype=np.int64)
    values = np.full((len(cut), int((begins + sizes).max())), np.nan)
    for row, begin, given in zip(values, begins, cut.values(), strict=True):
        row[begin : begin + len(given)] = given
    ts = MONDAY_S + step_s * np.arange(1, values.shape[1] + 1, dtype=np.int64)
    return Judged(
        name=name,
        batch=Batch(target=target, step_s=step_s, ts=ts, names=tuple(cut), values=values),
        begins=begins,
        first=begins + sizes * tenths // 10,
        ends=begins + sizes,
        groups=tuple(group for group, _ in series.values()),
    )


def only(series: Mapping[str, tuple[str, Floats]], groups: Sequence[str]) -> dict[str, tuple[str, Floats]]:
    """Return the series of some groups."""
    return {name: one for name, one in series.items() if one[0] in groups}


def lately(given: Judged, scored_h: float, known_d: int) -> Judged:
    """Return the same with only the last hours of each series scored, and as if the history had begun so many days ago."""
    first = np.maximum(given.first, given.ends - int(scored_h * 3_600) // given.batch.step_s)
    cut = max(0, int(first.min()) - known_d * DAY_S // given.batch.step_s)
    batch = replace(given.batch, ts=given.batch.ts[cut:], values=given.batch.values[:, cut:])
    return replace(given, batch=batch, begins=np.maximum(given.begins - cut, 0), first=first - cut, ends=given.ends - cut)
