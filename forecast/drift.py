"""Drift: the errors of what is issued grow beyond what they were at the last refit, and stay so.

    drift = drift.observed(ledger.compared)              # after each `Ledger.observed`
    for alarm in drift.alarms: ...                       # refit that target (and the plant), then:
    drift = drift.refitted(target, now_s)

Page's one-sided cumulative sum (E. S. Page, Continuous inspection schemes, Biometrika 41, 1954; with the time of its minimum as
the change's it is the Page-Hinkley test) on x - 1 - TOLERATED, in hours, per target, kind and horizon (15 min and 1 h):

    x = mean over the kind's series of min(|error| / the series' usual |error|, CAP) / the same as usual at this hour of the day

What is usual is the mean over the last week of the errors of the series itself, as it stood at the last refit: what was learnt
since then cannot make a shift look usual. Errors of one moment are alike, and those of overlapping horizons too, so that the
threshold is set by the spread of x's hourly means: by Wald's approximation for the sum's maximum (exp(-2 m h / v) for drift -m
and variance v per hour) a level of h = v ln(1 / RISK) / (2 TOLERATED) is passed by chance once in 1 / RISK excursions, if hours
are independent. A doubling adds 1 - TOLERATED an hour. Silent for the first day.

Measured with the errors of persistence: autoregressive noise at 300 s raised 1.4 (one series), .3 (three) and no (twenty)
false alarms a week, and a doubling was seen after 105, 35 and 45 min (median). Real loads change their own restlessness: on the
development part of ServeGen's m-large 9 alarms in 9.8 days, of sizes 2.3 to 4.6; on its ten largest clients together 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from forecast.grids import DAY_S, Floats
from forecast.tally import Compared

HORIZONS_S = (900, 3_600)
TOLERATED = 0.4
"""share by which errors may be above the usual ones for ever"""
CAP = 4.0
"""a single error counts as at most this many usual ones: a jump is not a drift"""
RISK = 1e-3
LEAST_H, MOST_H = 0.4, 4.0
"""bounds of the threshold in hours: a doubling takes about an hour where many series agree, and up to eight where one bursts"""
PRIOR, PRIOR_H = 0.25, 12.0
"""variance of an hourly mean where few hours are known, and for how many it stands"""
MEMORY_S = 7 * DAY_S
FIRST_S = DAY_S
"""of errors before there is a reference"""
QUIET_S = 6 * 3_600
"""after the refit that an alarm asked for; meanwhile what is usual is learnt anew: the past counts as much as these hours"""
SHRUNK_H = 3.0
"""hours of a usual day that the mean of each hour of the day is shrunk with"""

Key = tuple[str, str, int]
"""target, kind, horizon in seconds"""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Errors of a kind have grown: `size` times the usual ones since `since_s` (seconds)."""

    target: str
    kind: str
    horizon_s: int
    since_s: int
    at_s: int
    size: float


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What is usual for the series of a target and horizon: sums of |error| (without its course over the day) and of seconds
    [S], fading over a week; and their ratio as it stood at the last refit (NaN = none)."""

    names: tuple[str, ...]
    errors: Floats
    seconds: Floats
    reference: Floats


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The sum of one target, kind and horizon."""

    total: float = 0.0
    """Page's sum in hours"""
    since_s: int = 0
    """when it last was zero"""
    excess: float = 0.0
    """sum of x times seconds since then"""
    seconds: float = 0.0
    course: Floats = field(default_factory=lambda: np.zeros((24, 2)))
    """per hour of the day (UTC): sums of x and of hours, fading over a week"""
    usual_course: Floats = field(default_factory=lambda: np.ones(24))
    """as it stood at the last refit"""
    hour: tuple[int, float, float] = (-1, 0.0, 0.0)
    """the present hour, its sum of x - 1 and its number of moments"""
    spread: tuple[float, float] = (0.0, 0.0)
    """sums of the squares of the hourly means, and of hours; fading over a week"""

    def threshold_h(self) -> float:
        """Return the level of the sum at which it is told."""
        variance = (self.spread[0] + PRIOR_H * PRIOR) / (self.spread[1] + PRIOR_H)
        return float(np.clip(variance * np.log(1 / RISK) / (2 * TOLERATED), LEAST_H, MOST_H))


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The watches of all classes. Values only; pickles."""

    usual: Mapping[tuple[str, int], Usual] = field(default_factory=dict)
    watches: Mapping[Key, Watch] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    """raised since the target's last refit; one per kind and horizon"""
    quiet_until_s: Mapping[str, int] = field(default_factory=dict)

    def observed(self, compared: Sequence[Compared]) -> "Drift":
        """Return the watches after these outcomes (`Ledger.compared`, oldest first); challengers and other horizons pass by."""
        out = self
        for new in compared:
            if new.champion and new.horizon_s in HORIZONS_S:
                out = out._told(new)
        return out

    def refitted(self, target: str, at_s: int) -> "Drift":
        """Return the watches with the reference of now for `target`; its alarms are answered, and their kinds start anew."""
        answered = {(a.kind, a.horizon_s) for a in self.alarms if a.target == target}
        usual, watches, quiet = dict(self.usual), dict(self.watches), dict(self.quiet_until_s)
        for key in [key for key in usual if key[0] == target]:
            usual[key] = _refreshed(usual[key], anew=bool(answered))
        for key3 in [key3 for key3 in watches if key3[0] == target]:
            watch = watches[key3]
            watches[key3] = replace(watch, usual_course=_course(watch.course))
            if answered:
                watches[key3] = _restarted(watches[key3], at_s)
        if answered:
            quiet[target] = at_s + QUIET_S
        alarms = tuple(a for a in self.alarms if a.target != target)
        return replace(self, usual=usual, watches=watches, alarms=alarms, quiet_until_s=quiet)

    def _told(self, new: Compared) -> "Drift":
        usual = _aligned(self.usual.get((new.target, new.horizon_s)), new.names)
        error = new.errors()
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.where(usual.reference > 0, np.minimum(error / usual.reference, CAP), np.nan)
        watches, alarms = dict(self.watches), list(self.alarms)
        kinds = np.array([kind for kind, _ in new.labels], dtype=np.str_)[new.code]
        course = np.ones(len(new.names))
        for kind in sorted({kind for kind, _ in new.labels}):
            key = (new.target, kind, new.horizon_s)
            watch = watches.get(key, Watch(since_s=new.ts))
            course[kinds == kind] = watch.usual_course[new.ts // 3_600 % 24] / watch.usual_course.mean()
            own = scaled[(kinds == kind) & ~np.isnan(scaled)]
            if not own.size:
                continue
            watch = _step(watch, float(own.mean()), new.ts, new.step_s)
            if new.ts < self.quiet_until_s.get(new.target, 0):
                watch = _restarted(watch, new.ts)
            watches[key] = watch
            known = any((a.target, a.kind, a.horizon_s) == key for a in alarms)
            if watch.total > watch.threshold_h() and not known:
                size = watch.excess / watch.seconds
                alarms.append(
                    Alarm(
                        target=new.target,
                        kind=kind,
                        horizon_s=new.horizon_s,
                        since_s=watch.since_s,
                        at_s=new.ts,
                        size=size,
                    )
                )
        everyone = {**self.usual, (new.target, new.horizon_s): _learnt(usual, error / course, new.step_s)}
        return replace(self, usual=everyone, watches=watches, alarms=tuple(alarms))


def _step(watch: Watch, raw: float, ts: int, step_s: int) -> Watch:
    """Return the watch after one moment of mean scaled error `raw`."""
    hour, hours = ts // 3_600, step_s / 3_600
    x = raw / float(watch.usual_course[hour % 24])
    total = watch.total + (x - 1.0 - TOLERATED) * hours
    fade = np.exp(-step_s / MEMORY_S)
    course = watch.course * fade
    course[hour % 24] += (raw * hours, hours)
    past, spread = watch.hour, watch.spread
    if past[0] != hour:
        if past[0] >= 0:
            mean, keeps = past[1] / past[2], np.exp(-3_600 / MEMORY_S)
            spread = (spread[0] * keeps + min(mean * mean, 1.0), spread[1] * keeps + 1.0)
        past = (hour, 0.0, 0.0)
    out = replace(watch, course=course, spread=spread, hour=(hour, past[1] + x - 1.0, past[2] + 1.0))
    if total <= 0:
        return _restarted(out, ts)
    return replace(out, total=total, excess=watch.excess + x * step_s, seconds=watch.seconds + step_s)


def _restarted(watch: Watch, ts: int) -> Watch:
    return replace(watch, total=0.0, since_s=ts, excess=0.0, seconds=0.0)


def _course(sums: Floats) -> Floats:
    """Return [24] the usual capped error over the day, shrunk to its mean (below 1, being capped), never below half of it."""
    mean = sums[:, 0].sum() / max(sums[:, 1].sum(), 1e-9)
    if mean <= 0:
        return np.ones(24)
    course = (sums[:, 0] + SHRUNK_H * mean) / (sums[:, 1] + SHRUNK_H)
    return np.asarray(np.maximum(course, 0.5 * mean), dtype=np.float64)


def _aligned(usual: Usual | None, names: tuple[str, ...]) -> Usual:
    """Return what is usual for `names`, in their order."""
    if usual is not None and (usual.names is names or usual.names == names):
        return usual
    out = Usual(names=names, errors=np.zeros(len(names)), seconds=np.zeros(len(names)), reference=np.full(len(names), np.nan))
    if usual is None:
        return out
    row = {name: s for s, name in enumerate(usual.names)}
    before = np.array([row.get(name, -1) for name in names], dtype=np.int64)
    for mine, theirs in ((out.errors, usual.errors), (out.seconds, usual.seconds), (out.reference, usual.reference)):
        mine[before >= 0] = theirs[before[before >= 0]]
    return out


def _learnt(usual: Usual, error: Floats, step_s: int) -> Usual:
    known: NDArray[np.bool_] = ~np.isnan(error)
    fade = np.where(known, np.exp(-step_s / MEMORY_S), 1.0)
    errors = usual.errors * fade + np.where(known, error, 0.0) * step_s
    return replace(usual, errors=errors, seconds=usual.seconds * fade + known * float(step_s))


def _refreshed(usual: Usual, *, anew: bool) -> Usual:
    """Return the reference as of now. After an alarm the past counts for QUIET_S only, so that the new level is learnt soon."""
    enough = usual.seconds >= 0.9 * FIRST_S
    mean = usual.errors / np.maximum(usual.seconds, 1.0)
    reference = np.where(enough | ~np.isnan(usual.reference), mean, np.nan)
    if not anew:
        return replace(usual, reference=reference)
    share = np.where(usual.seconds > 0, np.minimum(QUIET_S / np.maximum(usual.seconds, 1.0), 1.0), 1.0)
    return replace(usual, reference=reference, errors=usual.errors * share, seconds=usual.seconds * share)
