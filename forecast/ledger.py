"""The live record: what was issued is kept until its outcome is there, compared once, and summed up.

    ledger = ledger.issued("load", names, kinds, models, issued_at_s, lead_s, levels, values)        # each tick
    ledger, rows = ledger.observed(batch)                                    # each time that the 300 s grid has grown

Of the sets of one grid step the first is kept, if it was issued within a minute after the step: so each outcome is compared
once per horizon and speaker, whatever the cadence of the ticks. An outcome that is not there (a gap) never counts; late ones
are waited for, for ten minutes. The naive errors are of the same origins and outcomes, from the batch itself: the newest value
at the origin (at most a day old), and the value one season before the outcome.

Memory for S series, per target and speaker (the champion, or one challenger): 20 bytes for each series and set that waits, that
is 16 S sets to 1 h of a champion at a step of 300 s (3.2 MB at 10,000) and, with a path every 15 min, 24 at 6 h and 96 at 24 h
(of at most 2,000 series: 4.8 MB); and 4 bytes for each series, horizon and day of the sums, 32 S bytes for a week, 116 S at
24 h (1.3 MB at 10,000). What was never looked at goes six hours after it was due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.ports import Batch
from forecast.grids import DAY_S, Floats, Ints, day_steps, last_seen, sampled
from forecast.tally import LEVELS, Compared, Label, Score, Tally, encoded, tally

LEADS_S = (300, 900, 3_600, 21_600, 86_400)
"""horizons that are kept"""
DAYS = 8
"""of outcomes behind a score: today and the seven before"""
DAYS_LONG = 29
"""the same at 24 h, where errors are few"""
MOST_SERIES = 2_000
"""classes of more keep beyond an hour the sets of as many, spread over the names"""
FULL_S = 3_600
PROMPT_S = 60
"""how late after a grid step a set may be issued and still be counted as that step's"""
PATIENCE_S = 600
"""how long an outcome that is not there is waited for"""
KEPT_S = 6 * 3_600
ROWS_EVERY_S = 3_600

Key = tuple[str, str, int]
"""target, speaker ("" = the champion, else the challenger's model), horizon in seconds"""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """One horizon of a set of forecasts that waits for its outcome."""

    at_s: int
    due_s: int
    names: tuple[str, ...]
    labels: tuple[Label, ...]
    code: NDArray[np.int16]
    values: NDArray[np.float32]
    """[S, LEVELS]"""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All that waits, and the sums of what was compared. Values only; pickles."""

    step_s: int = 300
    season_s: int = DAY_S
    """what the seasonal-naive yardstick repeats"""
    waiting: Mapping[Key, tuple[Issued, ...]] = field(default_factory=dict)
    tallies: Mapping[Key, Tally] = field(default_factory=dict)
    compared: tuple[Compared, ...] = ()
    """what the last `observed` compared, oldest outcome first: for `forecast.drift`"""
    told_s: Mapping[str, int] = field(default_factory=dict)
    """target -> hour (its start) up to which rows were given"""

    def issued(
        self,
        target: str,
        names: tuple[str, ...],
        kinds: Sequence[str],
        model: str | Sequence[str],
        issued_at_s: int,
        lead_s: Ints,
        levels: Sequence[float],
        values: Floats,
        *,
        champion: bool = True,
    ) -> "Ledger":
        """Return the ledger with a set of forecasts, `values` [S, H, L] at `lead_s` [H] seconds after `issued_at_s`, run clock.

        `kinds` [S] and `model` (one, or [S]) are what the scores are grouped by; a challenger has one model. Raises InputError
        where a level of the record is missing.
        """
        at_s = issued_at_s // self.step_s * self.step_s
        if issued_at_s - at_s > PROMPT_S or not len(names):
            return self
        if not set(LEVELS) <= set(levels):
            raise InputError(f"{target}: levels {tuple(levels)} are given, the record needs {LEVELS}")
        if not champion and not isinstance(model, str):
            raise InputError(f"{target}: a challenger is one model, given one per series")
        column = [list(levels).index(level) for level in LEVELS]
        labels, code = encoded(kinds, model)
        waiting = dict(self.waiting)
        for h in np.flatnonzero(np.isin(lead_s, LEADS_S)):
            key = (target, "" if champion else str(model), int(lead_s[h]))
            before = tuple(one for one in waiting.get(key, ()) if one.due_s > issued_at_s - KEPT_S)
            if before and before[-1].at_s >= at_s:
                continue
            whole = Issued(
                at_s=at_s, due_s=at_s + key[2], names=names, labels=labels, code=code, values=_single(values[:, h][:, column])
            )
            waiting[key] = (*before, whole if key[2] <= FULL_S else _thinned(whole, before))
        return replace(self, waiting=waiting)

    def observed(self, batch: Batch) -> tuple["Ledger", list[Score]]:
        """Return the ledger with all outcomes that the batch (any grid whose steps hit those of the ledger; newest day or more)
        brings for its target, and, once an hour, the target's rows of forecast_scores."""
        if not len(batch.ts) or not len(batch.names):
            return replace(self, compared=()), []
        waiting, tallies = dict(self.waiting), dict(self.tallies)
        outcomes = _Outcomes(batch, self.season_s)
        compared: list[Compared] = []
        for key in [key for key in waiting if key[0] == batch.target]:
            found = [(one, outcomes.of(one, key, self.step_s)) for one in waiting[key]]
            waiting[key] = tuple(one for one, new in found if new is None)
            compared += [new for _, new in found if new is not None]
        compared.sort(key=lambda one: one.ts)
        for new in compared:
            key = (new.target, "" if new.champion else new.labels[0][1], new.horizon_s)
            base = tallies.get(key) or tally(DAYS_LONG if new.horizon_s >= DAY_S else DAYS)
            tallies[key] = base.added(new)
        hour = int(batch.ts[-1]) // ROWS_EVERY_S * ROWS_EVERY_S
        out = replace(self, waiting=waiting, tallies=tallies, compared=tuple(compared))
        if hour <= self.told_s.get(batch.target, -1):
            return out, []
        return replace(out, told_s={**self.told_s, batch.target: hour}), out.scores(batch.target, int(batch.ts[-1]))

    def scores(self, target: str, ts: int) -> list[Score]:
        """Return the rows of forecast_scores of a target as of `ts` (seconds)."""
        rows: list[Score] = []
        for key in sorted(key for key in self.tallies if key[0] == target):
            rows += self.tallies[key].scores(target, key[2], champion=key[1] == "", ts=ts)
        return rows


