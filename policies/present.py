"""What the View means now: limits after failures, what each server would draw without caps, and what is not known."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import msgspec
import numpy as np

from contracts.control import Action, ClockCap
from contracts.view import Bools, Floats, ServerPlant, View
from policies.datasheet import DataSheet

Seconds = Annotated[float, msgspec.Meta(gt=0)]
THROTTLED = 0x8 | 0x20 | 0x40 | 0x80
"""NVML's reasons: hardware slowdown, software and hardware thermal slowdown, power brake"""
UNKNOWN_SHARE = 0.5
"""share of its peak that a server is taken to draw while its GPUs are silent [A]"""
CAPS = "clock_cap/"
NO_EFFECT = frozenset({"refused", "failed"})


class Freshness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which age on a reading is not believed, run time."""

    stale_s: Seconds = 45.0
    """older: nothing new is built on it, what is in force stays"""
    silent_s: Seconds = 150.0
    """row power older than this while the servers' load is unknown too: the static safe cap"""
    actuation_s: Seconds = 60.0
    """a lifted cap may still be felt for so long: 40 s out of band (POLCA) and a reading"""
    disagree_share: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    """a meter that differs from the sum of its servers by more than this share is not believed alone"""


@dataclass(frozen=True, kw_only=True)
class Present:
    """Arrays over servers [S], rows [R] and aisles [A]. `demand` = what would be drawn if no clock were held down."""

    plant: ServerPlant
    note: str
    """what is assumed in the place of something unknown; empty = nothing"""
    row_limit_w: Floats
    """[R] after lost UPSes"""
    aisle_supply_cfm: Floats
    """[A] after lost AHUs"""
    cap_mhz: Floats
    """[S] clock cap in force; the maximum clock where there is none"""
    cap_works: Bools
    """[S] False where the node refused or failed the cap in force"""
    shown_mhz: Floats
    """[S] the clock that readings show: between the cap in force and the maximum"""
    gpu_known: Bools
    """[S] every GPU's power is fresh"""
    gpu_w: Floats
    """[S] sum of GPU power; where not known what the row's meter leaves, without a meter half of the peak"""
    hottest_c: Floats
    """[S] hottest GPU; NaN where not fresh"""
    demand_w: Floats
    """[S] GPU power without caps"""
    wall_per_w: Floats
    """[S] watts at the wall per watt of GPU power"""
    cfm_per_w: Floats
    """[S] airflow per watt of GPU power"""
    row_fresh: Bools
    """[R] row power may be built on"""
    row_silent: Bools
    """[R] row power was known once, is silent now, and so is the load of its servers"""
    row_w: Floats
    """[R] row power: the meter's, or the servers' sum where that is higher and the two disagree"""
    row_demand_w: Floats
    """[R] row power without the caps that the meter shows"""
    row_doubt: Bools
    """[R] meter and servers disagree"""
    aisle_demand_cfm: Floats
    """[A] airflow without caps"""


def present(view: View, freshness: Freshness) -> Present:
    """Return what the View means, with the learnt plant, or the data sheets' while there is none.

    The last one made is kept: every policy of a tick asks for the same, and a View never changes.
    """
    global _last
    known = _last
    if known is None or known[0] is not view or known[1] != freshness:
        known = _last = (view, freshness, _present(view, freshness))
    return known[2]


_last: tuple[View, Freshness, Present] | None = None


def _present(view: View, freshness: Freshness) -> Present:
    index, plant, note = view.index, view.plant, ""
    if plant is None:
        plant, note = DataSheet(view), "no plant learnt yet: data sheets' figures"
    gpu_w, known, clock, throttled, hottest = _servers(view, plant, freshness)
    row_w, fresh, silent, doubt = _rows(view, known, freshness)
    gpu_w = _from_meter(view, plant, gpu_w, known, np.where(fresh, row_w, np.nan))
    cap_mhz, works = caps_in_force(view)
    # the clock that the meter shows: between the cap and the maximum; an idle GPU's own low clock is not the cap's doing.
    # Below the cap only where hardware throttles, or where a lower cap has just been lifted
    lifted = _changed_lately(view, freshness)
    floor = np.where(throttled | lifted, index.min_clock_mhz, cap_mhz)
    # without a reading of the clock, a cap that was just set has had no effect yet: else one overload is answered twice
    unread = np.where(lifted, index.max_clock_mhz, cap_mhz)
    shown = np.clip(np.where(np.isnan(clock), unread, clock), np.minimum(floor, cap_mhz), index.max_clock_mhz)
    shown = np.where(works | throttled | lifted, shown, index.max_clock_mhz)
    share = plant.clock_power_share(shown, index.max_clock_mhz)
    peak = plant.peak_gpu_power_w()
    demand = np.maximum(np.minimum(gpu_w / np.clip(share, 0.05, 1.0), np.maximum(peak, gpu_w)), gpu_w)
    span = np.maximum(peak, 1.0)
    wall = np.clip((plant.server_power_w(span) - plant.server_power_w(span / 2)) / (span / 2), 0.5, 3.0)
    cfm = np.maximum((plant.airflow_cfm(span) - plant.airflow_cfm(span / 2)) / (span / 2), 0.0)
    saved = np.bincount(index.server_row, weights=(demand - gpu_w) * wall, minlength=len(row_w))
    return Present(
        plant=plant,
        note=note,
        row_limit_w=row_limits_w(view),
        aisle_supply_cfm=aisle_supplies_cfm(view),
        cap_mhz=cap_mhz,
        cap_works=works,
        shown_mhz=shown,
        gpu_known=known,
        gpu_w=gpu_w,
        hottest_c=hottest,
        demand_w=demand,
        wall_per_w=wall,
        cfm_per_w=cfm,
        row_fresh=fresh,
        row_silent=silent,
        row_w=row_w,
        row_demand_w=_level(view, plant, gpu_w, known & (row_w > 0)[index.server_row], lifted, row_w) + saved,
        row_doubt=doubt,
        aisle_demand_cfm=_airflow(view, plant, gpu_w) + _by_aisle(view, (demand - gpu_w) * cfm),
    )


