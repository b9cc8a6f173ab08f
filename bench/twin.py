"""The twin's week: 1,000 servers, 1e9 requests one by one; with telemetry and an empty control loop; as flows; by size.

    python -m bench.twin [--quick | --for 24h [--telemetry-for 1h]] [--data DIR] [--report F]

CPU seconds are those of all threads, after compilation. A run shorter than a week begins where the site's load is the week's
mean; its sums and costs are then multiplied up to a week (`simulated_s` says from what). Beside it: a per-iteration simulator
of one instance in plain Python at the same load, run here, and published rates of others.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.beside import per_iteration
from bench.beside.empty_loop import TICK_S, EmptyLoop
from coldaisle.options import Duration
from contracts.workload import Workload
from ingest.workload import load as load_workload
from twin import solo
from twin.fluid import Fluid
from twin.models import load as load_calibration
from twin.resized import resized
from twin.scenario import Scenario
from twin.world import World

WEEK_S, SEED = 7 * 86_400, 7
SIZES = (80, 1000, 10_000)
PEERS = {
    "splitwise-sim": {"requests_per_cpu_s": [450, 1200], "source": "its code run on two cores before this project began [S]"},
    "vidur": {"requests_per_cpu_s": [470, 470], "source": "the same [S]"},
    "RAPS": {"gpu_seconds_per_cpu_s": [9.2e6, 9.2e6], "source": "the same; it has no requests [S]"},
}
Sample = dict[str, float]


def week(workload: Workload, simulated_s: float, servers: int = 1000) -> Scenario:
    """Return the week of `servers`; a shorter run begins on Monday where the rate is the week's mean."""
    if simulated_s >= WEEK_S:
        return resized("azure-week", servers=servers)
    minutes = np.arange(0.0, WEEK_S / 60, 5.0)
    rate = np.interp(minutes, workload.minute_of_week, workload.rate, period=WEEK_S / 60)
    monday = rate[: 86_400 // 300]
    minute = float(minutes[np.abs(monday - rate.mean()).argmin()])
    start = datetime(2026, 7, 13, tzinfo=UTC) + timedelta(minutes=minute)
    return resized("azure-week", servers=servers, start=start.isoformat())


def pieces(world: World, count: int, each_s: int) -> list[Sample]:
    """Let count x each_s seconds happen; return what each piece cost and brought."""
    found = []
    gpus = world.state.die_c.size
    for _ in range(count):
        before, cpu_s, wall_s = world.score().requests, time.process_time(), time.perf_counter()
        world.advance(world.now + timedelta(seconds=each_s))
        found.append(
            {
                "simulated_s": each_s,
                "requests": world.score().requests - before,
                "gpu_seconds": gpus * each_s,
                "cpu_s": time.process_time() - cpu_s,
                "wall_s": time.perf_counter() - wall_s,
            }
        )
    return found


def rate(samples: Sequence[Sample], what: str) -> float:
    """Return `what` per CPU-second: the median over pieces of a short run, all together over a long one's."""
    if sum(s["simulated_s"] for s in samples) >= 86_400:
        return sum(s[what] for s in samples) / sum(s["cpu_s"] for s in samples)
    return statistics.median(s[what] / s["cpu_s"] for s in samples)


def loop_ns() -> float:
    """What one turn of an empty loop takes now: how fast this machine is at the moment."""
    begun = time.process_time()
    for _ in range(1_000_000):
        pass
    return round((time.process_time() - begun) * 1e3, 1)


def rss_mib() -> float:
    """The most that this process ever held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def bare(workload: Workload, count: int, each_s: int) -> dict[str, Any]:
    """The week without anybody looking."""
    world = World(week(workload, count * each_s), workload, SEED, logged=False)
    startup_cpu_s = time.process_time()
    samples = pieces(world, count, each_s)
    score, up = world.score(), WEEK_S / (count * each_s)
    cpu_s = WEEK_S / rate(samples, "simulated_s")
    return {
        "simulated_s": count * each_s,
        "requests": round(score.requests * up),
        "prompt_tokens": round(score.prompt_tokens * up),
        "output_tokens": round(score.output_tokens * up),
        "gpu_seconds": world.state.die_c.size * WEEK_S,
        "cpu_s": round(cpu_s, 1),
        "startup_cpu_s": round(startup_cpu_s, 2),
        "wall_s": round(sum(s["wall_s"] for s in samples) * up, 1),
        "rss_mib": rss_mib(),
        "max_gpu_c": round(score.max_gpu_c, 2),
        "max_row_power_ratio": round(score.max_row_power_ratio, 4),
        "slo_ok": round(score.slo_ok, 5),
        "requests_per_cpu_s": round(rate(samples, "requests")),
        "gpu_seconds_per_cpu_s": round(rate(samples, "gpu_seconds")),
        "raw": samples,
    }


def telemetry(workload: Workload, count: int, each_s: int) -> dict[str, Any]:
    """The week as an operator has it: everything exported and folded, and a tick every 5 s that has nothing to say."""
    world = World(week(workload, count * each_s), workload, SEED)
    watched = EmptyLoop(world)
    watched.advance(2 * TICK_S)  # polars and the fold see their first frames
    watched.cpu_s.clear()
    watched.counts.clear()
    samples = []
    for _ in range(count):
        before, cpu_s = world.score().requests, time.process_time()
        watched.advance(each_s)
        took = time.process_time() - cpu_s
        samples.append({"simulated_s": each_s, "requests": world.score().requests - before, "cpu_s": took})
    up = WEEK_S / (count * each_s)
    parts = {name: round(s * up, 1) for name, s in sorted(watched.cpu_s.items(), key=lambda item: -item[1])}
    return {
        "simulated_s": count * each_s,
        "cpu_s": round(WEEK_S / rate(samples, "simulated_s"), 1),
        "cpu_s_by_part": parts,
        "period_s": watched.period_s,
        "per_week": {name: round(n * up) for name, n in watched.counts.items()},
        "rss_mib": rss_mib(),
        "raw": samples,
    }


def fluid(workload: Workload, count: int, steps: int) -> dict[str, Any]:
    """Seconds of 1,000 servers as flows, 1 s steps."""
    scenario = week(workload, 0)
    engine = Fluid(scenario, workload, SEED)
    engine.advance(60, 1.0)
    samples = []
    for _ in range(count):
        cpu_s = time.process_time()
        engine.advance(steps, 1.0)
        samples.append({"simulated_s": float(steps), "cpu_s": time.process_time() - cpu_s})
    return {"servers": 1000, "step_s": 1.0, "seconds_per_cpu_s": round(rate(samples, "simulated_s")), "raw": samples}


def size(workload: Workload, servers: int, count: int, each_s: int) -> dict[str, Any]:
    """What a second costs at a size."""
    cpu_s = time.process_time()
    world = World(week(workload, 0, servers), workload, SEED, logged=False)
    build_cpu_s = time.process_time() - cpu_s
    samples = pieces(world, count, each_s)
    return {
        "servers": servers,
        "cpu_ms_per_s": round(1e3 / rate(samples, "simulated_s"), 4),
        "requests_per_cpu_s": round(rate(samples, "requests")),
        "gpu_seconds_per_cpu_s": round(rate(samples, "gpu_seconds")),
        "build_cpu_s": round(build_cpu_s, 2),
        "rss_mib_so_far": rss_mib(),
        "raw": samples,
    }


def startup(count: int) -> dict[str, Any]:
    """From the command to the report of one simulated second of 1,000 servers, compiled code cached."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "coldaisle", "twin", "run", "--servers", "1000", "--for", "1s", "--json"]
        for _ in range(count):
            begun = time.perf_counter()
            subprocess.run([*command, "--report", f"{folder}/r.json"], check=True, stdout=subprocess.DEVNULL)
            cpu_s = json.loads(Path(f"{folder}/r.json").read_text())["startup_cpu_s"]
            samples.append({"wall_s": time.perf_counter() - begun, "startup_cpu_s": cpu_s})
    return {"wall_s": round(statistics.median(s["wall_s"] for s in samples), 2), "raw": samples}


def peer(workload: Workload, count: int, requests: int) -> dict[str, Any]:
    """The per-iteration simulator on an instance's mean load; and that both say the same of the same requests."""
    point = load_calibration("modern").point("llama3.1-70b", "h100", 4)
    curve = np.interp(np.arange(0.0, WEEK_S / 60, 5.0), workload.minute_of_week, workload.rate, period=WEEK_S / 60)
    hour = np.convolve(curve[:288], np.ones(12) / 12, mode="valid").max()
    rps = 1.4 * curve.mean() / hour
    samples = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(workload.prompt_tokens), size=requests)
        at_s = np.cumsum(rng.exponential(1 / rps, requests))
        prompt, output = workload.prompt_tokens[drawn], workload.output_tokens[drawn]
        each = [per_iteration.Request(*row) for row in zip(at_s.tolist(), prompt.tolist(), output.tolist(), strict=True)]
        cpu_s = time.process_time()
        per_iteration.serve(point, each)
        cpu_s = time.process_time() - cpu_s
        own = solo.serve(point, solo.Arrivals(at_s, prompt, output), point.clock_mhz[-1])
        apart_s = max(abs(r.first_s - s) for r, s in zip(each, own.first_s.tolist(), strict=True))
        apart_s = max(apart_s, *(abs(r.end_s - s) for r, s in zip(each, own.end_s.tolist(), strict=True)))
        samples.append({"requests_per_cpu_s": requests / cpu_s, "cpu_s": cpu_s, "apart_s": apart_s})
    return {
        "requests_per_cpu_s": round(statistics.median(s["requests_per_cpu_s"] for s in samples)),
        "what": f"bench/beside/per_iteration.py, one instance, {rps:.2f} requests/s, no power and no heat",
        "apart_s": max(s["apart_s"] for s in samples),
        "raw": samples,
    }


