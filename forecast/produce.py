"""The forecast service's pure core: `refit` every hour, `refit_daily` every day, `tick` every minute. No I/O, no clock.

    state = refit(refit_daily(State(), batches_300s, now), batches_300s, now)
    blocks, state = tick(state, batches_300s, batches_60s, plant, limits, now, seq)

`batches_300s`: per target of load, inlet, power (and gpu_power) the 300 s grid; a refit wants the whole history, a tick the
newest eight days. `batches_60s`: the 60 s grid of the newest hour or more, for load, inlet, power, gpu_power, gpu_temp; what is
not there is done without, and named. A batch may carry new series, in any order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from contracts.forecasts import Block, Target
from contracts.ports import Batch
from forecast import refit as learning
from forecast.derived import gpu_temperatures, headroom
from forecast.futures import Event, applied, effect_of, touching, usual
from forecast.grids import Ints, day_steps, epoch_s
from forecast.inputs import Cleaned, cleaned, explained, noted, told_of
from forecast.outlook import Outlook, challengers, champion_at, coarse_paths, look
from forecast.plant import Plant
from forecast.state import GPU_POWER, TARGETS, ClassState, State

__all__ = ["CHALLENGER_S", "HORIZONS_S", "PATH_EVERY_S", "PATH_S", "State", "refit", "refit_daily", "tick"]

HORIZONS_S = (60, 120, 300, 600, 900, 1_800, 3_600)
"""valid_at of every tick, after now"""
PATH_S = (*HORIZONS_S, *range(4_500, 86_401, 900))
"""the path to 24 h"""
PATH_EVERY_S = 900
CHALLENGER_S = (300, 900, 3_600, 21_600, 86_400)
"""horizons of the challengers, issued with the path"""


def refit(state: State, batches: Sequence[Batch | Cleaned], now: datetime, events: Sequence[Event] = ()) -> State:
    """Return the state with every class of `batches` (300 s grid, the whole history) learnt anew from what can be believed,
    without the announced events that lie in it."""
    return learning.refit(state, _learnable(batches, events), now)


def refit_daily(state: State, batches: Sequence[Batch | Cleaned], now: datetime, events: Sequence[Event] = ()) -> State:
    """Return the state with Prophet fitted anew for the classes of few series, and the champions chosen again with it."""
    return learning.refit_daily(state, _learnable(batches, events), now)


def _learnable(batches: Sequence[Batch | Cleaned], events: Sequence[Event]) -> list[Batch]:
    return [usual(given.batch, events) for given in cleaned(batches).values()]


def tick(
    state: State,
    batches_300s: Sequence[Batch | Cleaned],
    batches_60s: Sequence[Batch | Cleaned],
    plant: Plant | None,
    limits: Mapping[str, float],
    now: datetime,
    seq: int,
    events: Sequence[Event] = (),
) -> tuple[list[Block], State]:
    """Return this minute's forecasts and the state for the next one.

    Champions of load, inlet, power, headroom (`limits`: row -> W) and gpu_temp; every 15 min their path to 24 h (gpu_temp: one
    hour) and all challengers. Series without a forecast stand in `state.without` with the reason. `seq` makes the ids unique.
    Batches are cleaned first (`forecast.inputs`); who keeps one for several ticks gives it `Cleaned`. Announced `events` are
    taken out of what is known and put into what is to come.
    """
    now_s = epoch_s(now)
    long = cleaned(batches_300s)
    short = cleaned(batches_60s, long)
    fine = {target: usual(given.batch, events) for target, given in short.items()}
    full = state.path_at is None or (now - state.path_at).total_seconds() >= PATH_EVERY_S - 30
    seconds = np.array(PATH_S if full else HORIZONS_S, dtype=np.int64)
    blocks: list[Block] = []
    without: list[tuple[str, str]] = []
    classes = dict(state.classes)
    outlooks: dict[Target, Outlook] = {}
    for target in TARGETS:
        given, klass = long.get(target), classes.get(target)
        if given is None:
            continue
        batch, told = usual(given.batch, events), told_of(given, short.get(target))
        reason = _unready(batch, klass)
        if klass is None or reason:
            absent = [(f"{target}/{name}", reason) for name in batch.names] or [(target, reason)]
            without += explained(absent, target, told)
            continue
        klass, outlook, others = _class(klass, batch, fine.get(target), now_s, seconds, full)
        outlook, coming = _announced(outlook, batch, now_s, events)
        told |= {name: (*told.get(name, ()), *notes) for name, notes in coming.items()}
        outlook = replace(outlook, notes=noted(outlook.names, outlook.notes, told))
        classes[target] = klass
        outlooks[target] = outlook
        absent = []
        blocks += _issue(target, outlook, now, seq, absent)
        without += explained(absent, target, told)
        for other in others:
            blocks += _issue(target, _announced(other, batch, now_s, events)[0], now, seq, None)
    if "power" in outlooks:
        blocks += _issue("headroom", headroom(outlooks["power"], limits, without), now, seq, without)
    if "inlet" in outlooks:
        hot = gpu_temperatures(outlooks["inlet"], plant, fine, classes.get("gpu_power"), without)
        if hot is not None:
            hot = replace(hot, notes=noted(hot.names, hot.notes, told_of(short.get("gpu_temp"), short.get(GPU_POWER))))
            blocks += _issue("gpu_temp", hot, now, seq, without)
    return blocks, replace(state, classes=classes, path_at=now if full else state.path_at, without=tuple(without))


def _unready(batch: Batch, klass: ClassState | None) -> str:
    """Return why a class cannot be forecast; empty if it can."""
    if not batch.names:
        return "no series is known"
    if np.isnan(batch.values).all():
        return "nothing observed in the whole window"
    if klass is None:
        return "nothing learnt yet: refit first"
    if not klass.tables or not klass.choices:
        return f"only {len(batch.ts)} intervals of {batch.step_s} s known: too few past errors for a band"
    if batch.step_s != klass.step_s:
        return f"learnt on a grid of {klass.step_s} s, given {batch.step_s} s: refit"
    return "" if len(batch.ts) else "no interval in the batch"


def _class(
    klass: ClassState, batch: Batch, fine: Batch | None, now_s: int, seconds: Ints, full: bool
) -> tuple[ClassState, Outlook, list[Outlook]]:
    """Forecast one class: the champions' outlook, and with the full path each challenger's."""
    models = list(dict.fromkeys(champion_at(klass, float(s)) for s in seconds))
    if full:
        models = list(dict.fromkeys([*models, *klass.tables]))
    ahead = now_s + int(seconds[-1]) - int(batch.ts[-1])
    steps = min(-(-ahead // batch.step_s) + 1, 2 * day_steps(batch.step_s))
    paths = coarse_paths(klass, batch, max(steps, 1), models)
    outlook = look(klass, batch, fine, now_s, seconds, paths)
    others: list[Outlook] = []
    if full:
        at = np.array([s for s in CHALLENGER_S if s <= seconds[-1]], dtype=np.int64)
        speakers = {champion_at(klass, float(s)) for s in at}
        alone = [m for m in sorted(klass.tables) if m in paths.paths and speakers != {m}]
        others = challengers(klass, batch, now_s, at, paths, alone)
    return replace(klass, coarse=paths), outlook, others


def _announced(
    outlook: Outlook, batch: Batch, now_s: int, events: Sequence[Event]
) -> tuple[Outlook, dict[str, tuple[str, ...]]]:
    """Return the outlook with the announced events in it, and what is to be told of them: series -> notes."""
    effect = effect_of(events, batch.target, outlook.names, now_s + outlook.seconds, batch.step_s)
    told = touching(effect, outlook.names)
    if not told:
        return outlook, told
    return replace(outlook, values=applied(effect, outlook.values, outlook.levels, lower=batch.lower, upper=batch.upper)), told


def _issue(target: Target, outlook: Outlook, now: datetime, seq: int, without: list[tuple[str, str]] | None) -> list[Block]:
    """Return the outlook as a block, where any series has an opinion; `without` None = challengers, which are silent about the
    rest."""
    champion = without is not None
    stamp = f"{epoch_s(now):x}-{seq:x}"
    suffixes = [stamp if champion else f"{stamp}-{model}" for model in outlook.models]
    block = Block(
        target=target,
        champion=champion,
        issued_at=now,
        lead_s=outlook.seconds.astype(np.float64),
        levels=outlook.levels,
        names=outlook.names,
        ids=tuple(f"{target}-{name}-{suffix}" for name, suffix in zip(outlook.names, suffixes, strict=True)),
        values=outlook.values,
        data_until_s=outlook.data_until_s,
        models=outlook.models,
        notes=outlook.notes,
    )
    if without is not None:
        without += [
            (f"{target}/{outlook.names[s]}", _silent(int(outlook.data_until_s[s]))) for s in np.flatnonzero(~block.spoken)
        ]
    return [block] if block.spoken.any() else []


def _silent(newest_s: int) -> str:
    since = "ever" if newest_s < 0 else f"since {datetime.fromtimestamp(newest_s, UTC):%Y-%m-%dT%H:%MZ}"
    return f"nothing observed {since}"
