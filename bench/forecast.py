"""Our forecasts beside the naive ones and other people's, on real loads and on the twin, each with its interval and its bar.

    python -m bench.forecast --report F [--data DIR] [--part dev|test] [--way service|backtest] [--quick] [--peers PYTHON]

`dev` scores the last 40 % of the first 70 % of every series, and is what one develops with; `test` scores the last 30 %, and
is for the end: nothing may be tuned on it. `--quick` looks at half a day of few series: it shows that the benchmark runs.
`--peers` is a Python with bench/beside/forecast_peers/requirements.txt (`make bench-peers`). Without it the answers that
peers gave before are used; a peer without any is reported as absent. Raw samples lie beside F, as Parquet.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import forecast_inlet as inlet
from bench import forecast_lines as lines
from bench import forecast_peers as peers
from bench import forecast_plants as plants
from bench import forecast_speed as speed
from bench.forecast_ours import issued
from bench.forecast_scores import Scored, columns_of
from bench.forecast_sets import Judged, judged, lately, loads, only
from bench.forecast_twin import row_power
from bench.twin import loop_ns, rss_mib
from forecast.grids import Floats, carried
from ingest.workload import load as load_workload
from studies import row_maxima

BUILD = Path("build/forecast-peers")
TWIN = Path("build/forecast-twin")
RESULTS = Path(__file__).parent / "results"
PAIRS = 5_000
PARTS = ("loads", "inlets", "maxima", "plants", "speed")
QUICK_SERIES, QUICK_H, QUICK_KNOWN_D = 8, 12.0, 4
KEYS = {
    "load_15m_vs_persistence": ("15 min / persistence", "model level"),
    "load_1h_vs_persistence": ("1 h / persistence", "model level"),
    "load_24h_vs_seasonal": ("24 h / seasonal-naive", "m-large"),
    "coverage_90_1h": ("coverage 90 % up to 1 h", "mixed"),
    "coverage_98_1h": ("coverage 98 % up to 1 h", "mixed"),
    "inlet_15m_vs_persistence": ("15 min / persistence", "inlet"),
    "inlet_fault_15m_vs_persistence": ("15 min / persistence", "inlet in a cooling fault"),
    "missed_crossings": ("crossings missed", "inlet in a cooling fault"),
    "lead_min": ("lead, median", "inlet in a cooling fault"),
    "plant_inlet_mae_k": ("inlet, MAE, K", "plant"),
    "plant_gpu_mae_k": ("each GPU, MAE, K", "plant"),
    "plant_server_power_error_percent": ("server power, error, %", "plant"),
    "refit_series_per_s": ("refit of 10,000 temperatures, series per second and core", "speed"),
    "tick_ms_10k": ("tick of 10,000 series, ms", "speed"),
}
"""the report's keys -> the line that they repeat; a set may be named more fully"""