def _level(view: View, plant: ServerPlant, gpu_w: Floats, known: Bools, changed: Bools, row_w: Floats) -> Floats:
    """[rows] the power to which savings are added: the meter's; while caps take effect the servers' sum.

    Meter and GPUs report at different times: a meter from before a cap and a clock from after it would count the cap twice.
    """
    owner, rows = view.index.server_row, len(row_w)
    total = np.bincount(owner, weights=plant.server_power_w(gpu_w), minlength=rows)
    moving = np.bincount(owner, weights=changed, minlength=rows) > 0
    complete = np.bincount(owner, weights=~known, minlength=rows) == 0
    return np.where(moving & complete, total, row_w)


def _from_meter(view: View, plant: ServerPlant, gpu_w: Floats, known: Bools, row_w: Floats) -> Floats:
    """[servers] GPU power, that of unknown servers being what their row's meter leaves for them (NaN = no meter).

    Guessed too low, a hot row's servers would seem to save little and be capped far too deep.
    """
    owner, rows = view.index.server_row, len(row_w)
    unknown = np.bincount(owner, weights=~known, minlength=rows)
    rest_w = row_w - np.bincount(owner, weights=np.where(known, plant.server_power_w(gpu_w), 0.0), minlength=rows)
    each_w = (rest_w / np.maximum(unknown, 1.0))[owner]
    peak = plant.peak_gpu_power_w()
    idle_w, full_w = plant.server_power_w(np.zeros_like(peak)), plant.server_power_w(peak)
    level = np.clip((each_w - idle_w) / np.maximum(full_w - idle_w, 1.0), 0.0, 1.0)
    return np.where(known | np.isnan(each_w), gpu_w, level * peak)


def row_limits_w(view: View) -> Floats:
    """[rows] power limits that hold now: each lost UPS takes (1 - ups_lost_share) of a row's, all lost leave nothing."""
    left = 1.0 - view.topology.ups_lost_share
    rows = view.topology.rows
    lost = [sum(bool(view.ups_lost[view.index.ups[name]]) for name in row.upses) for row in rows]
    shares = [_left(n, len(row.upses), left) for n, row in zip(lost, rows, strict=True)]
    return view.index.row_limit_w * np.array(shares, dtype=np.float64)


def aisle_supplies_cfm(view: View) -> Floats:
    """[aisles] airflow that the air handlers supply now: each lost AHU takes (1 - ahu_lost_share), all lost leave nothing."""
    left = 1.0 - view.topology.ahu_lost_share
    aisles = view.topology.aisles
    lost = [sum(bool(view.ahu_lost[view.index.ahu[name]]) for name in aisle.ahus) for aisle in aisles]
    shares = [_left(n, len(aisle.ahus), left) for n, aisle in zip(lost, aisles, strict=True)]
    return view.index.aisle_limit_cfm * np.array(shares, dtype=np.float64)


def caps_in_force(view: View) -> tuple[Floats, Bools]:
    """[servers] the caps on whole servers in force (maximum clock = none), and whether the node took them."""
    clock, works = view.index.max_clock_mhz.copy(), np.ones(len(view.index.max_clock_mhz), dtype=np.bool_)
    for target, action in view.actions.items():
        server = capped_server(view, action)
        if server is None:
            continue
        clock[server] = min(clock[server], _cap(action).max_mhz)
        outcome = view.outcomes.get(target)
        works[server] = outcome is None or outcome.status not in NO_EFFECT
    return clock, works


