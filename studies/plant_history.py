"""Four weeks of a site as its own sensors show them: what the plant and the power chain are learnt from and judged on.

The fluid engine in steps of 60 s, each of them read as live sensors are (whole degrees, biased), means over 300 s. Loads are
not the plain week: days are drawn with replacement from the days of real series (their first 70 %), with seams of half an
hour, one wander per endpoint, and the counting noise of bursty arrivals. `mixed`: 80 servers in two rows, half of them opaque
tenants, with as much air as that many servers are made for. `crowded`: the same with the demo's air, 40 % too little: the
aisle overdraws at most hours. `serving`: 160 servers in eight rows, ten endpoints.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from contracts.ports import Batch
from contracts.topology import Topology
from forecast.grids import Floats
from ingest.workload import load as load_workload
from twin.demand import Wander
from twin.fluid import Fluid
from twin.scenario import Scenario, load
from twin.sensors import degrees, inlet

DAYS, STEP_S, INTERVAL_S, DAY_S = 28, 60, 300, 86_400
SEAM_S = 1_800
DEV = 0.7
"""share of a real series that may be looked at"""
END_S = 1_784_124_000
KINDS = ("mixed", "crowded", "serving")


@dataclass(frozen=True)
class History:
    """T intervals of 300 s by name; the newest ends at END_S."""

    topology: Topology
    values: dict[str, Floats]
    """inlet, gpu_temp, gpu_power, server_power [S, T], gpu_temp_each [S x G, T], power [R, T], airflow [A, T], load [E, T],
    outside [1, T]"""
    names: dict[str, tuple[str, ...]]

    def batch(self, target: str, first: int = 0, last: int | None = None) -> Batch:
        """Return the intervals first..last (columns, last exclusive) of one target."""
        values = self.values[target][:, first:last].astype(np.float64)
        count = self.values[target].shape[1]
        ts = END_S + INTERVAL_S * (np.arange(count, dtype=np.int64)[first:last] + 1 - count)
        return Batch(target=target, step_s=INTERVAL_S, ts=ts, names=self.names[target], values=values)


def scenario(kind: str, outside_c: float) -> Scenario:
    """Return the site of `kind`, so warm outside at the history's end."""
    if kind == "mixed":
        return load("normal", outside_c=outside_c, row_limit_w=333_500, aisle_limit_cfm=62_500)
    if kind == "crowded":
        return load("normal", outside_c=outside_c)
    return load("azure-week", rows=8, servers_per_row=20, row_limit_w=166_300, aisle_limit_cfm=31_150, outside_c=outside_c)


def history(kind: str, seed: int, folder: Path, data: Path | None, *, outside_c: float = 30.0, days: int = DAYS) -> History:
    """Return the weeks, from the folder where they have been made before."""
    site = scenario(kind, outside_c)
    kept = folder / f"plant-{kind}-{seed}-{outside_c:g}-{days}.npz"
    fluid = Fluid(site, load_workload(data), seed, at_s=float(-days * DAY_S - 3_600))
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, **_lived(fluid, seed, data, days))
    with np.load(kept) as file:
        values = {name: file[name] for name in file.files}
    return History(topology=fluid.topology, values=values, names=_names(fluid))


def _lived(fluid: Fluid, seed: int, data: Path | None, days: int) -> dict[str, Floats]:
    per, count = INTERVAL_S // STEP_S, days * DAY_S // INTERVAL_S
    rates = _rates(fluid, seed, data, (count + 12) * per)
    middle: Floats = fluid.now_s + STEP_S * (np.arange(len(rates), dtype=np.float64) + 0.5)
    outside = fluid.demand.outside_c(middle)
    parts: dict[str, list[Floats]] = {}
    for k in range(count + 12):
        steps = range(k * per, (k + 1) * per)
        seen = [_step(fluid, rates[n : n + 1], outside[n : n + 1]) for n in steps]
        if k < 12:
            continue
        for name in seen[0]:
            parts.setdefault(name, []).append(np.mean([one[name] for one in seen], axis=0))
        parts.setdefault("load", []).append(rates[k * per : (k + 1) * per].mean(axis=0))
    return {name: np.stack(rows, axis=1).astype(np.float32) for name, rows in parts.items()}


