"""Caps: POLCA's frequency caps, acting on the forecast of row power before the row reaches its limit.

Two needs per row: an early one (a rare quantile, minutes ahead) that only clocks without a cost may serve, and a late one (what
an actuator's latency demands) that everything may serve, in the order of sacrifice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from contracts.control import Bounds, Decision
from contracts.view import Floats, View
from policies.band import Band
from policies.decisions import FORECAST, Because, cap, no_change
from policies.order import CHEAP, Ladder, OrderSettings, Share, Tier, ladder, queue
from policies.present import Freshness, Present, present
from policies.probability import Exceedance, Fan, exceedance, fan

Level = Annotated[float, msgspec.Meta(ge=0.5, lt=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class CapsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When rows are capped, and how far."""

    early: Band = Band(tighten=0.95, goal=0.93, release=0.88)
    early_level: Level = 0.999
    early_s: Seconds = 900.0
    late: Band = Band(tighten=0.995, goal=0.98, release=0.965)
    late_level: Level = 0.99
    late_s: Seconds = 120.0
    """out-of-band caps take up to 40 s (POLCA), one period of the forecast another 60 s"""
    early_spike_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.118
    """without a forecast: POLCA's highest spike in 40 s, of the limit (v)"""
    late_spike_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.03
    """without a forecast, for caps that cost something [A]"""
    static_share: Share | None = None
    """clock of the static safe cap; None = what keeps the row's highest power within its limit"""
    order: OrderSettings = OrderSettings()
    freshness: Freshness = Freshness()


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What one call of `decide` works on."""

    view: View
    now: Present
    steps: Ladder
    wall_w: Floats
    """[S, K] watts at the wall that each step saves"""
    rows: Fan
    risk: Exceedance
    """per row: above its limit within `early_s` if no clock were held down"""


class Caps:
    """Keeps each row's power below its limit by clock caps, ahead of time."""

    name = "caps"
    Settings: ClassVar[type[CapsSettings]] = CapsSettings

    def __init__(self, settings: CapsSettings | None = None) -> None:
        """Take the settings; None = the defaults."""
        self.settings = settings or CapsSettings()

    def decide(self, view: View) -> Sequence[Decision]:
        """Return the cap of every server that has to hold back now, and why rows without power readings are left."""
        now = present(view, self.settings.freshness)
        steps = ladder(view, now, self.settings.order)
        rows = fan(view, "power", [row.name for row in view.topology.rows], horizon_s=self.settings.early_s)
        # the forecast's rise and spread from the power that would be drawn now without caps
        room_w = now.row_limit_w - now.row_demand_w
        risk = exceedance(rows, rows.start + np.nan_to_num(room_w, nan=np.inf))
        wall_w = steps.gpu_w * now.wall_per_w[:, None]
        work = _Round(view=view, now=now, steps=steps, wall_w=wall_w, rows=rows, risk=risk)
        return [decision for row in range(len(view.topology.rows)) for decision in self._row(work, row)]

    def _row(self, work: _Round, row: int) -> list[Decision]:
        now, view = work.now, work.view
        name = view.topology.rows[row].name
        if now.row_silent[row]:
            reason = f"{name}: row power and its servers are silent: static safe cap"
            return self._caps(work, row, self._static(work, row), Because(reason=reason, constraint=f"{name} power"))
        if not now.row_fresh[row]:
            known = "is stale: caps in force stay" if np.isfinite(view.row_age_s[row]) else "was never seen: no caps"
            return [
                *self._held(work, row, name),
                no_change(self.name, f"clock_cap/{name}", f"{name}: row power {known}", at=view.now),
            ]
        clock = self._needed(work, row)
        said = self._caps(work, row, clock, self._because(work, row))
        if not work.rows.known[row]:
            reason = f"{name}: no fresh forecast of its power: POLCA's spike is assumed"
            said.append(no_change(self.name, f"clock_cap/{name}", reason, at=view.now))
        return said

    def _needed(self, work: _Round, row: int) -> Floats:
        """[servers] clocks for the early and the late need of a row."""
        settings, now = self.settings, work.now
        members, limit = work.view.index.server_row == row, float(now.row_limit_w[row])
        spike = max(0.0, float(np.nan_to_num(work.view.row_power_max_w[row] - work.view.row_power_w[row])))
        early, late = settings.early_spike_share * limit, settings.late_spike_share * limit
        if work.rows.known[row]:
            early = work.rows.rise(settings.early_level, settings.early_s)[row]
            late = work.rows.rise(settings.late_level, settings.late_s)[row]
        demand = float(now.row_demand_w[row])
        last, line = Tier(max(Tier)), queue(work.steps, members, work.wall_w)
        need = settings.early.need(demand + max(spike, early), line.in_force(CHEAP), limit)
        ahead = line.count(need, CHEAP)
        need = settings.late.need(demand + max(spike, late), line.in_force(last), limit)
        return line.lower(work.view.index.max_clock_mhz, max(ahead, line.count(need, last)))

    def _static(self, work: _Round, row: int) -> Floats:
        """[servers] clocks that hold the row within its limit whatever it does."""
        top, members = work.view.index.max_clock_mhz, work.view.index.server_row == row
        if self.settings.static_share is not None:
            return np.where(members, np.maximum(self.settings.static_share * top, work.view.index.min_clock_mhz), top)
        peak = work.now.plant.peak_gpu_power_w()
        everyone = replace(work.now, demand_w=peak, cap_works=np.ones(len(peak), dtype=np.bool_))
        steps = ladder(work.view, everyone, self.settings.order)
        need = float(work.now.plant.server_power_w(peak)[members].sum() - self.settings.late.goal * work.now.row_limit_w[row])
        line = queue(steps, members, steps.gpu_w * work.now.wall_per_w[:, None])
        return line.lower(top, line.count(need, Tier(max(Tier))))

    def _because(self, work: _Round, row: int) -> Because:
        now, name = work.now, work.view.topology.rows[row].name
        limit_kw, minutes = now.row_limit_w[row] / 1e3, self.settings.early_s / 60
        known = bool(work.rows.known[row])
        probability = float(work.risk.probability[row]) if known else None
        what = f"{name} would draw {now.row_demand_w[row] / 1e3:.0f} kW of {limit_kw:.0f} kW without caps"
        odds = f"P({name} > {limit_kw:.0f} kW within {minutes:.0f} min) = {probability:.2f}" if known else ""
        notes = [what, odds, now.note, "meter and servers disagree: the higher counts" if now.row_doubt[row] else ""]
        return Because(
            reason="; ".join(note for note in notes if note),
            constraint=f"{name} power",
            counterfactual=odds,
            probability=probability,
            forecast_ids=(work.rows.ids[row],) if known else (),
        )

    def _caps(self, work: _Round, row: int, clock: Floats, because: Because) -> list[Decision]:
        index, view = work.view.index, work.view
        low = np.flatnonzero((index.server_row == row) & (clock < index.max_clock_mhz - 1.0))
        return [
            cap(
                self.name,
                view.topology.servers[i].name,
                clock[i],
                because,
                at=view.now,
                priority=FORECAST,
                bounds=Bounds(low=float(index.min_clock_mhz[i]), high=float(index.max_clock_mhz[i])),
            )
            for i in low
        ]

    def _held(self, work: _Round, row: int, name: str) -> list[Decision]:
        """Its own caps in force, unchanged."""
        index, top = work.view.index, work.view.index.max_clock_mhz
        own = np.zeros(len(top), dtype=np.bool_)
        for action in work.view.actions.values():
            if action.policy == self.name and action.node in index.server:
                own[index.server[action.node]] = True
        clock = np.where(own, np.maximum(work.now.cap_mhz, index.min_clock_mhz), top)
        return self._caps(
            work, row, clock, Because(reason=f"{name}: row power is stale: caps stay", constraint=f"{name} power")
        )
