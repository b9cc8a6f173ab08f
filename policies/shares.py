"""Routing shares: filling instances like vessels, and rounding to shares that sum to one."""

from collections.abc import Sequence

import msgspec
import numpy as np

from contracts.view import Floats


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of an endpoint and its share of the requests, or a number in proportion to it."""

    node: str
    share: float


def water_fill(capacity: Floats, ceiling: Floats) -> Floats:
    """Return shares that sum to 1, in proportion to `capacity` and none above `ceiling`, which stands for "full".

    Ceilings that together leave no room for 1 are raised in proportion. Both are [instances], not negative, capacity not all 0.
    """
    capacity, ceiling = np.asarray(capacity, dtype=np.float64), np.asarray(ceiling, dtype=np.float64)
    ceiling = np.where(capacity > 0, ceiling, 0.0)
    if ceiling.sum() <= 0:
        return np.asarray(capacity / capacity.sum())
    if ceiling.sum() <= 1.0:
        return np.asarray(ceiling / ceiling.sum())
    full_at = np.where(capacity > 0, ceiling / np.where(capacity > 0, capacity, 1.0), np.inf)
    order = np.argsort(full_at, kind="stable")
    # at the level at which instance k is full, those before it hold their ceiling and the others level x capacity
    before = np.concatenate([[0.0], np.cumsum(ceiling[order])[:-1]])
    rest = capacity.sum() - np.concatenate([[0.0], np.cumsum(capacity[order])[:-1]])
    level_at = np.where(np.isfinite(full_at[order]), full_at[order], 0.0)
    reached = before + np.where(np.isfinite(full_at[order]), level_at * rest, np.inf)
    k = int(np.searchsorted(reached, 1.0))
    level = (1.0 - before[k]) / rest[k]
    return np.asarray(np.minimum(level * capacity, ceiling))


def quantised(instances: Sequence[Instance]) -> dict[str, float]:
    """Return node -> share: in proportion, in units of a twentieth of an equal share, summing to 1; instances with 0 left out.

    Largest remainders get the units that rounding down leaves; ties go by name.
    """
    units = 20 * max(len(instances), 1)
    total = sum(instance.share for instance in instances)
    exact = [instance.share / total * units for instance in instances]
    whole = [int(share + 1e-9) for share in exact]
    left = units - sum(whole)
    order = sorted(range(len(instances)), key=lambda i: (-(exact[i] - whole[i]), instances[i].node))
    for i in order[:left]:
        whole[i] += 1
    return {instance.node: n / units for instance, n in sorted(zip(instances, whole, strict=True), key=_name) if n > 0}


def _name(pair: tuple[Instance, int]) -> str:
    return pair[0].node


def distance(a: dict[str, float], b: dict[str, float]) -> float:
    """Return the part of the requests that goes elsewhere under `b` than under `a` (0..1)."""
    return sum(abs(a.get(node, 0.0) - b.get(node, 0.0)) for node in a.keys() | b.keys()) / 2
