"""What forecasts cost: refits beside Prophet's and AutoETS's on the same series, and 10,000 series on one core.

    python -m bench.forecast_speed --series 10000 --days 28

run alone it prints a JSON line for each step with one class of temperatures in single precision: CPU seconds of refits and of a
quarter of an hour of ticks, and the memory of this process (its highest, and what it took before the first refit). It runs in
a process of its own, on one core, so that its memory is its own; the service's refits have one of their own, too.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
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
from forecast.inputs import Cleaned, clean
from forecast.intervals import Interval
from forecast.state import State

BEGIN_S = 1_767_571_200
FEW, FEW_DAYS, FEW_STEP_S = 200, 14, 600
FITS = 5
"""fits of each peer"""
MINUTES = 15
"""of ticks: one with the path to 24 h, two with a new interval of 300 s, twelve plain ones"""
WINDOW = 8 * DAY_S // 300
FINE = 180
LIMIT_S = 300
"""CPU time after which a process is ended; what it has said by then counts"""


def series(count: int, days: int, step_s: int, target: str) -> Batch:
    """Return synthetic series: a day of its own, slow wander, noise, and a hundredth of gaps."""
    rng = np.random.default_rng(5)
    columns = days * DAY_S // step_s
    ts = BEGIN_S + step_s * np.arange(1, columns + 1, dtype=np.int64)
    values: Any = np.empty((count, columns), dtype=np.float32)
    angle = 2 * np.pi * ts / DAY_S
    for row in values:
        wander = np.cumsum(rng.normal(0, 0.05, columns // 12 + 1)).repeat(12)[:columns]
        row[:] = 26 + 3 * np.sin(angle + rng.uniform(0, 6)) + 0.3 * (wander - wander.mean()) + rng.normal(0, 0.2, columns)
        row[rng.random(columns) < 0.01] = np.nan
    return Batch(target=target, step_s=step_s, ts=ts, names=tuple(f"s{i}" for i in range(count)), values=values)


def many(count: int, days: int) -> None:
    """Print what one class of `count` temperatures costs."""
    whole = series(count, days, 300, "inlet")
    batch = cut(whole, len(whole.ts) - MINUTES // 5)
    tell(series=count, days=days, before_mib=rss_mib())
    now = datetime.fromtimestamp(int(batch.ts[-1]), UTC)
    state = State()
    for which in ("first_refit_s", "refit_s"):
        began = time.process_time()
        state = produce.refit(state, [batch], now)
        tell(**{which: time.process_time() - began, "rss_mib": rss_mib()})
    tell(**ticks(state, whole, int(batch.ts[-1])), rss_mib=rss_mib())


def ticks(state: State, whole: Batch, begin_s: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of the ticks of a quarter of an hour by their kind.

    Intervals are cleaned when they are new, as in the service; minutes are at every tick.
    """
    out: dict[str, list[float]] = {"path_tick_ms": [], "interval_tick_ms": [], "tick_ms": []}
    long: Cleaned | None = None
    for minute in range(MINUTES):
        now_s = begin_s + 60 * minute
        newest, fine = int(np.searchsorted(whole.ts, now_s, side="right")), minutes(whole, now_s)
        began = time.process_time()
        if long is None or minute % 5 == 0:
            long = clean(cut(whole, newest, WINDOW))
        _, state = produce.tick(state, [long], [fine], None, {}, datetime.fromtimestamp(now_s, UTC), minute)
        kind = "path_tick_ms" if minute == 0 else "tick_ms" if minute % 5 else "interval_tick_ms"
        out[kind].append(1e3 * (time.process_time() - began))
    return out


def cut(batch: Batch, end: int, most: int | None = None) -> Batch:
    """Return the columns up to `end`, at most so many."""
    kept = slice(0 if most is None else max(0, end - most), end)
    return replace(batch, ts=batch.ts[kept], values=batch.values[:, kept])


def minutes(whole: Batch, now_s: int) -> Batch:
    """Return the last three hours in minutes: each interval's value with a minute's noise."""
    ts = now_s + 60 * (np.arange(FINE, dtype=np.int64) + 1 - FINE)
    of = np.minimum(np.searchsorted(whole.ts, ts), len(whole.ts) - 1)
    noise: Any = np.random.default_rng(now_s).normal(0, 0.1, (len(whole.names), FINE)).astype(np.float32)
    return replace(whole, step_s=60, ts=ts, values=whole.values[:, of] + noise)


