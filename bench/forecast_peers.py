"""The peers' side of the forecast benchmark: which origins they share with us, their environment, their cached answers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.forecast_sets import Judged
from forecast.grids import Floats, Ints

HERE = Path(__file__).parent / "beside" / "forecast_peers"
PEERS = ("AutoTheta", "Prophet", "AutoETS", "MSTL", "AutoARIMA", "dynamo-arima", "dynamo-kalman", "dynamo-prophet")
AHEAD_S = (1_200, 3_600, 86_400)
"""that the peers are asked for"""


def shared(given: Judged, pairs: int) -> pl.DataFrame:
    """Return (set, series, origin, rank) of about `pairs` origins, evenly spread over each series' scored part.

    `origin` counts from the series' own beginning. By `rank` any first part of the work is spread evenly too (van der Corput).
    Only origins whose outcome an hour on lies in the series, every 10 min as ours.
    """
    stride, last_step = 600 // given.batch.step_s, 3_600 // given.batch.step_s
    begin = int(given.first.min())
    each = max(1, -(-pairs // len(given.batch.names)))
    parts = []
    for s, name in enumerate(given.batch.names):
        first, last = int(given.first[s] - given.begins[s]), int(given.ends[s] - given.begins[s]) - last_step
        place = np.array([_corput(k) for k in range(2 * each)])
        origins = first + (place * (last - first)).astype(np.int64)
        origins -= (origins + int(given.begins[s]) - begin) % stride
        origins = origins[origins >= first]
        kept = origins[np.sort(np.unique(origins, return_index=True)[1])][:each]
        parts.append(pl.DataFrame({"set": given.name, "series": name, "origin": kept, "rank": np.arange(len(kept))}))
    return pl.concat(parts)


def _corput(k: int) -> float:
    """Return the k-th point of the van der Corput sequence in base 2."""
    out, part = 0.0, 0.5
    while k:
        out += part * (k & 1)
        k, part = k >> 1, part / 2
    return out


def long(given: Judged) -> pl.DataFrame:
    """Return (set, series, ts, value) of all series, each from its own beginning to its own end."""
    parts = []
    for s, name in enumerate(given.batch.names):
        own = slice(int(given.begins[s]), int(given.ends[s]))
        values = pl.Series("value", given.batch.values[s, own]).fill_nan(None)
        ts = pl.Series("ts", given.batch.ts[own] * 1_000_000).cast(pl.Datetime("us"))
        parts.append(pl.DataFrame({"set": given.name, "series": name, "ts": ts, "value": values}))
    return pl.concat(parts)


def prepare(given: Judged, pairs: int, folder: Path) -> None:
    """Write the files that the peers read."""
    folder.mkdir(parents=True, exist_ok=True)
    long(given).write_parquet(folder / "series.parquet")
    shared(given, pairs).write_parquet(folder / "origins.parquet")


def run(python: Path, peer: str, folder: Path) -> int:
    """Let the peer work on what it has not answered yet; return its exit status."""
    command = [str(python), str(HERE / "run.py"), "--series", "series.parquet", "--origins", "origins.parquet"]
    return subprocess.run([*command, "--peer", peer, "--out", "answers"], cwd=folder, check=False, stdout=sys.stderr).returncode


def answers(folder: Path, peer: str) -> pl.DataFrame:
    """Return (set, series, origin, step, value, fit_s) that a peer has answered so far; no rows where none."""
    files = sorted((folder / "answers").glob(f"{peer}-*.parquet"))
    kinds: Any = {"set": pl.String, "series": pl.String, "origin": pl.Int64, "step": pl.Int64}
    kinds |= {"value": pl.Float64, "fit_s": pl.Float64}
    parts = [pl.read_parquet(file, columns=list(kinds)).cast(kinds) for file in files]
    return pl.concat([pl.DataFrame(schema=kinds), *parts])


def on_grid(found: pl.DataFrame, given: Judged, origins: Ints, step: int) -> Floats:
    """Return [O, S] the peer's values at our origins (columns of the judged batch); NaN where it was not asked."""
    out = np.full((len(origins), len(given.batch.names)), np.nan)
    at = {int(o): i for i, o in enumerate(origins)}
    names = {name: s for s, name in enumerate(given.batch.names)}
    own = found.filter((pl.col("set") == given.name) & (pl.col("step") == step))
    for series, origin, value in own.select("series", "origin", "value").iter_rows():
        s = names[series]
        column = at.get(int(origin + given.begins[s]))
        if column is not None:
            out[column, s] = value
    return out
