"""Thermal: clocks go down before the hottest GPU of a server reaches its slowdown temperature.

Level from now (the plant at the power that would be drawn without caps), rise and spread from the forecast. Where an aisle
draws more air than it gets, its SaaS is lowered first: that cools everybody's inlet, IaaS included. A hot IaaS server is capped
only when that does not suffice and the slowdown is at hand. Batch size and parallelism are not touched: small decode batches
heat the memory and fewer GPUs per instance heat the hottest one (TAPAS Table 1, Fig. 16).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from contracts.control import Bounds, ClockCap, Decision
from contracts.view import Bools, Floats, View
from policies.band import Band
from policies.decisions import FORECAST, Because, cap, no_change
from policies.order import CHEAP, Ladder, OrderSettings, ladder, lower
from policies.present import CAPS, Freshness, Present, present
from policies.probability import Fan, exceedance, fan

Kelvin = Annotated[float, msgspec.Meta(ge=0, le=30)]


class ThermalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Margins to the slowdown temperature, and when air counts as short."""

    horizon_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 900.0
    level: Annotated[float, msgspec.Meta(ge=0.5, lt=1)] = 0.95
    """quantile of the forecast that must stay below slowdown"""
    margin_k: Kelvin = 2.0
    """SaaS: at least this far below slowdown; sensors tell whole degrees [A]"""
    margin_max_k: Kelvin = 6.0
    """a forecast's spread counts up to here"""
    iaas_margin_k: Kelvin = 0.3
    iaas_near_k: Kelvin = 0.5
    """IaaS is capped once its hottest GPU is this near to slowdown, as the sensor's whole degrees show it (.5: it shows
    slowdown itself): a tenant who is capped on a suspicion loses more than one whose GPU slows down for a moment"""
    iaas_release_k: Kelvin = 0.3
    """as release_k"""
    iaas_gpu_k: Kelvin = 1.5
    """of an IaaS server only the GPUs within so much of its hottest are capped: the others harm nobody"""
    release_k: Kelvin = 1.0
    """a cap goes up when the temperature expected without it has this much more room"""
    air: Band = Band(tighten=1.0, goal=0.98, release=0.94)
    """SaaS is lowered for the aisle's air, as a share of the supply"""
    recirculation_k: Annotated[float, msgspec.Meta(ge=0, le=50)] = 10.0
    """inlet rise per unit of overdrawn air [A]"""
    outside_load_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """site load assumed for an inlet that nothing measures"""
    order: OrderSettings = OrderSettings()
    freshness: Freshness = Freshness()


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Temperatures per server [S] in degC, steady state, without caps."""

    inlet_c: Floats
    inlet_known: Bools
    bias_k: Floats
    """how much hotter the server shows itself than its plant says"""
    expected_c: Floats
    rise_k: Floats
    """rise and spread of the forecast"""
    temps: Fan


class Thermal:
    """Keeps the hottest GPU of each server below slowdown."""

    name = "thermal"
    Settings: ClassVar[type[ThermalSettings]] = ThermalSettings

    def __init__(self, settings: ThermalSettings | None = None) -> None:
        """Take the settings; None = the defaults."""
        self.settings = settings or ThermalSettings()

    def decide(self, view: View) -> Sequence[Decision]:
        """Return the caps of servers that would become too hot, and why a server's temperature is not known."""
        now = present(view, self.settings.freshness)
        steps = ladder(view, now, self.settings.order)
        heat = heat_of(view, now, self.settings)
        own = self._own(view)
        saas_clock = self._needed(view, now, steps, heat, heat.rise_k, own)
        air_clock, relief_k = self._air(view, now, steps, heat)
        iaas_clock = self._iaas(view, now, steps, heat, relief_k, own)
        clock = np.minimum(np.where(view.index.iaas, iaas_clock, saas_clock), air_clock)
        lowered = np.flatnonzero(clock < view.index.max_clock_mhz - 1.0)
        odds = exceedance(heat.temps, view.index.slowdown_c - heat.expected_c + heat.temps.start)
        for_air = air_clock <= clock
        decisions = [self._cap(view, heat, i, clock[i], odds.probability[i], bool(for_air[i])) for i in lowered.tolist()]
        return [*decisions, *self._unknown(view, now, heat)]

    def _needed(
        self, view: View, now: Present, steps: Ladder, heat: Heat, margin_k: Floats, own: Bools, cooler_k: Floats | float = 0.0
    ) -> Floats:
        """[servers] the highest clock of the ladder that keeps the hottest GPU `margin_k` below slowdown."""
        goal_c = view.index.slowdown_c - margin_k - heat.bias_k
        clock = self._at(now, steps, heat.inlet_c - cooler_k, goal_c)
        # an own cap goes up only with room to spare: what the cooler goal still allows
        release_k = np.where(view.index.iaas, self.settings.iaas_release_k, self.settings.release_k)
        careful = self._at(now, steps, heat.inlet_c - cooler_k, goal_c - release_k)
        return np.where(own & (clock > now.cap_mhz), np.minimum(clock, np.maximum(careful, now.cap_mhz)), clock)

    def _at(self, now: Present, steps: Ladder, inlet_c: Floats, gpu_c: Floats) -> Floats:
        allowed_w = now.plant.gpu_power_at_c(inlet_c, gpu_c)
        fits = steps.share * now.demand_w[:, None] <= allowed_w[:, None]
        first = np.where(fits.any(axis=1), fits.argmax(axis=1), steps.share.shape[1] - 1)
        return np.asarray(steps.clock_mhz[np.arange(len(first)), first])

    def _air(self, view: View, now: Present, steps: Ladder, heat: Heat) -> tuple[Floats, Floats]:
        """[servers] clocks of SaaS where an aisle is short of air and somebody in it gets hot; kelvins that they will bring."""
        index = view.index
        clock, relief = index.max_clock_mhz.copy(), np.zeros(len(index.server_row))
        gain = steps.gpu_w * now.cfm_per_w[:, None]
        shown_cfm = (now.demand_w - now.gpu_w) * now.cfm_per_w
        for aisle in range(len(view.topology.aisles)):
            members = index.server_aisle == aisle
            supply, demand = float(now.aisle_supply_cfm[aisle]), float(now.aisle_demand_cfm[aisle])
            if supply <= 0:
                continue
            shown = float(shown_cfm[members].sum())
            over = [max(demand - saved - supply, 0.0) / supply for saved in (0.0, shown)]
            # who would be hot if the clocks that cool the inlets already were let go
            warmer = heat.inlet_c + self.settings.recirculation_k * (over[0] - over[1])
            would_be_c = now.plant.gpu_c(warmer, now.demand_w) + heat.bias_k + heat.rise_k
            if over[0] <= 0 or not (members & (would_be_c > index.slowdown_c)).any():
                continue
            lowered, saved = lower(steps, members & index.saas, gain, self.settings.air, demand, supply, CHEAP)
            clock = np.minimum(clock, lowered)
            after = max(demand - max(saved, shown) - supply, 0.0) / supply
            relief[members] = self.settings.recirculation_k * (over[1] - after)
        return clock, relief

    def _iaas(self, view: View, now: Present, steps: Ladder, heat: Heat, relief_k: Floats, own: Bools) -> Floats:
        """[servers] clocks of IaaS: only where slowdown is at hand and cooler inlets will not prevent it."""
        margin = np.full(len(relief_k), self.settings.iaas_margin_k)
        clock = self._needed(view, now, steps, heat, margin, own, relief_k)
        near = np.nan_to_num(now.hottest_c, nan=np.inf) >= view.index.slowdown_c - self.settings.iaas_near_k
        return np.where(near | own, clock, view.index.max_clock_mhz)

    def _own(self, view: View) -> Bools:
        own = np.zeros(len(view.index.server_row), dtype=np.bool_)
        for action in view.actions.values():
            if action.policy == self.name and action.node in view.index.server:
                own[view.index.server[action.node]] = True
        return own

    def _cap(self, view: View, heat: Heat, i: int, clock_mhz: float, probability: float, for_air: bool) -> Decision:
        index, node, minutes = view.index, view.topology.servers[i].name, self.settings.horizon_s / 60
        aisle = view.topology.aisles[int(index.server_aisle[i])].name
        known = bool(heat.temps.known[i])
        odds = f"P(GPU temperature of {node} > {index.slowdown_c[i]:.0f} degC within {minutes:.0f} min) = {probability:.2f}"
        why = (
            f"{aisle} draws more air than it gets"
            if for_air
            else f"{node} would reach {heat.expected_c[i]:.0f} degC without a cap"
        )
        because = Because(
            reason=why if known else f"{why}; no forecast of its temperature: the plant's steady state",
            constraint=f"{aisle} airflow" if for_air else f"{node} GPU temperature",
            counterfactual=odds if known else "",
            probability=float(probability) if known else None,
            forecast_ids=(heat.temps.ids[i],) if known else (),
        )
        bounds = Bounds(low=float(index.min_clock_mhz[i]), high=float(index.max_clock_mhz[i]))
        gpus = self._hot(view, i) if index.iaas[i] and not for_air else ()
        return cap(self.name, node, clock_mhz, because, at=view.now, priority=FORECAST, bounds=bounds, gpus=gpus)

    def _hot(self, view: View, i: int) -> tuple[int, ...]:
        """The GPUs of server `i` that are nearly as hot as its hottest; empty (= all) when none is known."""
        temps = view.gpu_temp_c[view.index.gpu_first[i] : view.index.gpu_first[i + 1]]
        if not np.isfinite(temps).any():
            return ()
        hot = set(np.flatnonzero(temps >= np.nanmax(temps) - self.settings.iaas_gpu_k).tolist())
        held = view.actions.get(f"{CAPS}{view.topology.servers[i].name}")
        if held is not None and held.policy == self.name and isinstance(held.value, ClockCap):
            hot |= set(held.value.gpus)  # a capped GPU cools: it would leave the set and come back
        return tuple(sorted(hot)) if len(hot) < len(temps) else ()

    def _unknown(self, view: View, now: Present, heat: Heat) -> list[Decision]:
        """One reason for all servers that miss the same reading."""
        missing = [
            (~heat.inlet_known, "inlet temperatures are stale or absent: taken from outside temperature and load"),
            (np.isnan(now.hottest_c), "GPU temperatures are stale or absent: the plant's are used"),
            (~now.gpu_known, "GPU power is stale or absent: neighbours' or half of the peak is assumed"),
        ]
        said = [no_change(self.name, "clock_cap/site", reason, at=view.now) for which, reason in missing if which.any()]
        if now.note:
            said.append(no_change(self.name, "clock_cap/plant", now.note, at=view.now))
        return said