def tell(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def real(options: argparse.Namespace) -> tuple[list[Scored], list[dict[str, Any]]]:
    """Return what was issued for the real loads (model level, mixed) and for twin rows, and the lines about them."""
    series = loads(options.data)
    if options.quick:
        series = dict(list(series.items())[:QUICK_SERIES])
    sets = [judged("level", "load", only(series, ["model"]), options.part), judged("mixed", "load", series, options.part)]
    if options.quick:
        sets = [lately(one, QUICK_H, QUICK_KNOWN_D) for one in sets]
    else:
        sets.append(judged("rows", "power", rows_of(series["m-large"][1], options.data), options.part, step_s=300))
    found = [scored(given, options) for given in sets]
    out = lines.loads(found[0], found[1:])
    out += lines.rows(found[2]) if len(found) > 2 else [absent("row power", "not with --quick")]
    if options.quick:
        return found, out + before()
    answers = asked(sets[1:], options)
    out += lines.peers(found[1:], answers)
    return found, out + [absent(f"peer {peer}", "it has answered nothing yet") for peer in peers.PEERS if peer not in answers]


def before(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the peers' lines of the last full run, with its date."""
    files = sorted(folder.glob("forecast-*.json"))
    if not files:
        return [absent("peers", "no full run in bench/results yet")]
    last = json.loads(files[-1].read_text())
    mine = [one for one in last["lines"] if any(peer in one["what"] for peer in peers.PEERS)]
    return [{**one, "from": last["date"]} for one in mine]


def scored(given: Judged, options: argparse.Namespace) -> Scored:
    """Return the set with what we issue for it, every 10 min whatever its step."""
    stride = options.stride * 600 // given.batch.step_s
    return Scored(given=given, issued=issued(given, lines.horizons(given), way=options.way, stride=stride, told=tell))


def rows_of(fortnight: Floats, data: Path) -> dict[str, tuple[str, Floats]]:
    """Return the twin's row power under m-large's fortnight."""
    made = row_power(carried(fortnight[None])[0], load_workload(data), TWIN)
    return {f"row-{n + 1}": ("row", values) for n, values in enumerate(made)}


def asked(sets: Sequence[Judged], options: argparse.Namespace) -> dict[str, pl.DataFrame]:
    """Return the peers' answers: what they gave before, and, with their Python, what is missing; told where a peer fails."""
    found: dict[str, list[pl.DataFrame]] = {}
    for given in sets:
        folder = BUILD / options.part / given.name
        if options.peers and options.ask:
            share = len(given.batch.names) / sum(len(one.batch.names) for one in sets)
            peers.prepare(given, int(share * options.pairs), folder)
        for peer in options.ask if options.peers else ():
            status = peers.run(options.peers, peer, folder)
            if status:
                tell(f"{peer} on {given.name} ended with {status}: what it had answered by then is used")
        for peer in peers.PEERS:
            found.setdefault(peer, []).append(peers.answers(folder, peer))
    return {peer: pl.concat(tables) for peer, tables in found.items() if any(len(table) for table in tables)}


def inlets(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the lines about inlets on the twin."""
    workload = load_workload(options.data)
    done = []
    for kind in inlet.KINDS:
        for seed in range(1, options.seeds + 1):
            done.append(inlet.ticked(inlet.made(kind, seed, workload, TWIN)))
            tell(f"inlet {kind} {seed}")
    return inlet.lines(done)


def maxima(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the lines about row maxima: the study's week on seeds that no constant was chosen on."""
    own = argparse.Namespace(kinds="week", seeds="3,4,5", from_day=2.0, until_day=row_maxima.DAYS - 0.01)
    own.folder, own.data = TWIN / "maxima", options.data
    return lines.maxima(row_maxima.measure(own))


def absent(what: str, why: str) -> dict[str, Any]:
    """Return the line of something that could not be measured."""
    return {"what": what, "value": None, "absent": why}


def keyed(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report's flat keys, each with `_lo` and `_hi`; null where its line is absent."""
    out: dict[str, Any] = {}
    for key, (what, on) in KEYS.items():
        one = next((x for x in found if x["what"] == what and str(x.get("set", "")).startswith(on)), {})
        out |= {key: one.get("value"), f"{key}_lo": one.get("lo"), f"{key}_hi": one.get("hi")}
    return out


def raw(sets: Sequence[Scored], file: Path) -> None:
    """Write all samples of all sets: what came, what was forecast, by us and by the naive ones."""
    parts = []
    for one in sets:
        columns = columns_of(one, one.issued.seconds.tolist())
        frame = pl.DataFrame({name: np.concatenate(values) for name, values in columns.items()})
        names = pl.Series("series", one.given.batch.names)[frame["row"]]
        parts.append(frame.drop("row").with_columns(pl.lit(one.given.name).alias("set"), names))
    pl.concat(parts, how="diagonal").write_parquet(file, compression="zstd")


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m bench.forecast", *(a for a in sys.argv[1:] if not Path(a).is_absolute())]),
        "commit": commit,
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "loop_ns": loop_ns(),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all parts that can be run."""
    head = machine()
    sets: list[Scored] = []
    found: list[dict[str, Any]] = []
    if options.data is None:
        found += [absent("all lines on real loads", "no data: give --data or COLDAISLE_DATA")]
    elif "loads" in options.only:
        sets, found = real(options)
    speed_raw: dict[str, Any] = {}
    if options.quick:
        found += [absent(name, "not with --quick") for name in ("inlets on the twin", "row maxima", "learnt plants", "speed")]
    if "inlets" in options.only and not options.quick:
        found += inlets(options)
    if "maxima" in options.only and not options.quick:
        found += maxima(options)
    if "plants" in options.only and not options.quick:
        found += plants.lines(TWIN / "plants", options.data, tell)
    if "speed" in options.only and not options.quick:
        more, speed_raw = speed.lines(options.many, options.peers)
        found += more
    if options.report and sets:
        raw(sets, options.report.with_suffix(".parquet"))
    return {
        **head,
        "part": options.part,
        "way": options.way,
        "quick": options.quick,
        **({"proves": "nothing: half a day of few series after four days, few origins"} if options.quick else {}),
        **keyed(found),
        "lines": found,
        "naive_wins": lines.naive_wins({one.given.name: [one] for one in sets}),
        "spoke": {one.given.name: one.issued.spoke for one in sets},
        "raw_speed": speed_raw,
        "raw": f"{options.report.stem}.parquet" if options.report and sets else None,
        "rss_mib": rss_mib(),
        "loop_ns_end": loop_ns(),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("COLDAISLE_DATA")
    parser.add_argument("--data", type=Path, default=Path(folder) if folder else None, help="reference data (COLDAISLE_DATA)")
    parser.add_argument("--part", choices=("dev", "test"), default="dev", help="which part of each series is scored")
    parser.add_argument(
        "--way", choices=("service", "backtest"), default="service", help="whose choice and bands: see forecast_ours"
    )
    parser.add_argument("--stride", type=int, default=1, help="score every so many steps of 10 min")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="(series, origin) pairs that peers are asked about")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind of inlet case")
    parser.add_argument("--many", type=int, default=10_000, help="series of the class whose refit and tick are measured")
    parser.add_argument("--ask", nargs="*", default=list(peers.PEERS), help="which peers to ask")
    parser.add_argument("--peers", type=Path, help="the peers' Python")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="leave the other parts out of the report")
    parser.add_argument("--quick", action="store_true", help="half a day of few series, within 50 s")
    parser.add_argument("--report", type=Path, help="write JSON to this file, raw samples beside it")
    options = parser.parse_args()
    if options.quick:
        options.stride = max(options.stride, 3)
    report = measure(options)
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n")
    for one in report["lines"]:
        print(shown(one))
    print(f"naive wins in {len(report['naive_wins'])} cases: see the report")
    if options.quick:
        print("quick: it runs, and proves nothing")


def shown(one: Mapping[str, Any]) -> str:
    """Return a line for people."""
    if one.get("value") is None:
        return f"{one['what']}: {one.get('absent', 'nothing to score')}"
    ends = f" ({one['lo']} to {one['hi']}, {one['pairs']} pairs)" if one.get("lo") is not None else ""
    verdict = "" if "met" not in one else f"  bar {one['bar']} {'met' if one['met'] else 'NOT met'}"
    verdict += "" if "goal_met" not in one else f", goal {one['goal']} {'met' if one['goal_met'] else 'not met'}"
    return f"{one.get('set', '')}: {one['what']}: {one['value']}{ends}{verdict}"


if __name__ == "__main__":
    main()
