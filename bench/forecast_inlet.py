"""Inlet forecasts minute by minute while cooling fails, through the service's own tick, on the twin's hidden parameters.

Per case a fortnight's past of 300 s as a history has it (rounded means), one refit, then minutes from live sensors (means of
rounded samples). Scored against the sensors' own 5 min means 15 min later, and beside it against what the same sensors would
show without rounding. A limit is crossed where the latter passes the fortnight's highest by LIMIT_K; an alarm is a P99 beyond
the limit within 15 min. A crossing without an alarm since the failure began is missed; so that an alarm that always sounds is
no merit, the share of alarms that were right stands beside it, and the same for alarms where a crossing is likelier than not.
The outside temperature lies beside the inlets as it was measured; no weather service is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.forecast_lines import at_most, line
from contracts.forecasts import Block
from contracts.ports import Batch
from contracts.workload import Workload
from forecast import produce
from forecast.drivers import driven
from forecast.grids import Floats, Ints, epoch_s
from forecast.intervals import Interval, mean_ratio
from forecast.state import State
from twin.fluid import Fluid
from twin.intervals import lived
from twin.scenario import load
from twin.sensors import inlet

Kind = Literal["ahu-lost", "cooling-device-lost", "chiller-restart", "heat-wave"]
KINDS: tuple[Kind, ...] = ("ahu-lost", "cooling-device-lost", "chiller-restart", "heat-wave")
FAULTS = KINDS[:3]
PAST_S, COARSE_S, FINE_S, SAMPLE_S = 14 * 86_400, 300, 60, 20
NORMAL_S, AFTER_S, AHEAD_S = 3 * 3_600, 3_600, 900
LASTS_S = {"ahu-lost": 3_600, "cooling-device-lost": 2_400, "chiller-restart": 1_200, "heat-wave": 4 * 3_600}
SECOND_S = 300
"""how long a second cooling device is lost beside the first"""
SOON_MIN = 30
LIMIT_K = 2.0
FINE_MIN = 180


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run. Values [S, T]; minutes count from the live part's begin."""

    kind: Kind
    seed: int
    begin_s: int
    """epoch of the live part's begin"""
    past: Floats
    """[S, T] 300 s readings before it"""
    minutes: Floats
    """[S, M] readings"""
    smooth: Floats
    """[S, M] the same without rounding"""
    limit: Floats
    """[S]"""
    fault: tuple[int, int]
    """minutes in which it holds"""
    aisles: tuple[str, ...]
    """[S]"""
    outside: Floats
    """[T + M / 5] 300 s means, degC"""


def made(kind: Kind, seed: int, workload: Workload, folder: Path) -> Case:
    """Return a case, kept in the folder."""
    kept = folder / f"inlet-{kind}-{seed}.npz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **_lived(kind, seed, workload))
    with np.load(kept) as held:
        fault = (int(held["fault"][0]), int(held["fault"][1]))
        parts = {name: held[name] for name in ("past", "minutes", "smooth", "limit", "outside")}
        aisles = tuple(f"aisle-{a}" for a in held["aisle"])
        return Case(kind=kind, seed=seed, begin_s=int(held["begin_s"]), fault=fault, aisles=aisles, **parts)


