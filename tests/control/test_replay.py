"""A View built from the log and one built from the history as of the same moment are equal."""

import threading
import time
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from contracts.control import Action, ClockCap, Outcome
from contracts.forecasts import Forecast, block_of
from contracts.ports import Collected, Start
from contracts.schemas import SCHEMAS
from contracts.view import View
from control.fold import Fold
from control.forecasts import frames_of
from control.replay import fold_history
from ingest.bus import BusSettings, KafkaBus, connect
from ingest.codec import decode
from ingest.embedded import EmbeddedBroker
from ingest.history import owner
from ingest.history.store import History
from ingest.publisher import Publisher
from ingest.records import decode_record
from tests.factories import NOW, make_topology

DEADLINE_S = 30.0
TELEMETRY_ROWS = 50


FORECAST = Forecast(
    forecast_id="f1",
    target="power",
    series="row-0",
    model="ridge",
    champion=True,
    issued_at=NOW,
    data_until=NOW,
    unit="W",
    valid_at=(NOW + timedelta(minutes=1), NOW + timedelta(minutes=5)),
    levels=(0.5, 0.99),
    values=((1.0, 2.0), (3.0, 4.0)),
    degradations=("stale outside temperature",),
)
CAP = Action(
    action_id="a1",
    at=NOW,
    created_wall=NOW,
    node="r0s0",
    target="clock_cap/r0s0",
    value=ClockCap(max_mhz=1200.0),
    lease_s=30.0,
    epoch=4,
)
APPLIED = Outcome(action_id="a1", at=NOW, node="r0s0", target="clock_cap/r0s0", status="applied", after="1200 MHz")


class StandingClock:
    """Both times stand at NOW."""

    def now(self) -> datetime:
        return NOW

    def wall(self) -> datetime:
        return NOW

    def to_run(self, wall: datetime) -> datetime:
        return NOW + 0 * (wall - NOW)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def publish(bus: KafkaBus) -> int:
    """Publish a minute of everything that a View folds, out of order; return the number of records."""
    publisher = Publisher(bus, StandingClock(), "test")
    topology = make_topology()
    rng = np.random.default_rng(3)
    order = rng.permutation(TELEMETRY_ROWS)
    names = [server.name for server in topology.servers]
    node = [names[i] for i in rng.integers(0, len(names), TELEMETRY_ROWS)]
    ts = [NOW - timedelta(seconds=int(s)) for s in order]
    power = rng.uniform(100, 700, TELEMETRY_ROWS)
    rows: dict[str, list[Any]] = {"ts": ts, "node": node, "power_w": power.tolist()}
    for part in (slice(0, 20), slice(20, 50)):
        cut = {name: column[part] for name, column in rows.items()}
        inlet_c = [25.0 + p / 100 for p in cut["power_w"]]
        gpu = [int(p) % 8 for p in cut["power_w"]]
        load = {"ts": cut["ts"], "node": cut["node"], "endpoint": ["chat"] * len(gpu), "running": cut["power_w"]}
        publisher.collected("a", Collected(topic="server", columns={**cut, "inlet_c": inlet_c}))
        publisher.collected("a", Collected(topic="gpu", columns={**cut, "gpu": gpu}))
        publisher.collected("a", Collected(topic="endpoints", columns=load))
    kinds = ["row", "row", "ahu", "ups", "aisle", "site"]
    units = ["row-0", "row-1", "ahu-0a", "ups-1", "aisle-0", "test"]
    publisher.collected(
        "a",
        Collected(
            topic="facility",
            columns={
                "ts": [NOW] * 6,
                "kind": kinds,
                "unit": units,
                "state": [None, None, "lost", "lost", None, None],
                "power_w": [2e4, None, None, None, None, None],
                "airflow_cfm": [None, None, None, None, 5e3, None],
                "outside_c": [None, None, None, None, None, 35.0],
                "source": ["meter", "meter", None, None, None, None],
            },
        ),
    )
    for frame in frames_of(block_of([FORECAST])):
        publisher.frame("forecasts", "a", frame)
    publisher.record("actions", "r0s0", CAP)
    publisher.record("outcomes", "r0s0", APPLIED)
    assert bus.flush(10.0)
    return 10


def fold_log(bus: KafkaBus, records: int) -> Fold:
    """Fold the log from its beginning until `records` records have come."""
    fold = Fold(make_topology())
    topics = [*SCHEMAS, "actions", "outcomes"]
    subscription = bus.subscribe(topics, Start(where="beginning"))
    deadline = time.monotonic() + DEADLINE_S
    seen = 0
    while seen < records:
        assert time.monotonic() < deadline, f"{seen} of {records} records came"
        for record in subscription.poll(0.2):
            seen += 1
            if record.topic in SCHEMAS:
                fold.observe(record.topic, decode(record.topic, record.value, record.headers))
                continue
            told = decode_record(record.topic, record.value)
            if isinstance(told, Action):
                fold.action(told)
            elif isinstance(told, Outcome):
                fold.outcome(told)
    subscription.close()
    return fold


def fold_owner(bus: KafkaBus, records: int, file: Path) -> Fold:
    """Let an owner write the same log into a history, and fold that."""
    fold = Fold(make_topology())
    stop = threading.Event()
    with History(file, bus.cluster_id) as history:
        writer = threading.Thread(target=owner.run, args=(bus, history, StandingClock(), stop))
        writer.start()
        deadline = time.monotonic() + DEADLINE_S
        while sum(history.offsets().values()) < records and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
        writer.join(DEADLINE_S)
        assert sum(history.offsets().values()) == records
        fold_history(fold, history, NOW)
    return fold


def assert_equal(a: View, b: View) -> None:
    for field in fields(View):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert np.array_equal(mine, other, equal_nan=mine.dtype.kind == "f"), field.name
        elif field.name == "forecasts":
            assert [b.forecasts() for b in mine.of("power")] == [b.forecasts() for b in other.of("power")]
        elif field.name not in ("topology", "index"):
            assert mine == other, field.name


def test_live_and_replayed_views_are_equal(fresh_broker: EmbeddedBroker, tmp_path: Path) -> None:
    with connect(BusSettings(bootstrap=fresh_broker.address, fetch_waits=False)) as bus:
        bus.ensure_topics()
        records = publish(bus)
        live = fold_log(bus, records).view(NOW, NOW)
        replayed = fold_owner(bus, records, tmp_path / "history.duckdb").view(NOW, NOW)
    assert live.actions.keys() == {"clock_cap/r0s0"}
    assert live.ahu_lost.any()
    assert len(live.forecasts)
    assert_equal(live, replayed)
