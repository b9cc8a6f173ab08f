"""Made-up runs for the tests of the twin's map."""

import numpy as np

from twin.map import Event, Frames, frames

EVENTS: tuple[Event, ...] = (
    (1440.0, np.inf, "ahu-1 lost: 90 % of aisle 1's air is left"),
    (1500.0, 1900.0, "load spike on chat-1"),
    (1510.0, 1520.0, "exporter of row-1 silent"),
    (3500.0, np.inf, "sensor of n012 stuck"),
)


def made_up(rows: int, per_row: int, count: int = 60, *, cooler_k: float = 0.0) -> Frames:
    """An hour of a site with racks of four: a busy middle, aisle 1 warm after 24 min, limits that some rows exceed."""
    rng = np.random.default_rng([rows, per_row, count])
    row, place, t = np.repeat(np.arange(rows), per_row), np.tile(np.arange(per_row), rows), np.arange(count) * 3600.0 / count
    middle = np.sin(np.pi * t / 3600.0)[:, None]
    load = np.clip(rng.uniform(0.4, 1.0, len(row)) * (0.8 + 0.3 * middle) + rng.normal(0, 0.02, (count, len(row))), 0, 1.1)
    inlet_c = 24 + 3 * middle + rng.normal(0, 0.7, len(row)) + 3.0 * ((t[:, None] > 1440) & (row < 2)) - cooler_k
    server_w = 2400 + 5600 * load
    row_w = np.stack([server_w[:, row == r].sum(axis=1) for r in range(rows)], axis=1)
    return frames(
        site="made-up site",
        rows=[f"row-{r + 1}" for r in range(rows)],
        row_of=row,
        rack_of=[f"r{r + 1}k{p // 4 + 1:02d}" for r, p in zip(row, place, strict=True)],
        slot_of=place % 4,
        t_s=t,
        inlet_c=inlet_c,
        hottest_gpu_c=inlet_c + rng.normal(0.068, 0.007, len(row)) * 700 * load,
        server_w=server_w,
        row_w=row_w,
        row_limit_w=row_w.max() * 0.96,
        slowdown_c=87.0,
        events=EVENTS,
    )


def small() -> Frames:
    """Two rows of one server; row b is over its limit in the middle of three frames, n001 slowed in the last."""
    return frames(
        site="s",
        rows=["a", "b"],
        row_of=[0, 1],
        rack_of=["ra", "rb"],
        slot_of=[0, 0],
        t_s=[0, 10, 20],
        inlet_c=[[20, 21], [22, 23], [24, 25]],
        hottest_gpu_c=[[60, 61], [80, 62], [88, 63]],
        server_w=[[1e3, 2e3], [1e3, 4e3], [1e3, 3e3]],
        row_w=[[1e3, 2e3], [1e3, 4e3], [1e3, 3e3]],
        row_limit_w=[2e3, 3.5e3],
        slowdown_c=87,
    )