def _step(fluid: Fluid, asked: Floats, outside: Floats) -> dict[str, Floats]:
    """Go on by one step and look at every sensor."""
    fluid.advance(1, float(STEP_S), lasting=False, rates=asked, outside_c=outside)
    s, fleet = fluid.site.s, fluid.fleet
    gpus = degrees(s.die_c.copy(), fleet.temp_bias_c)
    return {
        "inlet": inlet(s.inlet_c.copy(), fleet.inlet_bias_share),
        "gpu_temp": gpus.max(axis=1),
        "gpu_temp_each": gpus.ravel(),
        "gpu_power": s.gpu_w.sum(axis=1),
        "server_power": s.server_w.copy(),
        "power": s.row_w.copy(),
        "airflow": s.airflow_cfm.copy(),
        "outside": outside,
    }


def _rates(fluid: Fluid, seed: int, data: Path | None, steps: int) -> Floats:
    """Return [steps, E] requests/s."""
    rng = np.random.default_rng([seed, 77])
    days = _days(fluid, data)
    drawn = days[rng.integers(0, len(days), steps * STEP_S // DAY_S + 2)]
    curve = drawn.ravel()
    per_day, seam = DAY_S // STEP_S, SEAM_S // STEP_S
    for day in range(1, len(drawn)):  # from the day before's last value to the new day's course
        share = np.linspace(0.0, 1.0, seam)
        new = slice(day * per_day, day * per_day + seam)
        curve[new] = (1 - share) * curve[day * per_day - 1] + share * curve[new]
    endpoints = len(fluid.topology.endpoints)
    usual = fluid.demand.rates(np.arange(0.0, 7 * DAY_S, 1_800.0)).mean(axis=0)
    sd = fluid.scenario.demand_sd
    wander = np.exp(sd * Wander(endpoints, rng).at(STEP_S * np.arange(steps, dtype=np.float64)) - sd**2 / 2)
    mean = np.maximum(curve[:steps, None] * wander * usual * STEP_S, 0.0)
    burst = load_workload(data).burst_cv ** 2
    return np.asarray(np.maximum(0.0, np.rint(mean + np.sqrt(mean * burst) * rng.standard_normal(mean.shape))) / STEP_S)


def _days(fluid: Fluid, data: Path | None) -> Floats:
    """Return [D, steps of a day]: days of real load relative to their series' mean; the workload's own where there is no
    data."""
    at = np.arange(DAY_S // STEP_S) * STEP_S
    if data is None:
        curve = fluid.demand.rates(STEP_S * np.arange(0.0, 7 * DAY_S / STEP_S))[:, 0].reshape(7, -1)
        return np.asarray(curve / curve.mean())
    real = pl.read_parquet(data / "servegen_load_10min.parquet").filter((pl.col("model") == "m-large") & ~pl.col("gap"))
    azure = pl.read_parquet(data / "azure2024_week_rpm.parquet").filter(pl.col("service") == "conv")
    pairs = [
        (real["t_s"].to_numpy().astype(np.float64), real["rate_rps"].to_numpy().astype(np.float64)),
        (azure["minute_of_week"].to_numpy() * 60.0, azure["mid_rpm"].to_numpy().astype(np.float64)),
    ]
    days = []
    for t_s, rate in pairs:
        known = int((t_s[-1] - t_s[0]) * DEV // DAY_S)
        part = rate[t_s < t_s[0] + known * DAY_S]
        days += [np.interp(t_s[0] + d * DAY_S + at, t_s, rate) / part.mean() for d in range(known)]
    return np.stack(days)


def _names(fluid: Fluid) -> dict[str, tuple[str, ...]]:
    topology = fluid.topology
    servers = tuple(s.name for s in topology.servers)
    gpus = range(fluid.fleet.power_factor.shape[1])
    return {
        **dict.fromkeys(("inlet", "gpu_temp", "gpu_power", "server_power"), servers),
        "gpu_temp_each": tuple(f"{name}/{g}" for name in servers for g in gpus),
        "power": tuple(r.name for r in topology.rows),
        "airflow": tuple(a.name for a in topology.aisles),
        "load": tuple(e.name for e in topology.endpoints),
        "outside": (topology.site,),
    }
