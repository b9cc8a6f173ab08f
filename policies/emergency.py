"""Emergency: the plan for a lost air handler or UPS, at once and without waiting for a reading to rise.

Power: rows fed by the lost UPS are brought within what is left of their limit, IaaS last. Air: SaaS in the aisle of the lost
AHU goes down to its SLO-safe clock until demand fits the supply. An aisle short of air warms within a minute, a row over its
limit trips within ten seconds: so IaaS gives for power at once, and for air only where its GPUs would reach slowdown (policy
thermal). Recovery: the wish ends with the failure, and the arbiter's ramp staggers the release.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from contracts.control import Bounds, Decision, Weights
from contracts.view import Bools, Floats, View
from policies.band import Band
from policies.decisions import EMERGENCY, Because, cap, no_change, want
from policies.order import CHEAP, Ladder, OrderSettings, Tier, ladder, lower
from policies.present import Freshness, Present, present
from policies.shares import Instance, quantised

Keep = Annotated[float, msgspec.Meta(gt=0, le=1)]


class EmergencySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far demand is brought down, and how much load is steered away."""

    power: Band = Band(tighten=0.97, goal=0.95, release=0.92)
    """of what the lost UPS leaves"""
    air: Band = Band(tighten=1.0, goal=0.98, release=0.94)
    """of what the lost AHU leaves"""
    keep_share: Keep = 0.7
    """weight that an instance in the affected rows keeps, relative to one elsewhere"""
    order: OrderSettings = OrderSettings()
    freshness: Freshness = Freshness()


class Emergency:
    """Brings demand within what a failure leaves."""

    name = "emergency"
    Settings: ClassVar[type[EmergencySettings]] = EmergencySettings

    def __init__(self, settings: EmergencySettings | None = None) -> None:
        """Take the settings; None = the defaults."""
        self.settings = settings or EmergencySettings()

    def decide(self, view: View) -> Sequence[Decision]:
        """Return caps and weights for the rows and aisles that a failure touches; a reason when nothing is lost."""
        rows, aisles = failures(view)
        if not rows and not aisles:
            return [no_change(self.name, "clock_cap/site", "no AHU and no UPS is lost", at=view.now)]
        now = present(view, self.settings.freshness)
        steps = ladder(view, now, self.settings.order)
        clock, why = view.index.max_clock_mhz.copy(), {}
        for row, names in rows.items():
            lowered = self._power(view, now, steps, row)
            why.update(dict.fromkeys(np.flatnonzero(lowered < clock).tolist(), self._because(view, row, None, names)))
            clock = np.minimum(clock, lowered)
        for aisle, names in aisles.items():
            lowered = self._air(view, now, steps, aisle)
            why.update(dict.fromkeys(np.flatnonzero(lowered < clock).tolist(), self._because(view, None, aisle, names)))
            clock = np.minimum(clock, lowered)
        affected = np.isin(view.index.server_row, list(rows)) | np.isin(view.index.server_aisle, list(aisles))
        decisions = [
            self._cap(view, i, clock[i], why[i]) for i in np.flatnonzero(clock < view.index.max_clock_mhz - 1.0).tolist()
        ]
        decisions.extend(self._steer(view, affected))
        if not decisions:
            decisions.append(no_change(self.name, "clock_cap/site", "demand fits what the failure leaves", at=view.now))
        return decisions

    def _power(self, view: View, now: Present, steps: Ladder, row: int) -> Floats:
        """[servers] clocks that bring a row within what is left of its limit; a row without power readings at its peak."""
        members, gain = view.index.server_row == row, steps.gpu_w * now.wall_per_w[:, None]
        peak = now.plant.server_power_w(np.maximum(now.demand_w, now.plant.peak_gpu_power_w()))[members].sum()
        demand = now.row_demand_w[row] if now.row_fresh[row] else peak
        limit = float(now.row_limit_w[row])
        return lower(steps, members, gain, self.settings.power, float(demand), limit, Tier(max(Tier)))[0]

    def _air(self, view: View, now: Present, steps: Ladder, aisle: int) -> Floats:
        """[servers] clocks of SaaS that bring an aisle's airflow within its supply, as far as SLOs hold."""
        members, gain = view.index.server_aisle == aisle, steps.gpu_w * now.cfm_per_w[:, None]
        supply, demand = float(now.aisle_supply_cfm[aisle]), float(now.aisle_demand_cfm[aisle])
        return lower(steps, members, gain, self.settings.air, demand, supply, CHEAP)[0]

    def _because(self, view: View, row: int | None, aisle: int | None, lost: Sequence[str]) -> Because:
        what = f"{view.topology.rows[row].name} power" if row is not None else ""
        what = f"{view.topology.aisles[aisle].name} airflow" if aisle is not None else what
        return Because(reason=f"{' and '.join(lost)} lost: {what} must fit what is left", constraint=what)

    def _cap(self, view: View, i: int, clock_mhz: float, because: Because) -> Decision:
        index = view.index
        bounds = Bounds(low=float(index.min_clock_mhz[i]), high=float(index.max_clock_mhz[i]))
        node = view.topology.servers[i].name
        return cap(self.name, node, clock_mhz, because, at=view.now, priority=EMERGENCY, bounds=bounds)

    def _steer(self, view: View, affected: Bools) -> list[Decision]:
        """Weights of endpoints that have instances both inside and outside the affected part."""
        decisions = []
        for e, endpoint in enumerate(view.topology.endpoints):
            mine = np.flatnonzero(view.index.server_endpoint == e)
            if len(mine) == 0 or affected[mine].all() or not affected[mine].any():
                continue
            raw = np.where(affected[mine], self.settings.keep_share, 1.0)
            instances = [Instance(node=view.topology.servers[i].name, share=float(w)) for i, w in zip(mine, raw, strict=True)]
            value = Weights(endpoint=endpoint.name, shares=quantised(instances))
            because = Because(reason=f"{endpoint.name}: load goes to instances that the failure leaves alone")
            decisions.append(want(self.name, f"weights/{endpoint.name}", value, because, at=view.now, priority=EMERGENCY))
        return decisions


def failures(view: View) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return rows with their lost UPSes, and aisles with their lost AHUs."""
    index = view.index
    rows = {r: [name for name in row.upses if view.ups_lost[index.ups[name]]] for r, row in enumerate(view.topology.rows)}
    aisles = {
        a: [name for name in aisle.ahus if view.ahu_lost[index.ahu[name]]] for a, aisle in enumerate(view.topology.aisles)
    }
    return {r: names for r, names in rows.items() if names}, {a: names for a, names in aisles.items() if names}