def _single(values: Floats) -> NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


def _thinned(whole: Issued, before: Sequence[Issued]) -> Issued:
    """Return the set for at most MOST_SERIES series. Its names are the object that those before it have, if they are alike."""
    if len(whole.names) <= MOST_SERIES:
        return whole
    some = sampled(whole.names, MOST_SERIES)
    names = tuple(whole.names[s] for s in some)
    names = before[-1].names if before and before[-1].names == names else names
    return replace(whole, names=names, code=whole.code[some], values=whole.values[some])


class _Outcomes:
    """Looks up a batch's values at given times for given names."""

    def __init__(self, batch: Batch, season_s: int) -> None:
        self.batch = batch
        self.season_s = season_s
        self.position: dict[str, int] = {}
        self.rows: dict[int, tuple[tuple[str, ...], Ints]] = {}

    def of(self, one: Issued, key: Key, step_s: int) -> Compared | None:
        """Return the set beside its outcomes; None while it is not due, or waits for late ones."""
        newest = int(self.batch.ts[-1])
        if one.due_s > newest:
            return None
        row = self.row(one.names)
        actual = self.at(row, one.due_s)
        if newest < one.due_s + PATIENCE_S and np.isnan(actual[~np.isnan(one.values[:, 2])]).any():
            return None
        return Compared(
            target=key[0],
            horizon_s=key[2],
            step_s=step_s,
            champion=key[1] == "",
            ts=one.due_s,
            names=one.names,
            labels=one.labels,
            code=one.code,
            values=one.values.astype(np.float64),
            actual=actual,
            persistence=self.held(row, one.at_s),
            seasonal=self.at(row, one.due_s - -(-key[2] // self.season_s) * self.season_s),
        )

    def row(self, names: tuple[str, ...]) -> Ints:
        """Return [N] the batch's row of each name, -1 where it has none; found once for names that are one object."""
        if id(names) not in self.rows:
            if names == self.batch.names:
                found = np.arange(len(names), dtype=np.int64)
            else:
                self.position = self.position or {name: s for s, name in enumerate(self.batch.names)}
                found = np.array([self.position.get(name, -1) for name in names], dtype=np.int64)
            self.rows[id(names)] = (names, found)
        return self.rows[id(names)][1]

    def at(self, row: Ints, ts: int) -> Floats:
        """Return [N] the values at `ts`; NaN outside the grid."""
        column = (ts - int(self.batch.ts[0])) // self.batch.step_s
        if column < 0 or column >= len(self.batch.ts) or int(self.batch.ts[column]) != ts:
            return np.full(len(row), np.nan)
        return np.where(row >= 0, self.batch.values[row, column], np.nan).astype(np.float64)

    def held(self, row: Ints, ts: int) -> Floats:
        """Return [N] the newest values at or before `ts`, at most a day old."""
        out = self.at(row, ts)
        column = (ts - int(self.batch.ts[0])) // self.batch.step_s
        some = np.flatnonzero(np.isnan(out) & (row >= 0)) if column >= 0 else np.zeros(0, dtype=np.int64)
        if some.size:
            low = max(0, column + 1 - day_steps(self.batch.step_s))
            out[some] = last_seen(self.batch.values[row[some], low : column + 1])
        return out