def _lived(kind: Kind, seed: int, workload: Workload) -> dict[str, Any]:
    """Live through a case: when in the week, and when in the run, the seed says."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    start = datetime(2026, 7, 13, tzinfo=UTC) + timedelta(minutes=5 * int(rng.integers(0, 7 * 288)))
    at_s, lasts_s = NORMAL_S + 60 * int(rng.integers(0, 60)), LASTS_S[kind]
    site = load(
        "normal",
        start=start.isoformat(),
        start_at_peak=False,
        outside_c=float(rng.uniform(18, 33)),
        events=_events(kind, at_s, lasts_s),
    )
    fluid = Fluid(site, workload, seed, at_s=-float(PAST_S + 3_600))
    lived(fluid, 3_600 // 150, 150, 150)
    bias = fluid.fleet.inlet_bias_share
    past = lived(fluid, PAST_S // COARSE_S, COARSE_S, 150)
    coarse = past.inlet_c
    minutes, smooth, outside = _minutes(fluid, (at_s + lasts_s + AFTER_S) // FINE_S, max(1.0, workload.burst_cv**2), rng)
    unrounded = coarse * (1.0 + bias)
    return {
        "begin_s": epoch_s(start),
        "past": inlet(coarse, bias).T,
        "minutes": minutes,
        "smooth": smooth,
        "limit": unrounded.max(axis=0) + LIMIT_K,
        "aisle": fluid.site.u.aisle,
        "fault": np.array([at_s // 60, (at_s + lasts_s) // 60]),
        "outside": np.concatenate([past.outside_c, outside[: len(outside) // 5 * 5].reshape(-1, 5).mean(axis=1)]),
    }


def _events(kind: Kind, at_s: int, lasts_s: int) -> list[dict[str, Any]]:
    base = {"at_s": at_s, "for_s": lasts_s}
    if kind == "ahu-lost":
        return [{"kind": "ahu_lost", "unit": "ahu-1", **base}]
    if kind == "cooling-device-lost":
        short = {"kind": "cooling_device_lost", "unit": "cooling-2", "at_s": at_s, "for_s": SECOND_S}
        return [{"kind": "cooling_device_lost", "unit": "cooling-1", **base}, short]
    if kind == "chiller-restart":
        return [{"kind": "chiller_restart", "unit": "chiller-1", **base}]
    return [{"kind": "heat_wave", "peak_k": 12.0, **base}]


def _minutes(fluid: Fluid, count: int, dispersion: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return [S, M] means of rounded samples, and of unrounded ones, then [M] the outside temperature; each
    60 s; load as it is counted in a sample's time."""
    bias, per = fluid.fleet.inlet_bias_share, FINE_S // SAMPLE_S
    readings, smooth, outside = [], [], []
    for _ in range(count * per):
        middle = np.array([fluid.now_s + SAMPLE_S / 2])
        mean = fluid.demand.rates(middle) * SAMPLE_S
        counted = np.maximum(0.0, mean + np.sqrt(mean * dispersion) * rng.standard_normal(mean.shape)) / SAMPLE_S
        fluid.advance(1, float(SAMPLE_S), rates=counted)
        true = fluid.site.s.inlet_c.copy()
        readings.append(inlet(true, bias))
        smooth.append(true * (1.0 + bias))
        outside.append(float(fluid.demand.outside_c(middle)[0]))
    each = [np.stack(some).reshape(count, per, -1).mean(axis=1).T for some in (readings, smooth)]
    return each[0], each[1], np.array(outside).reshape(count, per).mean(axis=1)


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """What the ticks said. [N] ticks, at minutes (the newest known); values 15 min ahead."""

    case: Case
    minutes: Ints
    median: Floats
    """[S, N]"""
    highest_p99: Floats
    """[S, N] over horizons to 15 min"""
    highest_median: Floats
    """[S, N] the same: beyond the limit, crossing is likelier than not"""


def ticked(case: Case) -> Ticked:
    """Let the service refit once and tick: every 10 min until the fault, every minute from five before it to the end."""
    names = tuple(f"s{i}" for i in range(len(case.past)))
    state = produce.refit(State(), [_coarse(case, names, 0)], _at(case, 0))
    last = case.minutes.shape[1] - AHEAD_S // 60
    calm = case.fault[0] - 5
    when = np.array([*range(60, calm, 10), *range(calm, last)], dtype=np.int64)
    medians, tops, middles = [], [], []
    for n, minute in enumerate(when.tolist()):
        fine = _fine(case, names, minute)
        blocks, state = produce.tick(state, [_coarse(case, names, minute)], [fine], None, {}, _at(case, minute), n)
        block = next(b for b in blocks if b.target == "inlet" and b.champion)
        medians.append(_value(block, 0.5, AHEAD_S))
        near = block.lead_s <= AHEAD_S
        tops.append(block.values[:, near, block.levels.index(0.99)].max(axis=1))
        middles.append(block.values[:, near, block.levels.index(0.5)].max(axis=1))
    both = [np.stack(some, axis=1) for some in (tops, middles)]
    return Ticked(case=case, minutes=when, median=np.stack(medians, axis=1), highest_p99=both[0], highest_median=both[1])


