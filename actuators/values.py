"""What values mean: their bounds, how two of them compare, and outcomes about them. Pure."""

from collections.abc import Mapping

from contracts.control import Action, Bounds, ClockCap, Outcome, Raise, Revert, Status, Value, Weights

KINDS: Mapping[type[Value], str] = {ClockCap: "clock_cap", Weights: "weights", Raise: "alert", Revert: "revert"}
SUM_TOLERANCE = 0.01
"""how far the shares of an endpoint may be from 1"""


def kind_of(value: Value) -> str:
    """Return the tag of a value: which actuator takes it."""
    return KINDS[type(value)]


def outside(value: Value, bounds: Bounds | None) -> str:
    """Return why `value` may not be applied, empty when it may. An instance that is drained (share 0) is always allowed."""
    if isinstance(value, Weights):
        if not value.shares or not any(value.shares.values()):
            return f"weights of {value.endpoint}: every instance would be drained; leave at least one a share"
        total = sum(value.shares.values())
        if abs(total - 1.0) > SUM_TOLERANCE:
            return f"weights of {value.endpoint}: shares sum to {total:.3f}; they must sum to 1"
    if bounds is None:
        return ""
    if isinstance(value, ClockCap) and not bounds.low <= value.max_mhz <= bounds.high:
        return f"{value.max_mhz:g} MHz is outside {bounds.low:g} to {bounds.high:g} MHz"
    if isinstance(value, Weights):
        for node, share in sorted(value.shares.items()):
            if share and not bounds.low - 1e-9 <= share <= bounds.high + 1e-9:
                return f"share {share:.3f} of {node} is outside {bounds.low:g} to {bounds.high:g}"
    return ""


def within(value: Value, bounds: Bounds | None) -> Value:
    """Return the value nearest to `value` inside `bounds`. Drained instances stay drained, proportions stay where they can."""
    if bounds is None:
        return value
    if isinstance(value, ClockCap):
        return ClockCap(max_mhz=min(max(value.max_mhz, bounds.low), bounds.high), gpus=value.gpus)
    if isinstance(value, Weights) and outside(value, bounds):
        return Weights(endpoint=value.endpoint, shares=_fit(value.shares, bounds))
    return value


def _fit(shares: Mapping[str, float], bounds: Bounds) -> dict[str, float]:
    """Scale the shares until they sum to 1 with each inside the bounds (bisection on the factor)."""
    live = {node: share for node, share in shares.items() if share > 0}

    def scaled(factor: float) -> dict[str, float]:
        return {node: min(max(share * factor, bounds.low), bounds.high) for node, share in live.items()}

    low, high = 0.0, 1.0 / min(live.values(), default=1.0)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(scaled(middle).values()) < 1.0 else (low, middle)
    return {**dict.fromkeys(shares, 0.0), **scaled(high)}


def cap_at(value: ClockCap, gpu: int) -> float:
    """Return the cap on one GPU in MHz; infinite where it has none."""
    return value.max_mhz if not value.gpus or gpu in value.gpus else float("inf")


def tightens(old: Value, new: Value) -> bool:
    """Return whether `new` protects more than `old` in any part: a lower clock, a drained instance, a graver alert."""
    if isinstance(old, ClockCap) and isinstance(new, ClockCap):
        elsewhere = max((*old.gpus, *new.gpus), default=0) + 1  # any GPU that neither names
        return any(cap_at(new, gpu) < cap_at(old, gpu) for gpu in {*old.gpus, *new.gpus, elsewhere})
    if isinstance(old, Weights) and isinstance(new, Weights):
        return any(share > 0 and not new.shares.get(node) for node, share in old.shares.items())
    if isinstance(old, Raise) and isinstance(new, Raise):
        return old.severity == "warning" and new.severity == "critical"
    return True  # another kind of value is no small matter


def loosens(old: Value, new: Value) -> bool:
    """Return whether `new` gives anything back that `old` held: a higher clock, a drained instance, a graver alert."""
    return tightens(new, old)


def outcome(action: Action, status: Status, *, before: str = "", after: str = "", reason: str = "") -> Outcome:
    """Return the outcome of an action; the agent adds its own name, the time and the latency."""
    return Outcome(
        action_id=action.action_id,
        at=action.at,
        node=action.node,
        target=action.target,
        status=status,
        before=before,
        after=after,
        reason=reason,
        epoch=action.epoch,
    )
