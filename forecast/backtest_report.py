"""What a backtest says: figures for machines. The page for people shows these same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from contracts.forecasts import LEVELS
from forecast.champion import Band
from forecast.grids import Floats, Ints
from forecast.scores import Day, Level, Overall, Score, days, overall, reliability
from forecast.voices import CHAMPION

if TYPE_CHECKING:
    from forecast.backtest import Rolled
    from forecast.backtest_tasks import Plan

P5, P95 = LEVELS.index(0.05), LEVELS.index(0.95)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Who spoke for a band of horizons from `at` on, and why."""

    at: datetime
    band: Band
    model: str
    previous: str
    reason: str
    errors: Mapping[str, float]
    """model -> mean absolute error as a ratio to persistence, at that time"""
    kind: str = ""
    """of the series that it is about; empty = all"""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong with a series' input."""

    series: str
    note: str
    """as last told; it begins with its kind"""
    first: date | None
    """days on which it was told; none for what is said of the rows as given"""
    last: date | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a backtest found. `fit_s`, `predict_s`: seconds spent, all models together."""

    scores: tuple[Score, ...]
    selected: dict[Band, str]
    """band of horizons -> the champion at the end"""
    fit_s: float
    predict_s: float
    origins: int
    """scored origins"""
    target: str
    step_s: int
    since: datetime
    """START of the first interval"""
    until: datetime
    """END of the last one"""
    scored_from: datetime
    """the first scored origin"""
    horizons_s: dict[str, int]
    series: int
    """that were scored"""
    overall: tuple[Overall, ...]
    reliability: tuple[Level, ...]
    """of the champion"""
    days: tuple[Day, ...]
    """of the champion: by horizon, the day with the least coverage first"""
    choices: tuple[Chosen, ...]
    left_out: tuple[tuple[str, str], ...]
    """(series, why it was not scored)"""
    notes: tuple[Note, ...]
    failed: tuple[tuple[str, datetime, str], ...]
    """(model, when it was fitted, why it had no opinion that day)"""


def made(
    plan: "Plan",
    rolled: "Rolled",
    champion: Floats,
    scores: Sequence[Score],
    scale: Floats,
    notes: Sequence[tuple[str, int, str]],
) -> Report:
    """Return the report. `champion`: its bands [O, K, S, L]; `scale`: MASE's [S]; `notes`: (series, time in s, note)."""
    batch = rolled.batch
    levels: list[Level] = []
    worst: list[Day] = []
    for label, knot in plan.horizons.items():
        own = judged(rolled, champion, knot)
        levels += reliability(CHAMPION, label, own.actual, own.quantiles, LEVELS)
        worst += days(
            CHAMPION,
            label,
            batch.names,
            valid_ts=own.valid_ts,
            actual=own.actual,
            path=own.path,
            persistence=own.persistence,
            low=own.quantiles[:, :, P5],
            high=own.quantiles[:, :, P95],
            scale=scale,
        )
    return Report(
        scores=tuple(scores),
        selected={choice.band: choice.model for choice in rolled.choices if not choice.kind},
        fit_s=rolled.fit_s,
        predict_s=rolled.predict_s,
        origins=int((rolled.pasts["persistence"].origins >= rolled.first_test).sum()),
        target=batch.target,
        step_s=batch.step_s,
        since=_utc(int(batch.ts[0]) - batch.step_s),
        until=_utc(int(batch.ts[-1])),
        scored_from=_utc(int(batch.ts[rolled.first_test])),
        horizons_s={label: knot * batch.step_s for label, knot in plan.horizons.items()},
        series=len(batch.names),
        overall=overall(scores),
        reliability=tuple(levels),
        days=tuple(worst),
        choices=tuple(
            Chosen(
                at=c.at, band=c.band, kind=c.kind, model=c.model, previous=c.previous, reason=c.reason, errors=dict(c.errors)
            )
            for c in rolled.choices
        ),
        left_out=plan.table.left_out,
        notes=_notes(plan.table.notes, notes),
        failed=tuple((name, _utc(at), why) for name, at, why in rolled.failed),
    )


def figure(report: Report, model: str, horizon: str) -> Overall:
    """Return a model's figures at a horizon over all series. Raises KeyError where it was not scored."""
    for one in report.overall:
        if (one.model, one.horizon) == (model, horizon):
            return one
    raise KeyError(f"{model} at {horizon} was not scored")


def verdict(report: Report, horizon: str) -> str:
    """Say in words who is better at a horizon: the champion, or a naive model; the first table of a report shows it."""
    champion = figure(report, CHAMPION, horizon)
    ratios = {"persistence": champion.vs_persistence, "seasonal-naive": champion.vs_seasonal}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if not known:
        return "nothing to compare"
    wins = " and ".join(name for name, ratio in known.items() if ratio > 1)
    if wins:
        return f"naive wins: {wins}"
    equal = " and ".join(name for name, ratio in known.items() if ratio == 1)
    return f"no better than {equal}" if equal else "champion wins"


def worst_days(report: Report, horizon: str, most: int) -> list[Day]:
    """Return the days with the least coverage at a horizon, but those with less than half the usual number of forecasts."""
    of = [day for day in report.days if day.horizon == horizon]
    usual = float(np.median([day.points for day in of])) if of else 0.0
    return [day for day in of if 2 * day.points >= usual][:most]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The champion at one horizon over the scored origins."""

    valid_ts: Ints
    """[N] END of the interval forecast, s"""
    actual: Floats
    """[N, S]"""
    path: Floats
    """[N, S]"""
    persistence: Floats
    """[N, S]"""
    quantiles: Floats
    """[N, S, L]"""


def judged(rolled: "Rolled", champion: Floats, knot: int) -> Judged:
    """Return what the champion said `knot` steps ahead from the scored origins, and what came; NaN = nothing was observed."""
    past, naive = rolled.pasts[CHAMPION], rolled.pasts["persistence"]
    k, scored = int(np.flatnonzero(past.knots == knot)[0]), past.origins >= rolled.first_test
    ahead, columns = past.origins[scored] + knot, len(rolled.batch.ts)
    actual = np.where((ahead < columns)[:, None], rolled.batch.values.T[np.minimum(ahead, columns - 1)], np.nan)
    median = champion[scored, k, :, LEVELS.index(0.5)]  # what is issued; the raw path where there was no band
    return Judged(
        valid_ts=past.origin_ts[scored] + knot * past.step_s,
        actual=actual,
        path=np.where(np.isnan(median), past.paths[scored, k], median),
        persistence=naive.paths[scored, int(np.flatnonzero(naive.knots == knot)[0])],
        quantiles=champion[scored, k],
    )


def _notes(given: Sequence[tuple[str, str]], masked: Sequence[tuple[str, int, str]]) -> tuple[Note, ...]:
    """Return one note per series and kind: what was wrong with the rows as given, then what was masked from day to day."""
    out = [Note(series=series, note=note, first=None, last=None) for series, note in given]
    kinds: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for series, at, note in masked:
        kinds.setdefault((series, note.split(":")[0]), []).append((at, note))
    for (series, _), told in sorted(kinds.items()):
        first, last = (_utc(at).date() for at in (told[0][0], told[-1][0]))
        out.append(Note(series=series, note=told[-1][1], first=first, last=last))
    return tuple(out)


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