def _value(block: Block, level: float, seconds: int) -> Floats:
    return np.asarray(block.values[:, int(np.flatnonzero(block.lead_s == seconds)[0]), block.levels.index(level)])


def _at(case: Case, minute: int) -> datetime:
    return datetime.fromtimestamp(case.begin_s + 60 * minute, UTC)


def _coarse(case: Case, names: tuple[str, ...], minute: int) -> Batch:
    """The 300 s grid as known after `minute` live minutes."""
    whole = minute // 5
    live = case.minutes[:, : whole * 5].reshape(len(names), whole, 5).mean(axis=2)
    values = np.concatenate([case.past, live], axis=1)
    end = case.begin_s // COARSE_S * COARSE_S + COARSE_S * whole
    ts = end - COARSE_S * np.arange(values.shape[1] - 1, -1, -1, dtype=np.int64)
    inlets = Batch(
        target="inlet", step_s=COARSE_S, ts=ts, names=names, values=values, lower=-40.0, upper=80.0, groups=case.aisles
    )
    site = replace(inlets, target="outside", names=("site",), values=case.outside[None, : len(ts)], groups=())
    return driven(inlets, outside=site)


def _fine(case: Case, names: tuple[str, ...], minute: int) -> Batch:
    """The newest three hours of 60 s."""
    first = max(0, minute - FINE_MIN)
    ts = case.begin_s + 60 * np.arange(first + 1, minute + 1, dtype=np.int64)
    return Batch(target="inlet", step_s=60, ts=ts, names=names, values=case.minutes[:, first:minute], lower=-40.0, upper=80.0)


Part = Literal["normal", "fault", "undisturbed"]


def errors(done: Ticked, truth: Floats, part: Part) -> tuple[list[Floats], list[Floats]]:
    """Return per server the absolute errors of ours and of persistence (the newest 5 min mean) against 5 min means of `truth`.

    `normal`: ticks whose outcome lies before the failure; `fault`: all later ones, up to an hour after it. Of these a quarter
    of an hour before the failure and before the repair cannot know what comes; `undisturbed` are those since the failure began
    between which and their outcome nothing breaks or is repaired.
    """
    case, ahead = done.case, AHEAD_S // 60
    chosen = done.minutes + ahead <= case.fault[0]
    if part != "normal":
        chosen = ~chosen
    if part == "undisturbed":
        chosen &= done.minutes > case.fault[0]
        for change in _changes(case):
            chosen &= (done.minutes > change) | (done.minutes + ahead <= change)
    at = done.minutes[chosen]
    outcome, newest = _five(truth, at + ahead), _five(case.minutes, at)
    ours = np.abs(outcome - done.median[:, chosen])
    return list(ours), list(np.abs(outcome - newest))


