from datetime import timedelta

import pytest

from contracts.control import ClockCap, Decision
from control.tick import Recorder, Ticked, node_of
from tests.factories import NOW


def want(n: int, mhz: float | None, no_change: str = "") -> Decision:
    return Decision(
        decision_id=f"d{n}",
        at=NOW + timedelta(seconds=n),
        policy="guard",
        target="clock_cap/r0s0",
        value=None if mhz is None else ClockCap(max_mhz=mhz),
        no_change=no_change,
    )


def recorded(recorder: Recorder, *decisions: Decision) -> list[str]:
    return [d.decision_id for d in recorder.worth(Ticked(decisions=decisions, actions=()))]


def test_a_decision_is_recorded_when_it_begins_and_not_while_it_stands() -> None:
    recorder = Recorder()
    assert recorded(recorder, want(1, 1200)) == ["d1"]
    assert recorded(recorder, want(2, 1260)) == []
    assert recorded(recorder) == []
    assert recorded(recorder, want(3, 1200)) == ["d3"]


def test_no_change_is_recorded_when_its_reason_changes() -> None:
    recorder = Recorder()
    assert recorded(recorder, want(1, None, "power is stale")) == ["d1"]
    assert recorded(recorder, want(2, None, "power is stale")) == []
    assert recorded(recorder, want(3, None, "power was never seen")) == ["d3"]


@pytest.mark.parametrize(
    ("target", "node"),
    [("clock_cap/n001", "n001"), ("weights/chat-1", "router"), ("alert/RowPower/row-1", "alerting")],
)
def test_every_target_has_one_agent(target: str, node: str) -> None:
    assert node_of(target) == node
