"""Small logs for tests of the history: records as a broker would bring them, and the story of one capped node."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from contracts.control import Action, Alert, Bounds, ClockCap, Decision, Outcome, Rejected, Revert
from contracts.ports import Record
from ingest.codec import encode, frame_of
from ingest.headers import cloud_event
from ingest.history.frames import MicroBatch, micro_batch
from ingest.records import CONTENT_ARROW, encode_record
from tests.factories import NOW, make_topology

CLUSTER = "cluster-a"


class Log:
    """Appends records to partitions in memory, each with the next offset, at a wall time that is the run's."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._next: dict[tuple[str, int], int] = {}

    def rows(
        self, topic: str, columns: Mapping[str, Sequence[Any]], at: datetime, partition: int = 0, source: str = "test"
    ) -> Record:
        value = encode(topic, frame_of(topic, columns))
        return self.add(topic, "k", value, cloud_event(topic, source, at, CONTENT_ARROW), at, partition)

    def record(self, topic: str, value: msgspec.Struct, at: datetime, key: str = "k") -> Record:
        return self.add(topic, key, encode_record(value), cloud_event(topic, "test", at), at)

    def add(self, topic: str, key: str, value: bytes, headers: Mapping[str, str], at: datetime, partition: int = 0) -> Record:
        offset = self._next.get((topic, partition), 0)
        self._next[topic, partition] = offset + 1
        made = Record(topic=topic, partition=partition, offset=offset, key=key, value=value, headers=headers, appended_at=at)
        self.records.append(made)
        return made