def _changes(case: Case) -> list[int]:
    """Return the minutes at which something breaks or is repaired."""
    return [*case.fault, *([case.fault[0] + SECOND_S // 60] if case.kind == "cooling-device-lost" else [])]


def _five(values: Floats, at: Ints) -> Floats:
    """Means [S, N] of the five minutes that end at minute `at` (a count of minutes)."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    return np.asarray((total[:, at] - total[:, at - 5]) / 5.0)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What alarms were worth."""

    crossed: int
    """servers that crossed their limit once the failure had begun"""
    leads: list[float]
    """minutes, of each that was foreseen"""
    alarms: int
    """(server, tick) pairs with an alarm"""
    right: int
    """of these, followed by a crossing within SOON_MIN, or beyond the limit already"""
    quiet: int
    """pairs that nothing follows"""


def crossings(done: Ticked, highest: Floats) -> Found:
    """Return what alarms are worth that sound where `highest` [S, N] is beyond the limit.

    A crossing counts since the failure began, and so does the alarm before it.
    """
    case = done.case
    alarm = highest > case.limit[:, None]
    begins = case.fault[0]
    over = case.smooth > case.limit[:, None]
    total = np.concatenate([np.zeros((len(over), 1)), np.cumsum(over, axis=1)], axis=1)
    until = np.minimum(done.minutes + SOON_MIN, over.shape[1])
    near = total[:, until] > total[:, done.minutes - 1]
    leads: list[float] = []
    crossed = np.flatnonzero(over[:, begins:].any(axis=1) & ~over[:, begins - 1])
    for s in crossed:
        at = begins + int(np.argmax(over[s, begins:])) + 1
        before = (done.minutes <= at) & (done.minutes >= begins) & alarm[s]
        if before.any():
            leads.append(float(at - done.minutes[before].min()))
    return Found(
        crossed=len(crossed), leads=leads, alarms=int(alarm.sum()), right=int((alarm & near).sum()), quiet=int((~near).sum())
    )


def lines(all_done: Sequence[Ticked]) -> list[dict[str, Any]]:
    """Return the report's lines about inlets."""
    out: list[dict[str, Any]] = []
    faults = [d for d in all_done if d.case.kind in FAULTS]
    waves = [d for d in all_done if d.case.kind == "heat-wave"]
    rows: tuple[tuple[Sequence[Ticked], str, Part, float | None, float | None], ...] = (
        (all_done, "inlet, normal", "normal", 0.75, 0.6),
        (faults, "inlet in a cooling fault", "fault", 0.5, 0.4),
        (faults, "inlet in a cooling fault, nothing breaks or is repaired in between", "undisturbed", 0.5, 0.4),
        (waves, "inlet in a heat wave", "fault", None, None),
    )
    for some, on, part, bar, goal in rows:
        if not some:
            continue
        limits = (None if bar is None else at_most(bar), None if goal is None else at_most(goal))
        out.append(line("15 min / persistence", on, ratio(some, part), *limits))
        out.append(line("15 min / persistence, without rounding", on, ratio(some, part, smooth=True), None, None))
        out.append(_mae(some, on, part))
    return (
        out
        + _alarms([crossings(d, d.highest_p99) for d in all_done], "", bar=True)
        + _alarms([crossings(d, d.highest_median) for d in all_done], " by P(crossing) > .5", bar=False)
    )


def _alarms(found: Sequence[Found], how: str, *, bar: bool) -> list[dict[str, Any]]:
    """Return the lines about alarms: crossings missed, leads, and how many alarms were right or for nothing."""
    on = "inlet in a cooling fault"
    leads = [lead for one in found for lead in one.leads]
    total = sum(one.crossed for one in found)
    missed = float(total - len(leads))
    limit = at_most(0) if bar else None
    out = [line(f"crossings missed{how}", on, Interval(missed, missed, missed, total), limit, limit)]
    if leads:
        middle, low, high = np.quantile(leads, [0.5, 0.05, 0.95]).tolist()
        out.append(line(f"lead, median{how}", f"{on}, minutes", Interval(middle, low, high, len(leads)), None, None))
    alarms, right = sum(one.alarms for one in found), sum(one.right for one in found)
    quiet = sum(one.quiet for one in found)
    if alarms:
        share = right / alarms
        out.append(line(f"alarms that were right{how}", "inlet", Interval(share, share, share, alarms), None, None))
    false = (alarms - right) / max(quiet, 1)
    what = f"alarms without a crossing in {SOON_MIN} min{how}"
    out.append(line(what, "inlet", Interval(false, false, false, quiet), None, None))
    return out


def ratio(some: Sequence[Ticked], part: Part, *, smooth: bool = False) -> Interval:
    """Return the mean absolute error as a ratio to persistence's; intervals over runs: servers of one run share its weather."""
    top, bottom = [], []
    for done in some:
        ours, naive = errors(done, done.case.smooth if smooth else done.case.minutes, part)
        top.append(np.mean(ours, axis=0))
        bottom.append(np.mean(naive, axis=0))
    found = mean_ratio(top, bottom, 30, series_too=True)
    return found._replace(pairs=found.pairs * len(some[0].median))


def _mae(some: Sequence[Ticked], on: str, part: Part) -> dict[str, Any]:
    both = [errors(done, done.case.minutes, part) for done in some]
    ours, naive = (float(np.mean([np.mean(one[k]) for one in both])) for k in (0, 1))
    return {"what": "15 min MAE, K", "set": on, "value": round(ours, 4), "persistence": round(naive, 4)}