def parted(simulated_s: float) -> tuple[int, int]:
    """Return a number of pieces, at least 5 and about 6 h each, and the seconds of each."""
    count = max(5, int(simulated_s) // 21_600)
    return count, max(TICK_S, int(simulated_s) // count)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all parts; the first is the bare week, so that its memory is its own."""
    workload = load_workload(options.data)
    turns = [loop_ns()]
    found = bare(workload, *((5, 60) if options.quick else parted(options.simulated_s)))
    raw: dict[str, Any] = {"bare": found.pop("raw")}
    quick = options.quick
    longest = [20 if quick or n > 1000 else 300 for n in SIZES]
    parts: dict[str, Callable[[], Any]] = {
        "telemetry": lambda: telemetry(workload, *((3, 20) if quick else parted(options.telemetry_s))),
        "fluid": lambda: fluid(workload, 5, 600 if quick else 7200),
        "startup": lambda: startup(2 if quick else 5),
        "peer": lambda: peer(workload, 5, 300 if quick else 2000),
        "sizes": lambda: [size(workload, n, 3, each) for n, each in zip(SIZES, longest, strict=True)],
    }
    for name, part in parts.items():
        turns.append(loop_ns())
        found[name] = part()
        raw[name] = [one.pop("raw") for one in found[name]] if name == "sizes" else found[name].pop("raw")
    found["loop_ns"] = [*turns, loop_ns()]
    found["peer_ratio"] = round(found["requests_per_cpu_s"] / found["peer"]["requests_per_cpu_s"], 1)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "quick": options.quick,
        "extrapolated_to_s": WEEK_S,
        "workload": workload.name,
        **found,
        "peers": PEERS,
        "raw": raw,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="minutes in the place of the week, within 50 s")
    parser.add_argument("--for", dest="simulated_s", default="7d", help="simulated time, bare and with telemetry")
    parser.add_argument("--telemetry-for", dest="telemetry_s", help="simulated time with telemetry, where another")
    parser.add_argument("--data", type=Path, help="reference data; without it the load is generated")
    parser.add_argument("--report", type=Path, help="write JSON to this file")
    options = parser.parse_args()
    duration = Duration()
    options.telemetry_s = duration.convert(options.telemetry_s or options.simulated_s, None, None)
    options.simulated_s = duration.convert(options.simulated_s, None, None)
    report = measure(options)
    text = json.dumps(report, indent=2)
    print(text)
    print(f"\nper CPU-second: {report['requests_per_cpu_s']:,} requests, {report['peer_ratio']} times the per-iteration peer's")
    print(f"{report['gpu_seconds_per_cpu_s']:,} GPU-seconds, {report['fluid']['seconds_per_cpu_s']:,} seconds as flows")
    print(f"telemetry and empty loop: {report['telemetry']['cpu_s'] / report['cpu_s']:.1f} times the bare week's CPU")
    if options.report:
        options.report.write_text(text + "\n")


if __name__ == "__main__":
    main()