def naive(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def gpu_batches(count: int, rows: int) -> Iterator[MicroBatch]:
    """`count` batches of one record each, `rows` GPUs in it."""
    log = Log()
    for i in range(count):
        at = NOW + timedelta(seconds=i)
        columns: dict[str, list[Any]] = {
            "ts": [at] * rows,
            "node": [f"n{k // 8}" for k in range(rows)],
            "gpu": [k % 8 for k in range(rows)],
            "power_w": [400.0] * rows,
        }
        yield micro_batch([log.rows("gpu", columns, at)], lambda wall: wall)


@cache
def story() -> Log:
    """Return ten minutes before NOW and five after: a capped node, its forecast, decision, outcome, alert; requests.

    Made once: leave it as it is.
    """
    log = Log()
    topology = make_topology()
    log.record("state", topology, ago(3600), key="topology")
    nodes = [s.name for s in topology.servers]
    serving = [s.name for s in topology.servers if s.endpoint]
    for second in range(-600, 301, 10):
        at = NOW + timedelta(seconds=second)
        hot = 29_000.0 if second <= 0 else 26_000.0
        log.rows(
            "facility",
            {
                "ts": [at] * 4,
                "kind": ["row", "row", "site", "aisle"],
                "unit": ["row-0", "row-1", "site", "aisle-0"],
                "power_w": [20_000.0, hot, None, None],
                "power_max_w": [20_500.0, hot + 400, None, None],
                "outside_c": [None, None, 35.0, None],
                "airflow_cfm": [None, None, None, 6000.0],
                "source": ["meter", "meter", None, None],
            },
            at + timedelta(seconds=1),
        )
        log.rows(
            "server",
            {
                "ts": [at] * len(nodes),
                "node": nodes,
                "inlet_c": [24.0 + i for i in range(len(nodes))],
                "power_w": [hot / 4 if n.startswith("r1") else 5000.0 for n in nodes],
                "gpu_power_w": [4000.0] * len(nodes),
                "gpu_max_c": [60.0 + i for i in range(len(nodes))],
            },
            at + timedelta(seconds=1),
        )
        log.rows(
            "endpoints",
            {
                "ts": [at] * len(serving),
                "endpoint": ["chat"] * len(serving),
                "node": serving,
                "running": [8.0] * len(serving),
                "waiting": [0.0] * len(serving),
                "requests_rps": [2.5] * len(serving),
                "prompt_tok_s": [1000.0] * len(serving),
                "output_tok_s": [250.0] * len(serving),
                "slo_ok_pct": [99.0] * len(serving),
            },
            at + timedelta(seconds=1),
        )
    _gpus(log)
    _requests(log)
    _control(log)
    return log


def _gpus(log: Log) -> None:
    at = ago(5)
    log.rows(
        "gpu",
        {
            "ts": [at] * 3,
            "node": ["r1s1", "r1s1", "r1s2"],
            "gpu": [0, 1, 0],
            "state": ["ok", "lost", "ok"],
            "power_w": [690.0, None, 500.0],
            "temp_c": [81.0, None, 66.0],
            "sm_clock_mhz": [1980.0, None, 1980.0],
            "clock_event_reasons": [0, None, 4],
        },
        at,
        partition=1,
    )


def _requests(log: Log) -> None:
    at = ago(30)
    log.rows(
        "requests",
        {
            "ts": [at] * 4,
            "request_id": ["a", "b", "c", "d"],
            "endpoint": ["chat"] * 4,
            "status": ["ok", "ok", "rejected", "ok"],
            "prompt_tokens": [100, 200, 300, 400],
            "ttft_s": [0.5, 3.0, None, 0.4],
            "tbt_s": [0.05, 0.05, None, 0.2],
            "weight": [None, 2.0, None, 64.0],
        },
        at,
        partition=2,
    )


def _control(log: Log) -> None:
    valid = [NOW + timedelta(minutes=m) for m in (4, 14, 59)]
    log.rows(
        "forecasts",
        {
            "ts": [ago(60)],
            "forecast_id": ["f-1"],
            "target": ["power"],
            "series": ["row-1"],
            "model": ["ridge"],
            "champion": [True],
            "data_until": [ago(61)],
            "unit": ["W"],
            "valid_at": [valid],
            "levels": [[0.05, 0.5, 0.95, 0.99]],
            "values": [[27_000.0, 28_000.0, 29_500.0, 31_000.0, 26_000.0, 28_500.0, 30_000.0, 33_000.0, 1.0, 2.0, 3.0, 4.0]],
            "degradations": [[]],
        },
        ago(59),
    )
    cap = ClockCap(max_mhz=1305)
    decision = Decision(
        decision_id="d-1",
        at=ago(20),
        policy="caps",
        target="clock_cap/r1s1",
        value=cap,
        reason="row-1 reaches its limit",
        constraint="row-1 power",
        counterfactual="P(row-1 > 30 kW within 15 min) = 0.31",
        probability=0.31,
        bounds=Bounds(low=800, high=1980),
        priority=20,
        forecast_ids=("f-1",),
        mode="enforce",
    )
    log.record("decisions", decision, ago(20))
    first = Action(
        action_id="a-1",
        at=ago(20),
        created_wall=ago(20),
        node="r1s1",
        target="clock_cap/r1s1",
        value=cap,
        lease_s=30,
        epoch=1,
        decision_ids=("d-1",),
        policy="caps",
        reason="row-1 reaches its limit",
        mode="enforce",
    )
    log.record("actions", first, ago(20), key="r1s1")
    renewal = msgspec.structs.replace(first, action_id="a-2", at=ago(5), created_wall=ago(5), renews="a-1")
    log.record("actions", renewal, ago(5), key="r1s1")
    done = Outcome(
        action_id="a-1",
        at=ago(18),
        node="r1s1",
        target="clock_cap/r1s1",
        status="applied",
        before="1980 MHz",
        after="1305 MHz",
        latency_s=0.4,
        epoch=1,
        agent="agent-r1s1",
    )
    log.record("outcomes", done, ago(18))
    other = msgspec.structs.replace(first, action_id="a-3", node="r1s3", target="clock_cap/r1s3", at=ago(300), decision_ids=())
    log.record("actions", other, ago(300), key="r1s3")
    back = msgspec.structs.replace(other, action_id="a-4", value=Revert(), at=ago(200), created_wall=ago(200))
    log.record("actions", back, ago(200), key="r1s3")
    alert = Alert(
        alert_id="w-1",
        at=ago(19),
        status="firing",
        alertname="RowPower",
        severity="critical",
        series="row-1",
        probability=0.31,
        lead_s=840,
        summary="row-1 may exceed 30 kW",
        forecast_ids=("f-1",),
    )
    log.record("alerts", alert, ago(19))
    gone = msgspec.structs.replace(alert, alert_id="w-0", series="row-0", at=ago(400))
    log.record("alerts", gone, ago(400))
    log.record("alerts", msgspec.structs.replace(gone, status="resolved", at=ago(100)), ago(100))
    log.record("rejected", Rejected(at=ago(50), topic="gpu", source="r0s0", reason="GPU 3 is lost", sample="x"), ago(50))