def refits() -> None:
    """Print CPU seconds of an hourly refit of 200 loads, 14 days of 10 min, with all that it does: fits, judging, bands."""
    batch = series(FEW, FEW_DAYS, FEW_STEP_S, "load")
    now = datetime.fromtimestamp(int(batch.ts[-1]), UTC)
    state = produce.refit(State(), [batch], now)
    began = time.process_time()
    produce.refit(state, [batch], now)
    tell(series=FEW, cpu_s=time.process_time() - began)


def tell(**figures: Any) -> None:
    """Print a line of JSON at once: what was said stays, whatever comes after."""
    print(json.dumps(figures), flush=True)


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


def alone(*arguments: str) -> dict[str, Any]:
    """Run this file in a process of its own, on one core; return all that it has said within LIMIT_S of CPU."""
    command = [sys.executable, "-m", "bench.forecast_speed", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, env=env)
    if done.returncode not in (0, -signal.SIGXCPU):
        raise subprocess.CalledProcessError(done.returncode, command)
    found: dict[str, Any] = {}
    for row in done.stdout.splitlines():
        found |= json.loads(row)
    return found


def lines(count: int, python: Path | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the lines of speed and the raw samples behind them."""
    raw: dict[str, Any] = {"refit": alone("--few")}
    raw["many"] = alone("--series", str(count), "--days", "28")
    spent = {f"{FEW} loads": (FEW, raw["refit"].get("cpu_s")), f"{count:,} temperatures": (count, raw["many"].get("refit_s"))}
    rates = {text: series / cpu_s for text, (series, cpu_s) in spent.items() if cpu_s is not None}
    out = [_late(f"refit of {text}, series per second and core") for text in spent if text not in rates]
    return out + against(rates, raw, python) + of_many(raw["many"], count), raw


def against(rates: dict[str, float], raw: dict[str, Any], python: Path | None) -> list[dict[str, Any]]:
    """Return the rates of our refits, and as multiples of Prophet's and AutoETS's, whose fits are added to `raw`."""
    out = [_line(f"refit of {text}, series per second and core", [rate], None, None) for text, rate in rates.items()]
    for peer, bar, goal in (("Prophet", 50, 100), ("AutoETS", 25, 50)):
        if python is None:
            out.append({"what": f"refit / {peer}", "set": "speed", "value": None, "absent": "no --peers"})
            continue
        raw[peer] = peer_fits(python, peer)
        for text, rate in rates.items():
            what = f"refit of {text} / {peer}, series per second and core"
            out.append(_line(what, [rate * s for s in raw[peer]], at_least(bar), at_least(goal)))
    return out


def of_many(one: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the lines of the large class; what it did not come to is late."""
    text = f"{count:,} series"
    figures: list[tuple[str, str, Any, Any]] = [
        (f"tick of {text}, ms", "tick_ms", at_most(100), at_most(20)),
        (f"tick with a new interval of {text}, ms", "interval_tick_ms", None, None),
        (f"tick with the path to 24 h of {text}, ms", "path_tick_ms", None, None),
        (f"refit of {text}, s", "refit_s", at_most(20), at_most(8)),
        (f"first refit of {text}, s", "first_refit_s", None, None),
        (f"peak memory with {text}, MiB", "rss_mib", at_most(1024), None),
        (f"memory before the first refit with {text}, MiB", "before_mib", None, None),
    ]
    out = []
    for what, key, bar, goal in figures:
        samples = one.get(key)
        samples = samples if isinstance(samples, list) or samples is None else [samples]
        out.append(_line(what, samples, bar, goal) if samples else _late(what))
    return out


def _late(what: str) -> dict[str, Any]:
    return {"what": what, "set": "speed", "value": None, "absent": f"not done within {LIMIT_S} s of CPU"}


def _line(what: str, samples: list[float], bar: Any, goal: Any) -> dict[str, Any]:
    """A bar is met by the median; the ends are the least and the greatest sample."""
    middle = statistics.median(samples)
    out = line(what, "speed", Interval(middle, middle, middle, len(samples)), bar, goal)
    return out | {"lo": round(min(samples), 4), "hi": round(max(samples), 4)}


def main() -> None:
    """Measure one class, or few loads, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--few", action="store_true", help=f"an hourly refit of {FEW} loads in place of it")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, resource.RLIM_INFINITY))
    refits() if options.few else many(options.series, options.days)


if __name__ == "__main__":
    main()
