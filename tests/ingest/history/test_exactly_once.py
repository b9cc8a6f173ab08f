"""Each record of the log stands once in the history, wherever batches end and however often the owner dies."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.bus import BusSettings, KafkaBus, connect
from ingest.codec import encode, frame_of
from ingest.headers import cloud_event
from ingest.history.frames import micro_batch
from ingest.history.store import FILE, History
from ingest.records import CONTENT_ARROW
from tests.factories import NOW
from tests.ingest.history.conftest import same
from tests.ingest.history.logs import CLUSTER, ago, naive, story

TABLES = (
    "server",
    "facility",
    "gpu",
    "endpoints",
    "requests",
    "forecasts",
    "actions",
    "decisions",
    "outcomes",
    "rejected",
    "state",
)


def content(history: History) -> dict[str, pl.DataFrame]:
    """Every table, in the log's order."""
    # Rows of one record keep no order of their own.
    return {t: history.query(f"SELECT * FROM {t} ORDER BY ALL") for t in TABLES}  # noqa: S608  (our own names)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_batches_and_restarts_change_nothing(data: st.DataObject, tmp_path: Path, told: History) -> None:
    records = story().records
    file = tmp_path / f"{uuid.uuid4().hex}.duckdb"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(records) - 1), max_size=4)))
    ends = [*cuts, len(records)]
    restarts = data.draw(st.sets(st.sampled_from(ends)))
    history = History(file, CLUSTER).open()
    try:
        for end in ends:
            # What a consumer would get after seeking to the offsets: everything that is not there yet, up to `end`.
            known = history.offsets()
            rest = [r for r in records[:end] if r.offset >= known.get((r.topic, r.partition), 0)]
            history.append(micro_batch(rest, same))
            if end in restarts:
                history.close()
                history = History(file, CLUSTER).open()
        ours, theirs = content(history), content(told)
        for table, frame in theirs.items():
            assert ours[table].equals(frame), table
    finally:
        history.close()


@settings(max_examples=15, deadline=None)
@given(seconds=st.integers(-700, 700), target=st.sampled_from(["inlet", "power", "load", "gpu_temp", "outside"]))
def test_as_of_shows_nothing_that_arrived_later(seconds: int, target: str, told: History) -> None:
    as_of = NOW + timedelta(seconds=seconds)
    seen = told.series(target, as_of=as_of, since=ago(900), step_s=60)
    log = [r for r in story().records if r.appended_at <= as_of]
    with History(Path(":memory:"), CLUSTER) as early:
        early.append(micro_batch(log, same))
        alone = early.series(target, as_of=as_of, since=ago(900), step_s=60)
    assert seen.equals(alone)
    if seen.height:
        assert seen["ts"].max() <= naive(as_of)  # type: ignore[operator]


def owner(folder: Path, address: str, prefix: str) -> "subprocess.Popen[bytes]":
    """An owner as a process of its own, which commits often."""
    program = """
import sys, threading, signal
from pathlib import Path
from coldaisle.clock import WallClock
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.history import owner

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
bus = connect(BusSettings(bootstrap=sys.argv[2], fetch_waits=False, topic_prefix=sys.argv[3]))
owner.serve(Path(sys.argv[1]), bus, WallClock(), stop, owner.OwnerSettings(commit_s=0.02))
bus.close()
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), address, prefix],
        cwd=Path.cwd(),
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder / "run")},
    )


def test_an_owner_killed_under_load_has_every_record_once(tmp_path: Path, embedded_broker: str) -> None:
    prefix = f"t{uuid.uuid4().hex[:8]}."
    bus = connect(BusSettings(bootstrap=embedded_broker, fetch_waits=False, topic_prefix=prefix))
    sent = 0
    try:
        bus.ensure_topics()
        for kill in range(3):
            process = owner(tmp_path, embedded_broker, prefix)
            url = announced(tmp_path, process)
            while committed(url) < 20 * (kill + 1):
                sent += publish(bus, sent)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            sent += publish(bus, sent)
        assert bus.flush(10)
        process = owner(tmp_path, embedded_broker, prefix)
        announced(tmp_path, process)
        process.send_signal(signal.SIGTERM)  # it takes what is in the log before it leaves
        assert process.wait(20) == 0
        with History(tmp_path / FILE, bus.cluster_id) as history:
            per_record = history.query("SELECT k_partition, k_offset, count(*) AS n FROM gpu GROUP BY ALL")
            assert per_record.height == sent
            assert per_record["n"].unique().to_list() == [40]
            ends = {p: o for (t, p), o in history.offsets().items() if t == "gpu"}
            assert sum(ends.values()) == sent
            log = per_record.group_by("k_partition").agg(pl.col("k_offset").max() + 1)
            assert dict(log.iter_rows()) == ends
    finally:
        bus.close()


def publish(bus: KafkaBus, sent: int) -> int:
    """Send 10 records of 40 rows; return 10."""
    for i in range(sent, sent + 10):
        at, node = NOW + timedelta(seconds=i), f"n{i % 7}"
        value = encode("gpu", frame_of("gpu", {"ts": [at] * 40, "node": [node] * 40, "gpu": np.arange(40)}))
        bus.publish("gpu", node, value, cloud_event("gpu", "test", at, CONTENT_ARROW))
    return 10


def committed(url: str) -> float:
    """Records that the running owner has committed, as it tells Prometheus."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=10).text
    found = re.search(r'^coldaisle_history_records_total\{topic="gpu"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def announced(folder: Path, process: "subprocess.Popen[bytes]") -> str:
    """Wait until this very owner has announced itself; return its URL."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(FileNotFoundError):
            told = json.loads((folder / "owner.json").read_text())
            if told["pid"] == process.pid:
                return str(told["url"])
        assert process.poll() is None, "the owner ended"
        assert time.monotonic() < deadline, "the owner did not announce itself"
        time.sleep(0.05)
