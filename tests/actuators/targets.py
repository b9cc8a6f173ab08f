"""What the contract test needs of each actuator: how to make it, values that it takes, and how to look at the target itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.control import Action, Bounds, Value
from contracts.ports import Actuator

START = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)


@dataclass(kw_only=True)
class FakeClock:
    """Wall time that a test moves; run time is the same."""

    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def wall(self) -> datetime:
        return self.at

    def to_run(self, wall: datetime) -> datetime:
        return wall

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps {seconds} s")


@dataclass(kw_only=True)
class Target:
    """One actuator and the thing it acts on. `look` sees the thing not through the actuator."""

    actuator: Actuator
    target: str
    value: Value
    other: Value
    """another value, for the idempotence of change and back"""
    look: Callable[[], Any]
    writes: Callable[[], int]
    """how often the thing was written to"""
    beyond: tuple[Value, Bounds] | None = None
    """a value and bounds that it violates"""


def make_action(value: Value, target: str = "clock_cap/r0s0", **changes: Any) -> Action:
    """An enforced action, made now by the wall unless told otherwise."""
    fields: dict[str, Any] = {
        "action_id": "7-1",
        "at": START,
        "created_wall": datetime.now(UTC),
        "node": "r0s0",
        "target": target,
        "value": value,
        "lease_s": 30.0,
        "epoch": 7,
        "mode": "enforce",
        **changes,
    }
    return Action(**fields)
