from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.ports import Collected
from ingest.codec import frame_of
from ingest.exporters.facility import ServerPower, newest, row_power
from tests.factories import NOW, make_topology

SERVER_ROW = {"a0": "row-a", "a1": "row-a", "b0": "row-b"}


def at(power_w: float, age_s: float = 1.0) -> ServerPower:
    return ServerPower(at=NOW - timedelta(seconds=age_s), power_w=power_w)


def sums(found: Collected) -> dict[str, float]:
    frame = frame_of("facility", found.columns)
    assert set(frame["kind"]) <= {"row"}
    assert set(frame["source"]) <= {"sum"}
    return dict(zip(frame["unit"], frame["power_w"], strict=True))


def test_sums_the_servers_of_each_row() -> None:
    found = row_power({"a0": at(5000), "a1": at(6000), "b0": at(7000)}, SERVER_ROW, NOW)
    assert sums(found) == {"row-a": 11_000, "row-b": 7_000}
    assert found.problems == ()
    assert list(found.columns["ts"]) == [NOW, NOW]


def test_a_row_with_a_meter_is_left_to_it() -> None:
    assert sums(row_power({"a0": at(1), "a1": at(2), "b0": at(3)}, SERVER_ROW, NOW, metered={"row-a"})) == {"row-b": 3}


@pytest.mark.parametrize("known", [{"a0": at(5000)}, {"a0": at(5000), "a1": at(6000, age_s=31)}])
def test_a_row_with_a_silent_server_gets_no_sum_that_would_be_too_low(known: dict[str, ServerPower]) -> None:
    found = row_power({**known, "b0": at(7000)}, SERVER_ROW, NOW, max_age_s=30)
    assert sums(found) == {"row-b": 7_000}
    assert [p.reason for p in found.problems] == ["row row-a: no sum, for want of a reading of a1"]


def test_a_silent_server_may_count_with_an_assumed_power() -> None:
    found = row_power({"a0": at(5000), "b0": at(7000)}, SERVER_ROW, NOW, assumed_w={"a1": 10_200})
    assert sums(found)["row-a"] == 15_200
    assert [p.reason for p in found.problems] == ["row row-a: a1 counted with assumed power, for want of a reading"]


def test_newest_keeps_what_a_frame_does_not_tell_or_tells_too_late() -> None:
    columns: dict[str, Any] = {
        "node": ["a0", "a1", "b0"],
        "ts": [NOW, NOW, NOW - timedelta(seconds=9)],
        "power_w": [5100.0, None, 1.0],
    }
    known = {"a1": at(6000), "b0": at(7000)}
    merged = newest(known, Collected(topic="server", columns=columns))
    assert merged == {"a0": ServerPower(at=NOW, power_w=5100.0), **known}
    assert "a0" not in known


@given(st.lists(st.floats(0, 10_200), min_size=8, max_size=8))
def test_no_watt_is_lost_or_counted_twice(powers_w: list[float]) -> None:
    topology = make_topology()
    known = {server.name: at(power_w) for server, power_w in zip(topology.servers, powers_w, strict=True)}
    found = sums(row_power(known, {server.name: server.row for server in topology.servers}, NOW))
    assert set(found) == {row.name for row in topology.rows}
    assert sum(found.values()) == pytest.approx(sum(powers_w))