def heat_of(view: View, now: Present, settings: ThermalSettings) -> Heat:
    """Return the temperatures to expect without caps."""
    fresh = (view.server_age_s <= settings.freshness.stale_s) & np.isfinite(view.inlet_c)
    outside = view.outside_c if np.isfinite(view.outside_c) else 35.0
    guessed = now.plant.inlet_c(outside, settings.outside_load_share)
    inlet = np.where(fresh, view.inlet_c, np.where(np.isfinite(view.inlet_c), np.maximum(view.inlet_c, guessed), guessed))
    names = [server.name for server in view.topology.servers]
    temps = fan(view, "gpu_temp", names, horizon_s=settings.horizon_s)
    measured = now.hottest_c - now.plant.gpu_c(inlet, now.gpu_w)
    # a learnt plant is corrected upwards only, and little: after a step the die lags its steady state; a data sheet is a guess
    low, high = (0.0, 2.0) if view.plant is not None else (-25.0, 25.0)
    bias = np.clip(np.nan_to_num(measured), low, high)
    rise = np.clip(temps.rise(settings.level, settings.horizon_s), settings.margin_k, settings.margin_max_k)
    expected = now.plant.gpu_c(inlet, now.demand_w) + bias
    return Heat(inlet_c=inlet, inlet_known=fresh, bias_k=bias, expected_c=expected, rise_k=rise, temps=temps)