def _changed_lately(view: View, freshness: Freshness) -> Bools:
    """[servers] whose cap was set, changed or lifted within the actuators' latency."""
    changed, since = np.zeros(len(view.index.server_row), dtype=np.bool_), view.now - timedelta(seconds=freshness.actuation_s)
    nodes = [a.node for t, a in view.actions.items() if not a.renews and a.at > since and t.startswith(CAPS)]
    nodes += [o.node for t, o in view.outcomes.items() if o.at > since and t.startswith(CAPS)]
    for node in nodes:
        if (server := view.index.server.get(node)) is not None:
            changed[server] = True
    return changed


def capped_server(view: View, action: Action) -> int | None:
    """Return the position of the server that `action` caps as a whole, else None."""
    if isinstance(action.value, ClockCap) and not action.value.gpus:
        return view.index.server.get(action.node)
    return None


def _cap(action: Action) -> ClockCap:
    if not isinstance(action.value, ClockCap):
        raise TypeError(f"{action.target}: not a clock cap")
    return action.value


def _left(lost: int, of: int, each: float) -> float:
    return 0.0 if lost == of and of > 0 else max(0.0, 1.0 - lost * each)


def _servers(view: View, plant: ServerPlant, freshness: Freshness) -> tuple[Floats, Bools, Floats, Bools, Floats]:
    """[servers] GPU power, known, mean clock, throttled, hottest GPU; the last two and the clock from fresh GPUs only."""
    owner, servers = view.index.gpu_server, len(view.index.server_row)
    gpus = np.diff(view.index.gpu_first)
    fresh = view.gpu_age_s <= freshness.stale_s
    powered = fresh & np.isfinite(view.gpu_power_w)
    count = np.bincount(owner, weights=powered, minlength=servers)
    total = np.bincount(owner, weights=np.where(powered, view.gpu_power_w, 0.0), minlength=servers)
    known = (count == gpus) & (gpus > 0)
    # a lost GPU draws what its neighbours draw, a silent server half of its peak
    gpu_w = np.where(count > 0, total * gpus / np.maximum(count, 1), UNKNOWN_SHARE * plant.peak_gpu_power_w())
    clocked = fresh & np.isfinite(view.gpu_clock_mhz)
    clocks = np.bincount(owner, weights=clocked, minlength=servers)
    clock = np.bincount(owner, weights=np.where(clocked, view.gpu_clock_mhz, 0.0), minlength=servers) / np.maximum(clocks, 1)
    slowed = np.bincount(owner, weights=fresh & ((view.gpu_reasons & THROTTLED) > 0), minlength=servers) > 0
    hottest = np.full(servers, -np.inf)
    np.maximum.at(hottest, owner, np.where(fresh & np.isfinite(view.gpu_temp_c), view.gpu_temp_c, -np.inf))
    return gpu_w, known, np.where(clocks > 0, clock, np.nan), slowed, np.where(np.isfinite(hottest), hottest, np.nan)


def _rows(view: View, gpu_known: Bools, freshness: Freshness) -> tuple[Floats, Bools, Bools, Bools]:
    """[rows] believed power, whether it is fresh, silent with its load, in doubt."""
    index, rows = view.index, len(view.row_power_w)
    fresh = (view.row_age_s <= freshness.stale_s) & np.isfinite(view.row_power_w)
    seen = (view.server_age_s <= freshness.stale_s) & np.isfinite(view.server_power_w)
    of_row = np.bincount(index.server_row, minlength=rows)
    complete = (np.bincount(index.server_row, weights=seen, minlength=rows) == of_row) & (of_row > 0)
    total = np.bincount(index.server_row, weights=np.where(seen, view.server_power_w, 0.0), minlength=rows)
    doubt = fresh & complete & view.row_measured & (np.abs(view.row_power_w - total) > freshness.disagree_share * total)
    power = np.where(doubt, np.maximum(view.row_power_w, total), view.row_power_w)
    loaded = np.bincount(index.server_row, weights=gpu_known | seen, minlength=rows) > of_row / 2
    silent = (view.row_age_s > freshness.silent_s) & np.isfinite(view.row_age_s) & ~loaded
    return np.where(fresh, power, np.nan), fresh, silent, doubt


def _by_aisle(view: View, values: Floats) -> Floats:
    return np.bincount(view.index.server_aisle, weights=values, minlength=len(view.topology.aisles)).astype(np.float64)


def _airflow(view: View, plant: ServerPlant, gpu_w: Floats) -> Floats:
    """[aisles] measured airflow, or the plant's where nothing measures it."""
    modelled = _by_aisle(view, plant.airflow_cfm(gpu_w))
    return np.where(np.isfinite(view.aisle_airflow_cfm), view.aisle_airflow_cfm, modelled)
