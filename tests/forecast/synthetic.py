"""Series whose truth is known: a daily curve, slow noise, and what a test adds to them."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.ports import Batch

T0_S = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
"""a Monday"""


def walk(rng: np.random.Generator, series: int, steps: int, keeps: float, sigma: float) -> NDArray[np.float64]:
    """[series, steps] first-order autoregressive noise."""
    shocks = rng.normal(0.0, sigma, (series, steps))
    out = np.zeros((series, steps))
    for t in range(1, steps):
        out[:, t] = keeps * out[:, t - 1] + shocks[:, t]
    return out


def daily(
    days: float,
    *,
    series: int = 3,
    step_s: int = 300,
    target: str = "inlet",
    level: float = 24.0,
    noise: float = 0.1,
    seed: int = 0,
) -> Batch:
    """A batch of a sine by the day around `level`, an own offset per series, and slow noise."""
    steps = int(days * 86_400) // step_s
    ts = T0_S + step_s * np.arange(1, steps + 1, dtype=np.int64)
    rng = np.random.default_rng(seed)
    curve = level * (1 + 0.2 * np.sin(2 * np.pi * (ts % 86_400) / 86_400))
    values = curve + rng.normal(0, 0.02 * level, (series, 1)) + walk(rng, series, steps, 0.9, noise)
    return Batch(
        target=target, step_s=step_s, ts=ts, names=tuple(f"s{i}" for i in range(series)), values=np.maximum(values, 0.01)
    )


def frame_of(batch: Batch) -> pl.DataFrame:
    """The batch as the long frame (ts, series, value) of the history."""
    stamps = (np.tile(batch.ts, len(batch.names)) * 1_000_000).astype("datetime64[us]")
    names = np.repeat(np.array(batch.names), len(batch.ts))
    return pl.DataFrame({"ts": stamps, "series": names, "value": batch.values.ravel()}).filter(pl.col("value").is_not_nan())


def at(seconds: int) -> datetime:
    """The time `seconds` after the series' start."""
    return datetime.fromtimestamp(T0_S + seconds, UTC)
