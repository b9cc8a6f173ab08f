"""From errors to voices: who speaks for each series of a class, and the bands of what the speakers say together.

The refit and the backtest both go through here, so that what is scored is what is issued.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from contracts.ports import Batch
from forecast.calibration import STRETCHED, Calibrated, calibrated
from forecast.champion import BANDS, Band, Choice, Contest, band_of, choose, contest, speakers
from forecast.grids import Floats, Ints, rows_of
from forecast.kinds import KINDS, POOL
from forecast.restless import restlessness, weekly
from forecast.rolling import Residuals
from forecast.state import ClassState, Voices, levels_of

CHAMPION = "champion"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The choices of all kinds and bands, and the speakers of the judged series."""

    choices: tuple[Choice, ...]
    names: tuple[str, ...]
    """[S] the judged series"""
    models: tuple[str, ...]
    speaker: Ints
    """[S, BANDS] position in `models`"""


def in_restlessness(pasts: Sequence[Residuals], batch: Batch) -> list[Residuals]:
    """Return the errors in units of the series' restlessness; all are of the same origins and series."""
    if not pasts:
        return []
    unit = restlessness(batch.values, batch.step_s, pasts[0].origins)
    return [replace(past, scale=unit) for past in pasts]


def judge(pasts: Sequence[Residuals], target: str, kind: Sequence[str], since_s: int) -> list[Contest]:
    """Return the contests of the bands in which persistence has errors."""
    found = (contest(pasts, target, band, kind, since_s=since_s) for band, _ in BANDS)
    return [one for one in found if one is not None and one.models]


def verdict_of(
    found: Sequence[Contest],
    target: str,
    before: ClassState | Verdict | None,
    names: tuple[str, ...],
    kind: Sequence[str],
    now: datetime,
) -> Verdict:
    """Return the choices and speakers, given those `before`. A band without a contest is spoken for as the one before it."""
    models = tuple(dict.fromkeys(["persistence", *(model for one in found for model in one.models)]))
    speaker = np.zeros((len(names), len(BANDS)), dtype=np.int64)
    contests = {one.band: one for one in found}
    were = _previous(before, names)
    choices: list[Choice] = []
    for b, (band, _) in enumerate(BANDS):
        if (one := contests.get(band)) is None:
            speaker[:, b] = speaker[:, b - 1] if b else 0
            continue
        held = np.array([one.models.index(model) if model in one.models else -1 for model in were[b]], dtype=np.int64)
        own = speakers(one, held)
        speaker[:, b] = np.array([models.index(model) for model in one.models], dtype=np.int64)[own]
        choices += _choices(one, target, before, kind, own, now)
    return Verdict(choices=tuple(choices), names=names, models=models, speaker=speaker)


def spoken(pasts: Mapping[str, Residuals], models: Sequence[str], speaker: Ints) -> Residuals:
    """Return the errors of what the speakers [S, BANDS] said together; persistence where one had no opinion."""
    base = pasts["persistence"]
    paths, errors = base.paths.copy(), base.errors.copy()
    order = [band for band, _ in BANDS]
    column = np.array([order.index(band_of(float(knot * base.step_s))) for knot in base.knots])
    for code, model in enumerate(models):
        if model == "persistence" or model not in pasts:
            continue
        mine = (speaker[:, column] == code).T[None] & ~np.isnan(pasts[model].paths)
        np.copyto(paths, pasts[model].paths, where=mine)
        np.copyto(errors, pasts[model].errors, where=mine)
    return replace(base, model=CHAMPION, paths=paths, errors=errors)


def voices(verdict: Verdict, pasts: Sequence[Residuals], batch: Batch, kind: Sequence[str], rows: Ints, until_s: int) -> Voices:
    """Return the voices of all series of the batch, of which `rows` were judged: the others take what their kind chose."""
    judged_kind = [kind[r] for r in rows]
    together = spoken({p.model: p for p in pasts}, verdict.models, verdict.speaker)
    found = calibrated(together, judged_kind, levels_of(batch.target), until_s=until_s)
    count = len(batch.names)
    codes = np.array([KINDS.index(own) for own in (*kind, POOL)], dtype=np.int64)
    usable = np.array([table is not found.tables[0] for table in found.tables])
    stretch = np.ones((count + 1, len(STRETCHED)))
    stretch[rows] = found.stretch
    speaker = _of_kinds(verdict)[codes]
    speaker[rows] = verdict.speaker
    bands = Calibrated(tables=found.tables, kind=np.where(usable[codes], codes, 0), stretch=stretch)
    week = np.append(weekly(batch.values, batch.step_s), np.nan)
    return Voices(models=verdict.models, speaker=speaker, bands=bands, week=week)


def _choices(
    one: Contest, target: str, before: ClassState | Verdict | None, kind: Sequence[str], own: Ints, now: datetime
) -> list[Choice]:
    """Return a band's choice of each kind, the pool's first."""
    names = np.asarray(kind)
    out = []
    for name, errors in one.kinds.items():
        if not errors:
            continue
        mine = own if name == POOL else own[names == name]
        speaks = {model: int((mine == m).sum()) for m, model in enumerate(one.models) if (mine == m).any()}
        choice = choose(target, one.band, errors, _chosen(before, name, one.band), now, kind=name)
        out.append(replace(choice, speaks=speaks))
    return out


def _known_choices(before: ClassState | Verdict | None) -> Sequence[Choice]:
    if before is None:
        return ()
    return before.choices if isinstance(before, Verdict) else (*before.choices.values(), *before.kind_choices)


def _chosen(before: ClassState | Verdict | None, kind: str, band: Band) -> str:
    return next((c.model for c in _known_choices(before) if (c.kind, c.band) == (kind, band)), "")


def _previous(before: ClassState | Verdict | None, names: Sequence[str]) -> list[list[str]]:
    """Return per band who spoke for each series; empty where nobody did."""
    held = before.voices if isinstance(before, ClassState) else before
    if before is None or held is None:
        return [[""] * len(names) for _ in BANDS]
    position = {name: i for i, name in enumerate(before.names)}
    at = np.array([position.get(name, -1) for name in names], dtype=np.int64)
    spoke = np.asarray(held.models)[held.speaker[at]]
    spoke = np.where((at >= 0)[:, None], spoke, "")
    return [spoke[:, b].tolist() for b in range(len(BANDS))]


def _of_kinds(verdict: Verdict) -> Ints:
    """Return [KINDS, BANDS] who speaks for a series of each kind that was not judged itself."""
    out = np.zeros((len(KINDS), len(BANDS)), dtype=np.int64)
    for b, (band, _) in enumerate(BANDS):
        chosen = {c.kind: verdict.models.index(c.model) for c in verdict.choices if c.band == band}
        default = chosen.get(POOL, int(out[0, b - 1]) if b else 0)
        out[:, b] = [chosen.get(kind, default) for kind in KINDS]
    return out


def rows_in(voices: Voices | None, names: tuple[str, ...], batch: Batch) -> Ints:
    """Return the rows of the batch's series among the voices; the last one where a series is new."""
    return rows_of(names, batch) if voices is not None else np.full(len(batch.names), -1, dtype=np.int64)


def week_of(voices: Voices | None, row: Ints) -> Floats:
    """Return [S] the week's mean absolute step; NaN where it is not known."""
    return np.full(len(row), np.nan) if voices is None else voices.week[row]
