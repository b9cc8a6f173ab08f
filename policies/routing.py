"""Routing: TAPAS's load balancer as weights. Instances at risk are dropped, the others are filled like vessels.

Risk of an instance = the highest of P(its GPUs reach slowdown) and P(its row or aisle goes over its limit). What all instances
of an endpoint share cannot be routed around: rows and aisles count by how much worse they are than the endpoint's best.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from contracts.control import Decision, Weights
from contracts.view import Bools, Floats, Ints, View
from policies.decisions import ROUTING, Because, no_change, want
from policies.present import Freshness, Present, present
from policies.probability import exceedance, fan
from policies.shares import Instance, distance, quantised, water_fill

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class RoutingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as risk, and how still the weights stand."""

    drop_risk: Share = 0.5
    """instances above it get no requests"""
    floor: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6
    """share of the endpoint's capacity that stays whatever the risk"""
    deadband: Share = 0.04
    """weights that would move a smaller part of the requests stay as they are"""
    horizon_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 300.0
    ceiling: Annotated[float, msgspec.Meta(ge=1, le=10)] = 1.4
    """highest share of an instance, relative to an equal one"""
    room_k: Annotated[float, msgspec.Meta(gt=0, le=50)] = 6.0
    """with less room to slowdown than this, the ceiling sinks"""
    decode_share: Share = 0.4
    """beta: the part of a request's time that goes with 1/f"""
    silent_s: Annotated[float, msgspec.Meta(gt=0)] = 120.0
    """an instance whose gauges are silent for longer, while others' are not, is dropped"""
    freshness: Freshness = Freshness()


class Routing:
    """Sends requests where there is room for them."""

    name = "routing"
    Settings: ClassVar[type[RoutingSettings]] = RoutingSettings

    def __init__(self, settings: RoutingSettings | None = None) -> None:
        """Take the settings; None = the defaults."""
        self.settings = settings or RoutingSettings()

    def decide(self, view: View) -> Sequence[Decision]:
        """Return the weights of endpoints whose requests should not go out equally, and why the others' stay."""
        now = present(view, self.settings.freshness)
        risk, shared = self._risks(view, now)
        decisions = []
        for e in range(len(view.topology.endpoints)):
            mine = np.flatnonzero(view.index.server_endpoint == e)
            if len(mine) > 0:
                decisions.append(self._endpoint(view, now, e, mine, risk, shared))
        return decisions

    def _risks(self, view: View, now: Present) -> tuple[Floats, Floats]:
        """[servers] risk of the server itself, and of the row and aisle that it shares."""
        index, names = view.index, [server.name for server in view.topology.servers]
        temps = fan(view, "gpu_temp", names, horizon_s=self.settings.horizon_s)
        heat = exceedance(temps, index.slowdown_c).probability
        hot = np.nan_to_num(now.hottest_c, nan=-np.inf) >= index.slowdown_c - 1.0
        rows = fan(view, "power", [row.name for row in view.topology.rows], horizon_s=self.settings.horizon_s)
        power = exceedance(rows, now.row_limit_w).probability
        power = np.where(np.nan_to_num(now.row_w, nan=0.0) > now.row_limit_w, 1.0, power)
        air = np.clip((_over(view, now) - 1.0) / 0.1, 0.0, 1.0)
        return np.where(hot, 1.0, heat), np.maximum(power[index.server_row], air[index.server_aisle])

    def _endpoint(self, view: View, now: Present, e: int, mine: Ints, risk: Floats, shared: Floats) -> Decision:
        name, target = view.topology.endpoints[e].name, f"weights/{view.topology.endpoints[e].name}"
        age = view.endpoint_age_s[mine]
        if not (age <= self.settings.silent_s).any():
            return self._hold(view, target, f"{name}: its gauges are silent: weights stay as they are")
        own = np.where(age > self.settings.silent_s, 1.0, risk[mine])
        total = np.maximum(own, shared[mine] - shared[mine].min())
        speed = 1.0 / (
            1.0 - self.settings.decode_share + self.settings.decode_share * view.index.max_clock_mhz[mine] / now.cap_mhz[mine]
        )
        kept = self._kept(view, mine, total, speed)
        room = view.index.slowdown_c[mine] - np.nan_to_num(now.hottest_c[mine], nan=0.0)
        ceiling = self.settings.ceiling / kept.sum() * np.clip(room / self.settings.room_k, 0.3, 1.0)
        shares = water_fill(np.where(kept, speed, 0.0), ceiling)
        wanted = quantised(
            [Instance(node=view.topology.servers[i].name, share=float(s)) for i, s in zip(mine, shares, strict=True)]
        )
        return self._still(view, target, name, mine, wanted, kept, total)

    def _kept(self, view: View, mine: Ints, risk: Floats, speed: Floats) -> Bools:
        """Drop the riskiest instances while the rest holds the floor of the endpoint's capacity."""
        order = sorted(range(len(mine)), key=lambda i: (-risk[i], view.topology.servers[mine[i]].name))
        kept, left, floor = np.ones(len(mine), dtype=np.bool_), float(speed.sum()), self.settings.floor * float(speed.sum())
        for i in order:
            if risk[i] <= self.settings.drop_risk or left - speed[i] < floor:
                break
            kept[i] = False
            left -= float(speed[i])
        return kept

    def _still(
        self, view: View, target: str, name: str, mine: Ints, wanted: dict[str, float], kept: Bools, risk: Floats
    ) -> Decision:
        """Return the wanted weights, those in force where the difference is small, or a reason where they are equal."""
        action = view.actions.get(target)
        standing = action.value.shares if action is not None and isinstance(action.value, Weights) else None
        equal = {view.topology.servers[i].name: 1 / len(mine) for i in mine}
        if distance(equal, wanted) <= self.settings.deadband * (0.5 if standing is not None else 1.0):
            return no_change(self.name, target, f"{name}: equal weights serve", at=view.now)
        if standing is not None and distance(standing, wanted) <= self.settings.deadband:
            wanted = dict(standing)
        dropped = [view.topology.servers[i].name for i in mine[~kept]]
        what = f"{len(dropped)} of {len(mine)} instances at risk get no requests" if dropped else "filled by room and clock"
        because = Because(
            reason=f"{name}: {what}" + (f" ({', '.join(dropped[:5])})" if dropped else ""),
            constraint=f"{name} instances",
            probability=float(risk.max()),
        )
        return want(self.name, target, Weights(endpoint=name, shares=wanted), because, at=view.now, priority=ROUTING)

    def _hold(self, view: View, target: str, reason: str) -> Decision:
        action = view.actions.get(target)
        if action is None or not isinstance(action.value, Weights):
            return no_change(self.name, target, reason, at=view.now)
        return want(self.name, target, action.value, Because(reason=reason), at=view.now, priority=ROUTING)


def _over(view: View, now: Present) -> Floats:
    """[aisles] airflow drawn now relative to the supply."""
    shown = np.bincount(
        view.index.server_aisle, weights=(now.demand_w - now.gpu_w) * now.cfm_per_w, minlength=len(view.topology.aisles)
    )
    supply = now.aisle_supply_cfm
    return np.where(supply > 0, (now.aisle_demand_cfm - shown) / np.maximum(supply, 1e-9), np.inf)
