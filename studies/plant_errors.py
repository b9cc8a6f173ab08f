"""How far the learnt plant lies from the sensors on a week that it has not seen, per law; its speed; and what it says beyond
its range.

    python -m studies.plant_errors --folder F [--data DIR] [--kinds mixed,crowded,serving] [--seeds 12,13,14] [--report F]
    python -m studies.plant_errors --folder F --load

Four weeks of `studies.plant_history`; learnt from three, scored on the fourth against the sensors' own readings, 5 min means
of whole degrees. Beside each law the error of the data sheet's and the published values. `beyond`: learnt from the intervals
of the first three weeks below the median of outside temperature and of each server's power only, scored on the fourth above
both; `said` = what the plant itself expected there. `--load`: 1,000 servers of 8 GPUs over four weeks, in parts.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contracts.ports import Batch
from forecast.grids import Floats
from forecast.plant import Plant, drifted, fit
from studies.plant_history import END_S, INTERVAL_S, KINDS, History, history
from twin import fleet
from twin.scenario import load

TARGETS = ("inlet", "gpu_temp", "gpu_temp_each", "gpu_power", "server_power", "airflow", "outside")
WEEK, DAY = 2_016, 288


def said(plant: Plant, seen: History, columns: slice) -> dict[str, Floats]:
    """Return what the plant says in these columns: inlet, gpu, power [S, T], each [S, G, T], airflow [A, T]."""
    outside, power, inlet = (seen.values[name].astype(np.float64)[:, columns] for name in ("outside", "gpu_power", "inlet"))
    load = power.sum(axis=0) / plant.peak_gpu_power_w().sum()
    air = np.stack([plant.airflow_cfm(w) for w in power.T], axis=1)
    aisles = {row.name: row.aisle for row in seen.topology.rows}
    member = np.array(
        [[aisles[s.row] == a.name for s in seen.topology.servers] for a in seen.topology.aisles], dtype=np.float64
    )
    return {
        "inlet_c": np.stack([plant.inlet_c(float(o), float(x)) for o, x in zip(outside[0], load, strict=True)], axis=1),
        "gpu_c": np.stack([plant.gpu_c(i, w) for i, w in zip(inlet.T, power.T, strict=True)], axis=1),
        "gpu_each_c": np.stack([plant.gpu_each_c(i, w) for i, w in zip(inlet.T, power.T, strict=True)], axis=2),
        "server_power_w": np.stack([plant.server_power_w(w) for w in power.T], axis=1),
        "airflow_cfm": member @ air,
    }


def shown(seen: History, columns: slice) -> dict[str, Floats]:
    """Return the readings in the shapes of `said`."""
    by_name = {"inlet_c": "inlet", "gpu_c": "gpu_temp", "server_power_w": "server_power", "airflow_cfm": "airflow"}
    out = {name: seen.values[of].astype(np.float64)[:, columns] for name, of in by_name.items()}
    each = seen.values["gpu_temp_each"].astype(np.float64)[:, columns]
    return out | {"gpu_each_c": each.reshape(len(seen.names["inlet"]), -1, each.shape[1])}


def errors(plant: Plant, seen: History, columns: slice) -> dict[str, float]:
    """Return the mean absolute errors: K, and percent for power and airflow; the worst server's as `worst ...`."""
    truth, found = shown(seen, columns), said(plant, seen, columns)
    out: dict[str, float] = {}
    for name, values in truth.items():
        rest = np.abs(found[name] - values)
        rest = 100.0 * rest / values if name in ("server_power_w", "airflow_cfm") else rest
        out[name] = float(rest.mean())
        out[f"worst {name}"] = float(rest.reshape(len(rest), -1).mean(axis=1).max())
    return out


def beyond(seen: History, cut: int) -> dict[str, float]:
    """Return error and expected error where it is warmer outside, and where servers draw more, than the plant has seen."""
    outside, power = seen.values["outside"][0], seen.values["gpu_power"]
    warm = outside > np.median(outside[:cut])
    busy = power > np.median(power[:, :cut], axis=1, keepdims=True)
    frames: dict[str, Batch] = {}
    for name in TARGETS:
        batch = seen.batch(name, 0, cut)
        values = batch.values.copy()
        values[:, warm[:cut]] = np.nan
        if len(values) == len(busy):
            values[busy[:, :cut]] = np.nan
        frames[name] = Batch(target=name, step_s=INTERVAL_S, ts=batch.ts, names=batch.names, values=values)
    plant, columns = fit(seen.topology, frames), slice(cut, None)
    found, truth = said(plant, seen, columns), shown(seen, columns)
    inlet = seen.values["inlet"].astype(np.float64)[:, columns]
    expected = np.stack(
        [plant.gpu_error_k(i, w) for i, w in zip(inlet.T, power[:, columns].T.astype(np.float64), strict=True)], axis=1
    )
    doubt = np.array([plant.inlet_error_k(float(o)) for o in outside[columns]])
    hot = warm[columns]
    both = busy[:, columns] & hot
    return {
        "inlet error": float(np.abs(found["inlet_c"] - truth["inlet_c"])[:, hot].mean()),
        "inlet said": float(doubt[hot].mean()),
        "gpu error": float(np.abs(found["gpu_c"] - truth["gpu_c"])[both].mean()),
        "gpu said": float(expected[both].mean()),
        "power error %": float(
            100 * (np.abs(found["server_power_w"] - truth["server_power_w"]) / truth["server_power_w"])[both].mean()
        ),
    }


