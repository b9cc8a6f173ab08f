"""Peers of our forecasts, in their own environment, file to file: a refit at every origin on all history up to it.

    python run.py --series SERIES.parquet --origins ORIGINS.parquet --peer AutoTheta --out FOLDER

SERIES: set, series, ts (UTC), value (NULL = gap), rows in order of time on a regular grid. ORIGINS: set, series, origin (row
number within the series, its newest known value), rank (order of work: any first part is spread evenly). Writes one file per
round of work, FOLDER/PEER-NNNN.parquet: set, series, origin, step, value, fit_s (CPU). What is there already is not done again.
Nothing of the project is imported here.
"""

import argparse
import logging
import os
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

AHEAD_S = (1_200, 3_600, 86_400)
DAY_S = 86_400
ROUND = 100
"""pairs a file"""
Predict = Callable[[pd.Series, tuple[int, ...]], np.ndarray]
"""the series up to the origin, steps ahead -> what is forecast there"""


def cpu_s() -> float:
    """CPU seconds of this process and of the programs that it started (Prophet's Stan is one)."""
    return sum(os.times()[:4])


def step_s(values: pd.Series) -> int:
    """Seconds between two points."""
    return int((values.index[1] - values.index[0]).total_seconds())


def filled(values: pd.Series) -> np.ndarray:
    """Carry the last value over gaps: these peers take none."""
    return np.asarray(values.ffill().bfill().to_numpy(dtype=float))


def of_statsforecast(name: str) -> Predict:
    """AutoTheta, MSTL and AutoETS with a season of a day (AutoETS drops seasons above 24 steps by itself); AutoARIMA without,
    since one of 144 steps takes minutes a fit."""
    models: Any = import_module("statsforecast.models")
    make: Any = getattr(models, name)

    def predict(values: pd.Series, steps: tuple[int, ...]) -> np.ndarray:
        model = make(season_length=1 if name == "AutoARIMA" else DAY_S // step_s(values))
        path: np.ndarray = np.asarray(model.forecast(y=filled(values), h=max(steps))["mean"])
        return np.asarray(path[np.array(steps) - 1])

    return predict


def prophet() -> Predict:
    """Prophet as it comes; it takes gaps."""
    make: Any = import_module("prophet").Prophet
    for name in ("cmdstanpy", "prophet"):
        logging.getLogger(name).disabled = True

    def predict(values: pd.Series, steps: tuple[int, ...]) -> np.ndarray:
        model = make(uncertainty_samples=0)
        model.fit(pd.DataFrame({"ds": values.index, "y": values.to_numpy()}))
        ahead = pd.DataFrame({"ds": values.index[-1] + pd.to_timedelta(np.array(steps) * step_s(values), unit="s")})
        return np.asarray(model.predict(ahead)["yhat"].to_numpy())

    return predict


def predictor(peer: str) -> Predict:
    """Return the peer; of ai-dynamo's planner: dynamo-arima, dynamo-kalman, dynamo-prophet."""
    if peer.startswith("dynamo-"):
        asked: Predict = import_module("planner").planner(peer.removeprefix("dynamo-"), filled, step_s)
        return asked
    return prophet() if peer == "Prophet" else of_statsforecast(peer)


def work(peer: str, series: pd.DataFrame, origins: pd.DataFrame, out: Path, rounds: int) -> None:
    """Do what is not there yet, ROUND pairs at a time, at most so many rounds."""
    predict = predictor(peer)
    out.mkdir(parents=True, exist_ok=True)
    there = [pd.read_parquet(file) for file in sorted(out.glob(f"{peer}-*.parquet"))]
    if there:
        done = pd.concat(there)[["set", "series", "origin"]].drop_duplicates()
        origins = origins.merge(done, how="left", indicator=True).query("_merge == 'left_only'")
    pasts = {key: rows.set_index("ts")["value"] for key, rows in series.groupby(["set", "series"], sort=False)}
    origins = origins.sort_values(["rank", "set", "series"])
    for at in range(0, len(origins), ROUND)[:rounds]:
        found = []
        for row in origins.iloc[at : at + ROUND].itertuples():
            past = pasts[row.set, row.series].iloc[: row.origin + 1]
            steps = tuple(ahead // step_s(past) for ahead in AHEAD_S)
            began = cpu_s()
            path = predict(past, steps)
            fit_s = cpu_s() - began
            found += [(row.set, row.series, row.origin, s, float(v), fit_s) for s, v in zip(steps, path, strict=True)]
        frame = pd.DataFrame(found, columns=["set", "series", "origin", "step", "value", "fit_s"])
        number = len(list(out.glob(f"{peer}-*.parquet")))
        frame.to_parquet(out / f"{peer}-{number:04d}.parquet")
        print(peer, at + len(frame) // len(AHEAD_S), "of", len(origins), flush=True)


def main() -> None:
    """Read, work, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--series", "--origins", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--rounds", type=int, default=1_000_000, help=f"stop after so many rounds of {ROUND} pairs")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    work(options.peer, pd.read_parquet(options.series), pd.read_parquet(options.origins), options.out, options.rounds)


if __name__ == "__main__":
    main()
