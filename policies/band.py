"""Hysteresis without memory: what is in force now decides on which side of the band a row is."""

from typing import Annotated

import msgspec

OfLimit = Annotated[float, msgspec.Meta(gt=0, le=1.5)]


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of a present limit: release <= goal <= tighten."""

    tighten: OfLimit
    """expected above it: caps down to the goal"""
    goal: OfLimit
    release: OfLimit
    """expected below it: caps up to the goal"""

    def __post_init__(self) -> None:
        """Refuse an order in which caps would flutter."""
        if not self.release <= self.goal <= self.tighten:
            raise ValueError(f"release {self.release} <= goal {self.goal} <= tighten {self.tighten} does not hold")

    def need(self, demand: float, in_force: float, limit: float) -> float:
        """Return what to save of `demand` (drawn without caps) when caps in force save `in_force`, in the unit of `limit`.

        Between release and tighten it is what is in force; else what leads to the goal. Never falls when `demand` rises.
        """
        left = demand - in_force
        if self.release * limit <= left <= self.tighten * limit:
            return in_force
        return max(0.0, demand - self.goal * limit)
