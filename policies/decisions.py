"""How a policy says what it wants: deterministic ids, caps, weights and the reasons for wanting nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from contracts.control import Bounds, ClockCap, Decision, Value

ENERGY, ROUTING, FORECAST, MEASURED, EMERGENCY, BRAKE = 0, 10, 20, 30, 40, 50
"""Priorities; see `contracts.control.Decision.priority`."""

VALID_S = 300.0
"""run time for which a decision stands when its policy does not speak again"""


@dataclass(frozen=True, kw_only=True)
class Because:
    """Why something is wanted; the part of a Decision that all targets of one cause share."""

    reason: str
    constraint: str = ""
    counterfactual: str = ""
    probability: float | None = None
    forecast_ids: tuple[str, ...] = ()


def decision_id(policy: str, target: str, at: datetime, salt: str = "") -> str:
    """Return the id of what `policy` decides on `target` at `at`: the same inputs give the same id."""
    return blake2b(f"{policy}|{target}|{_stamp(at)}|{salt}".encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=8)
def _stamp(at: datetime) -> str:
    return at.isoformat()


def want(
    policy: str, target: str, value: Value, because: Because, *, at: datetime, priority: int, bounds: Bounds | None = None
) -> Decision:
    """Return a decision for `value` on `target`."""
    return Decision(
        decision_id=decision_id(policy, target, at),
        at=at,
        policy=policy,
        target=target,
        value=value,
        reason=because.reason,
        constraint=because.constraint,
        counterfactual=because.counterfactual,
        probability=because.probability,
        forecast_ids=because.forecast_ids,
        priority=priority,
        expires_at=at + timedelta(seconds=VALID_S),
        bounds=bounds,
    )


def cap(
    policy: str,
    node: str,
    clock_mhz: float,
    because: Because,
    *,
    at: datetime,
    priority: int,
    bounds: Bounds,
    gpus: tuple[int, ...] = (),
) -> Decision:
    """Return a decision that caps the named GPUs of `node` (none named = all) at `clock_mhz`."""
    value = ClockCap(max_mhz=float(clock_mhz), gpus=gpus)
    return want(policy, f"clock_cap/{node}", value, because, at=at, priority=priority, bounds=bounds)


def no_change(policy: str, target: str, reason: str, *, at: datetime) -> Decision:
    """Return "no opinion, because": recorded when `reason` changes, so it holds no figure that moves by itself."""
    return Decision(decision_id=decision_id(policy, target, at, reason), at=at, policy=policy, target=target, no_change=reason)