def false_alarms(plant: Plant, seen: History, cut: int) -> float:
    """Return the share of (server, day) of the unseen week in which nothing has changed and `drifted` names the server."""
    days = range(cut, cut + WEEK, DAY)
    named = [len(drifted(plant, {name: seen.batch(name, day, day + DAY) for name in TARGETS})) for day in days]
    return sum(named) / (len(days) * len(plant.servers))


def measured(kind: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return one record."""
    seen = history(kind, seed, options.folder, options.data, outside_c=options.outside)
    cut = seen.values["inlet"].shape[1] - WEEK
    began = time.process_time()
    plant = fit(seen.topology, {name: seen.batch(name, 0, cut) for name in TARGETS})
    took = time.process_time() - began
    week = slice(cut, None)
    return {
        "kind": kind,
        "seed": seed,
        "fit_s": took,
        "error": errors(plant, seen, week),
        "claimed": plant.state.errors,
        "published": bare_errors(fit(seen.topology, {}), seen, week),
        "beyond": beyond(seen, cut),
        "drift named": false_alarms(plant, seen, cut),
    }


def bare_errors(bare: Plant, seen: History, week: slice) -> dict[str, float]:
    """Return the errors of the published values; of single GPUs nothing is published."""
    found = errors(bare, seen, week)
    return {name: found[name] for name in ("inlet_c", "gpu_c", "server_power_w", "airflow_cfm")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the histories are kept")
    parser.add_argument("--data", type=Path, help="reference data; without it the load is generated")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="12,13,14", help="11 was used to choose constants")
    parser.add_argument("--outside", type=float, default=30.0, help="degC outside at the history's end")
    parser.add_argument("--load", action="store_true", help="measure a fit of 1,000 servers in place of errors")
    parser.add_argument("--report", type=Path, help="write JSON to this file")
    options = parser.parse_args(arguments)
    if options.load:
        print(json.dumps(load_test(), indent=1))
        return
    records = [measured(kind, int(seed), options) for kind in options.kinds.split(",") for seed in options.seeds.split(",")]
    for record in records:
        print(json.dumps(record, indent=None, default=float))
    if options.report:
        options.report.write_text(json.dumps(records, indent=1) + "\n")


def load_test(servers: int = 1_000, days: int = 28) -> dict[str, float]:
    """Return CPU seconds and memory of a fit; readings are made up part by part, as a history would hand them over."""
    topology = fleet.build(load("azure-week", rows=servers // 40), 1).topology
    columns = days * DAY
    ts = END_S + INTERVAL_S * (np.arange(columns, dtype=np.int64) + 1 - columns)
    hour = 2 * np.pi * (ts % 86_400) / 86_400
    made = [0.0]

    def parts(target: str, per: int) -> Iterator[Batch]:
        for number, server in enumerate(topology.servers):
            began = time.process_time()
            rng = np.random.default_rng([number, 3])
            power = 3_300 + 900 * np.sin(hour + rng.normal(0, 0.1)) + rng.normal(0, 60, columns)
            inlet = np.rint(24 + 4 * np.sin(hour) + rng.normal(0, 1.2))
            place = rng.normal(0, 2, (8, 1))
            each = np.rint(2.6 + 0.96 * inlet + 0.053 / 8 * power + place)
            wall = (power + 2_400) / 0.94
            made[0] += time.process_time() - began
            rows = {
                "inlet": inlet[None],
                "gpu_power": power[None],
                "server_power": wall[None],
                "gpu_temp": each.max(axis=0)[None],
            }
            values = each if target == "gpu_temp_each" else rows[target]
            names = tuple(f"{server.name}/{g}" for g in range(per)) if per > 1 else (server.name,)
            yield Batch(target=target, step_s=INTERVAL_S, ts=ts, names=names, values=values)

    outside = Batch(target="outside", step_s=INTERVAL_S, ts=ts, names=("site",), values=(20 + 6 * np.sin(hour))[None])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    frames: dict[str, Any] = {name: parts(name, 1) for name in ("inlet", "gpu_power", "server_power", "gpu_temp")}
    plant = fit(topology, {**frames, "gpu_temp_each": parts("gpu_temp_each", 8), "outside": outside})
    took = time.process_time() - began - made[0]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"fit_cpu_s": took, "peak_mib": after, "above_start_mib": after - before, "json_mib": len(plant.to_json()) / 2**20}


if __name__ == "__main__":
    main()
