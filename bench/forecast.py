"""Our forecasts beside the naive ones and other people's, on real loads and on the twin, each with its interval and its bar.

    python -m bench.forecast --report F [--data DIR] [--part dev|test] [--way service|backtest] [--quick] [--peers PYTHON]

`dev` scores the last 40 % of the first 70 % of every series, and is what one develops with; `test` scores the last 30 %, and
is for the end: nothing may be tuned on it. `--quick` looks at the last day only: it shows that the benchmark runs, and proves
nothing. `--peers` is a Python with bench/beside/forecast_peers/requirements.txt (`make bench-peers`); without it the answers that
they gave before are used, and where there are none, the peers are reported as absent. Raw samples lie beside F, as Parquet.
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

from bench import forecast_lines as lines
from bench import forecast_peers as peers
from bench.forecast_ours import issued
from bench.forecast_scores import Scored, columns_of
from bench.forecast_sets import judged, lately, loads, only
from bench.twin import loop_ns, rss_mib

BUILD = Path("build/forecast-peers")
RESULTS = Path(__file__).parent / "results"
PAIRS = 5_000
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
    "refit_series_per_s": ("refit, series per second and core", "speed"),
    "tick_ms_10k": ("tick of 10,000 series", "speed"),
}
"""the report's keys -> the line that they repeat; a set may be named more fully"""


def tell(text: str) -> None:
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def real(options: argparse.Namespace) -> tuple[list[Scored], list[dict[str, Any]]]:
    """Return what was issued for the real loads (model level, mixed) and the lines about it."""
    series = loads(options.data)
    found = {}
    for name, groups in (("level", ["model"]), ("mixed", ["model", "client"])):
        given = judged(name, "load", only(series, groups), options.part)
        if options.quick:
            given = lately(given, 1.0)
        found[name] = Scored(
            given=given, issued=issued(given, lines.HORIZONS_S, way=options.way, stride=options.stride, told=tell)
        )
    level, mixed = found["level"], found["mixed"]
    out = lines.loads(level, [mixed])
    answers = asked(mixed, options)
    out += lines.peers(mixed, answers)
    return [level, mixed], out + [
        absent(f"peer {peer}", "it has answered nothing yet") for peer in peers.PEERS if peer not in answers
    ]


def asked(mixed: Scored, options: argparse.Namespace) -> dict[str, pl.DataFrame]:
    """Return the peers' answers: what they gave before, and, with their Python, what is missing."""
    folder = BUILD / options.part
    if options.peers and not options.quick:
        peers.prepare([judged("mixed", "load", loads(options.data), options.part)], options.pairs, folder)
        peers.run(options.peers, peers.PEERS, folder)
    found = {peer: peers.answers(folder, peer) for peer in peers.PEERS}
    return {peer: table for peer, table in found.items() if len(table)}


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
    else:
        sets, found = real(options)
    if options.report and sets:
        raw(sets, options.report.with_suffix(".parquet"))
    return {
        **head,
        "part": options.part,
        "way": options.way,
        "quick": options.quick,
        **({"proves": "nothing: one day, few origins"} if options.quick else {}),
        **keyed(found),
        "lines": found,
        "naive_wins": lines.naive_wins({one.given.name: [one] for one in sets}),
        "spoke": {one.given.name: one.issued.spoke for one in sets},
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
    parser.add_argument("--peers", type=Path, help="the peers' Python")
    parser.add_argument("--quick", action="store_true", help="the last day only, within 50 s")
    parser.add_argument("--report", type=Path, help="write JSON to this file, raw samples beside it")
    options = parser.parse_args()
    if options.quick:
        options.stride = max(options.stride, 6)
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
