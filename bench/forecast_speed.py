"""What forecasts cost: refits beside Prophet's and AutoETS's on the same series, and 10,000 series on one core.

    python -m bench.forecast_speed --series 10000 --days 28

run alone it prints JSON of one class of temperatures: CPU seconds of a refit and of ticks, and the memory of this process (its
highest, and what the series themselves take). It runs in a process of its own so that its memory is its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.forecast_lines import at_least, at_most, line
from bench.forecast_peers import HERE
from bench.twin import rss_mib
from contracts.ports import Batch
from forecast import produce
from forecast.grids import DAY_S
from forecast.intervals import Interval
from forecast.state import State

BEGIN_S = 1_767_571_200
FEW, FEW_DAYS, FEW_STEP_S = 200, 14, 600
FITS = 5
"""fits of each peer"""
TICKS = 5


def series(count: int, days: int, step_s: int, target: str) -> Batch:
    """Return synthetic series: a day of its own, slow wander, noise, and a hundredth of gaps."""
    rng = np.random.default_rng(5)
    columns = days * DAY_S // step_s
    ts = BEGIN_S + step_s * np.arange(1, columns + 1, dtype=np.int64)
    values = np.empty((count, columns))
    angle = 2 * np.pi * ts / DAY_S
    for row in values:
        wander = np.cumsum(rng.normal(0, 0.05, columns // 12 + 1)).repeat(12)[:columns]
        row[:] = 26 + 3 * np.sin(angle + rng.uniform(0, 6)) + 0.3 * (wander - wander.mean()) + rng.normal(0, 0.2, columns)
        row[rng.random(columns) < 0.01] = np.nan
    return Batch(target=target, step_s=step_s, ts=ts, names=tuple(f"s{i}" for i in range(count)), values=values)


def many(count: int, days: int) -> dict[str, Any]:
    """Measure one class of `count` temperatures, 300 s."""
    batch = series(count, days, 300, "inlet")
    held_mib = rss_mib()
    now = datetime.fromtimestamp(int(batch.ts[-1]), UTC)
    began = time.process_time()
    state = produce.refit(State(), [batch], now)
    refit_s = time.process_time() - began
    window = 8 * DAY_S // 300
    short = Batch(target="inlet", step_s=300, ts=batch.ts[-window:], names=batch.names, values=batch.values[:, -window:].copy())
    tick_ms = []
    for n in range(TICKS + 1):
        began = time.process_time()
        _, state = produce.tick(state, [short], [], None, {}, now, n)
        tick_ms.append(1e3 * (time.process_time() - began))
    found = {"series": count, "days": days, "refit_s": refit_s, "path_tick_ms": tick_ms[0], "tick_ms": tick_ms[1:]}
    return found | {"rss_mib": rss_mib(), "series_mib": held_mib}


def refits() -> dict[str, float]:
    """Return CPU seconds of refits of 200 loads, 14 days of 10 min: with all that an hourly refit does, boosted trees too."""
    batch = series(FEW, FEW_DAYS, FEW_STEP_S, "load")
    now = datetime.fromtimestamp(int(batch.ts[-1]), UTC)
    state = produce.refit(State(), [batch], now)
    began = time.process_time()
    produce.refit(state, [batch], now)
    return {"series": FEW, "cpu_s": time.process_time() - began}


def peer_fits(python: Path, peer: str) -> list[float]:
    """Return CPU seconds of fits of a peer to series of the same kind, with one forecast each."""
    batch = series(FITS, FEW_DAYS, FEW_STEP_S, "load")
    columns = len(batch.ts)
    ts = pl.Series("ts", np.tile(batch.ts, FITS) * 1_000_000).cast(pl.Datetime("us"))
    values = pl.Series("value", batch.values.ravel()).fill_nan(None)
    names = np.repeat(np.array(batch.names), columns)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        pl.DataFrame({"set": ["speed"] * len(ts), "series": names, "ts": ts, "value": values}).write_parquet(
            at / "series.parquet"
        )
        asked = {
            "set": ["speed"] * FITS,
            "series": list(batch.names),
            "origin": [columns - 1] * FITS,
            "rank": list(range(FITS)),
        }
        pl.DataFrame(asked).write_parquet(at / "origins.parquet")
        command = [str(python), str(HERE / "run.py"), "--series", str(at / "series.parquet"), "--peer", peer]
        command += ["--origins", str(at / "origins.parquet"), "--out", str(at / "out")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = pl.read_parquet(at / "out" / f"{peer}-0000.parquet").filter(pl.col("step") == 2)["fit_s"].to_list()
    return found[1:]  # the first one compiles


def alone(count: int, days: int) -> dict[str, Any]:
    """Run `many` in a process of its own, on one core."""
    command = [sys.executable, "-m", "bench.forecast_speed", "--series", str(count), "--days", str(days)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    return found


def lines(count: int, python: Path | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the lines of speed and the raw samples behind them."""
    mine = refits()
    rate = mine["series"] / mine["cpu_s"]
    out = [_line("refit, series per second and core", rate, None, None)]
    raw: dict[str, Any] = {"refit": mine}
    for peer, bar, goal in (("Prophet", 50, 100), ("AutoETS", 25, 50)):
        if python is None:
            out.append({"what": f"refit / {peer}", "set": "speed", "value": None, "absent": "no --peers"})
            continue
        raw[peer] = peer_fits(python, peer)
        out.append(_line(f"refit / {peer}", rate * statistics.median(raw[peer]), at_least(bar), at_least(goal)))
    raw["many"] = one = alone(count, 28)
    text = f"{count:,} series"
    out.append(_line(f"tick of {text}", statistics.median(one["tick_ms"]), at_most(100), at_most(20), one["tick_ms"]))
    out.append(_line(f"tick with the path to 24 h of {text}", one["path_tick_ms"], None, None))
    out.append(_line(f"refit of {text}, s", one["refit_s"], at_most(20), at_most(8)))
    out.append(_line(f"peak memory with {text}, MiB", one["rss_mib"], at_most(1024), None))
    return out, raw


def _line(what: str, value: float, bar: Any, goal: Any, spread: list[float] | None = None) -> dict[str, Any]:
    ends = (min(spread), max(spread)) if spread else (value, value)
    return line(what, "speed", Interval(value, *ends, len(spread or [value])), bar, goal)


def main() -> None:
    """Measure one class and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=28)
    options = parser.parse_args()
    print(json.dumps(many(options.series, options.days)))


if __name__ == "__main__":
    main()
