"""From the log to committed rows, beside VictoriaMetrics (influx endpoint) on the same samples; both unpaced, single node.

    python -m bench.ingest [--quick] [--report F]

GPU telemetry of 640 GPUs at 1 Hz. Ours: records of one second each are on the broker already; measured is the owner, from its
first poll to the last commit, offsets included. Peer: the same values as influx lines, 10,000 a request, from the first request
until a flush has made them searchable; making the lines is not counted for either side.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from coldaisle.clock import WallClock
from contracts.schemas import GPU
from ingest.bus import BusSettings, connect
from ingest.codec import encode, frame_of
from ingest.embedded import EmbeddedBroker, free_port
from ingest.headers import cloud_event
from ingest.history import owner
from ingest.history.store import History
from ingest.records import CONTENT_ARROW

GPUS, PER_NODE = 640, 8
VALUES = ("power_w", "temp_c", "mem_temp_c", "sm_clock_mhz", "mem_clock_mhz", "util_pct", "mem_used_mib", "energy_j")
LINES = 10_000


def seconds(count: int) -> list[pl.DataFrame]:
    """Return `count` frames of one second of all GPUs, with values at a sensor's precision."""
    rng = np.random.default_rng(1)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=count)
    node = [f"n{i // PER_NODE:03d}" for i in range(GPUS)]
    level = rng.uniform(200, 700, GPUS)
    frames = []
    for second in range(count):
        power = np.round(level + rng.normal(0, 15, GPUS), 1).clip(60)
        columns: dict[str, Any] = {
            "ts": [start + timedelta(seconds=second)] * GPUS,
            "node": node,
            "gpu": [i % PER_NODE for i in range(GPUS)],
            "state": ["ok"] * GPUS,
            "power_w": power,
            "temp_c": np.round(30 + power * 0.07),
            "mem_temp_c": np.round(36 + power * 0.07),
            "sm_clock_mhz": np.full(GPUS, 1980.0),
            "mem_clock_mhz": np.full(GPUS, 2619.0),
            "util_pct": np.round(rng.uniform(50, 100, GPUS)),
            "mem_used_mib": np.full(GPUS, 74_000.0),
            "energy_j": np.cumsum(power) + second * 500,
        }
        frames.append(frame_of("gpu", columns))
    return frames


def ours(frames: list[pl.DataFrame], folder: Path) -> float:
    """Return seconds from the owner's first poll to its last commit."""
    clock = WallClock()
    with (
        EmbeddedBroker.start(folder / "broker") as broker,
        connect(BusSettings(bootstrap=broker.address, fetch_waits=False)) as bus,
        History(folder / "history.duckdb", bus.cluster_id) as history,
    ):
        bus.ensure_topics()
        for frame in frames:
            bus.publish("gpu", "bench", encode("gpu", frame), cloud_event("gpu", "bench", clock.wall(), CONTENT_ARROW))
        if not bus.flush(120):
            sys.exit("bench.ingest: the broker did not take the records within 120 s")
        stop = threading.Event()
        writer = threading.Thread(target=owner.run, args=(bus, history, clock, stop))
        begun = time.perf_counter()
        writer.start()
        while sum(n for (topic, _), n in history.offsets().items() if topic == "gpu") < len(frames):
            time.sleep(0.01)
        took = time.perf_counter() - begun
        stop.set()
        writer.join()
        rows = history.query("SELECT count(*) AS n FROM gpu")["n"][0]
    if rows != GPUS * len(frames):
        sys.exit(f"bench.ingest: {rows} rows in the history, {GPUS * len(frames)} were sent")
    return took


def influx(frames: list[pl.DataFrame]) -> list[bytes]:
    """Return the same samples as influx line protocol, LINES a body."""
    lines: list[str] = []
    for frame in frames:
        fields = [pl.format(f"{name}={{}}", pl.col(name)) for name in VALUES]
        tags = pl.format("gpu,node={},gpu={} ", pl.col("node"), pl.col("gpu"))
        nanos = pl.col("ts").cast(pl.Int64) * 1000
        line = pl.concat_str(tags, pl.concat_str(fields, separator=","), pl.format(" {}", nanos))
        lines.extend(frame.select(line.alias("line"))["line"].to_list())
    return ["\n".join(lines[i : i + LINES]).encode() for i in range(0, len(lines), LINES)]


@contextmanager
def victoria(folder: Path) -> Iterator[str]:
    """Yield the address of a VictoriaMetrics of our own on loopback."""
    address = f"127.0.0.1:{free_port()}"
    log = (folder / "victoria.log").open("wb")
    process = subprocess.Popen(
        ["victoria-metrics", f"-storageDataPath={folder / 'victoria'}", f"-httpListenAddr={address}", "-retentionPeriod=1"],
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://{address}/health").raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    sys.exit(f"bench.ingest: VictoriaMetrics did not start; see {log.name}")
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def peer(bodies: list[bytes], folder: Path) -> float:
    """Return seconds until VictoriaMetrics has taken and flushed the bodies."""
    with victoria(folder) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        begun = time.perf_counter()
        for body in bodies:
            client.post("/write", content=body).raise_for_status()
        client.get("/internal/force_flush").raise_for_status()
        return time.perf_counter() - begun


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer samples and runs, within 50 s")
    parser.add_argument("--report", type=Path, help="write JSON to this file")
    options = parser.parse_args()
    if shutil.which("victoria-metrics") is None:
        sys.exit("bench.ingest: the peer is missing: apt-get install victoria-metrics")
    frames = seconds(300 if options.quick else 1500)
    samples = GPUS * len(frames) * len(VALUES)
    bodies = influx(frames)
    raw: dict[str, list[float]] = {"ours_s": [], "peer_s": []}
    for _ in range(3 if options.quick else 5):
        with tempfile.TemporaryDirectory() as folder:
            raw["ours_s"].append(ours(frames, Path(folder)))
        with tempfile.TemporaryDirectory() as folder:
            raw["peer_s"].append(peer(bodies, Path(folder)))
    ratios = [theirs / mine for mine, theirs in zip(raw["ours_s"], raw["peer_s"], strict=True)]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "samples": samples,
        "samples_per_s": round(samples / statistics.median(raw["ours_s"])),
        "peer_samples_per_s": round(samples / statistics.median(raw["peer_s"])),
        "peer_ratio": round(statistics.median(ratios), 3),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "raw": raw,
        "values_per_row": len([c for c in GPU.columns if c.dtype in ("f32", "f64")]),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.report:
        options.report.write_text(text + "\n")


if __name__ == "__main__":
    main()
