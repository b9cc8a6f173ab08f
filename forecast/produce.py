"""The forecast service's pure core: `refit` every hour, `refit_daily` every day, `tick` every minute. No I/O, no clock.

    state = refit(refit_daily(State(), batches_300s, now), batches_300s, now)
    blocks, state = tick(state, batches_300s, batches_60s, plant, limits, now, slot)

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
from forecast.coarse import champion_at, coarse_paths
from forecast.derived import gpu_temperatures, headroom
from forecast.drivers import driven
from forecast.futures import Event, applied, effect_of, touching, usual
from forecast.grids import Ints, day_steps, epoch_s
from forecast.inputs import Cleaned, cleaned, explained, noted, told_of
from forecast.outlook import Outlook, challengers, look
from forecast.plant import Plant
from forecast.state import GPU_POWER, TARGETS, ClassState, State

__all__ = ["CHALLENGER_S", "HORIZONS_S", "PATH_EVERY_S", "PATH_S", "State", "refit", "refit_daily", "tick"]

HORIZONS_S = (60, 120, 300, 600, 900, 1_800, 3_600)
"""valid_at of every tick, after now"""
PATH_S = (*HORIZONS_S, *range(4_500, 86_401, 900))
"""the path to 24 h"""
WIDE: tuple[str, ...] = ("inlet", "server_power", GPU_POWER)
"""one series per server: nobody draws thousands of paths, and they would fill the log"""
WIDE_PATH_S = (*HORIZONS_S, 7_200, 10_800, 14_400, 21_600, 28_800, 43_200, 64_800, 86_400)
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
    return _with_drivers([usual(given.batch, events) for given in cleaned(batches).values()])


def _with_drivers(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches, inlets with what drives them beside them."""
    of = {batch.target: batch for batch in batches}
    outside, power = of.get("outside"), of.get("power")
    return [driven(b, outside=outside, power=power) if b.target == "inlet" else b for b in batches]


def tick(
    state: State,
    batches_300s: Sequence[Batch | Cleaned],
    batches_60s: Sequence[Batch | Cleaned],
    plant: Plant | None,
    limits: Mapping[str, float],
    now: datetime,
    slot: int,
    events: Sequence[Event] = (),
) -> tuple[list[Block], State]:
    """Return this minute's forecasts and the state for the next one.

    Champions of all TARGETS, of headroom (`limits`: row or UPS -> W) and gpu_temp; every 15 min their path to 24 h, every GPU's
    temperature, and all challengers. Series without a forecast stand in `state.without` with the reason. `slot` makes the ids:
    the same slot gives the same ids. Batches are cleaned first (`forecast.inputs`); who keeps one for several ticks gives it
    `Cleaned`. Announced `events` are taken out of what is known and put into what is to come.
    """
    long = cleaned(batches_300s)
    short = cleaned(batches_60s, long)
    fine = {target: usual(given.batch, events) for target, given in short.items()}
    full = state.path_at is None or (now - state.path_at).total_seconds() >= PATH_EVERY_S - 30
    said = _Said(now, slot, events)
    classes = dict(state.classes)
    outlooks: dict[str, Outlook] = {}
    for batch in _with_drivers([usual(given.batch, events) for given in long.values()]):
        if batch.target not in (*TARGETS, GPU_POWER):
            continue
        target, told = batch.target, told_of(long[batch.target], short.get(batch.target))
        klass = classes.get(target)
        reason = _unready(batch, klass)
        if klass is None or reason:
            said.nothing(target, batch, reason, told)
            continue
        classes[target], outlook, others = _class(klass, batch, fine.get(target), epoch_s(now), _seconds(target, full), full)
        outlooks[target] = said.looked(batch, outlook, others, told)
    for target in ("power", "ups_power"):
        if target in outlooks:
            said.champions("headroom", headroom(outlooks[target], limits, said.without), {})
    _temperatures(said, outlooks, plant, fine, told_of(short.get("gpu_temp"), short.get(GPU_POWER)), full)
    without = tuple(said.without)
    return said.blocks, replace(state, classes=classes, path_at=now if full else state.path_at, without=without)


def _seconds(target: str, full: bool) -> Ints:
    path = WIDE_PATH_S if target in WIDE else PATH_S
    return np.array(path if full else HORIZONS_S, dtype=np.int64)


def _temperatures(
    said: "_Said",
    outlooks: Mapping[str, Outlook],
    plant: Plant | None,
    fine: Mapping[str, Batch],
    told: Mapping[str, tuple[str, ...]],
    full: bool,
) -> None:
    """Tell the GPUs' temperatures where inlets, GPU power and a plant are known."""
    inlet, power = outlooks.get("inlet"), outlooks.get(GPU_POWER)
    if inlet is None:
        return
    if plant is None or power is None:
        missing = "no plant learnt yet" if plant is None else "no forecast of GPU power"
        said.without += [(f"gpu_temp/{name}", missing) for name in inlet.names]
        return
    hottest, each = gpu_temperatures(inlet, power, plant, fine, each=full)
    said.champions("gpu_temp", replace(hottest, notes=noted(hottest.names, hottest.notes, told)), {})
    if each is not None:
        said.champions("gpu_temp", each, None)


class _Said:
    """What a tick has said so far, and of what it could say nothing."""

    def __init__(self, now: datetime, slot: int, events: Sequence[Event]) -> None:
        self.now, self.slot, self.events = now, slot, events
        self.blocks: list[Block] = []
        self.without: list[tuple[str, str]] = []

    def nothing(self, target: str, batch: Batch, reason: str, told: Mapping[str, tuple[str, ...]]) -> None:
        absent = [(f"{target}/{name}", reason) for name in batch.names] or [(target, reason)]
        self.without += explained(absent, target, told)

    def looked(self, batch: Batch, outlook: Outlook, others: Sequence[Outlook], told: Mapping[str, tuple[str, ...]]) -> Outlook:
        """Issue a class's champions and challengers, with the announced events in them; return the champions' outlook."""
        now_s = epoch_s(self.now)
        outlook, coming = _announced(outlook, batch, now_s, self.events)
        told = {**told, **{name: (*told.get(name, ()), *notes) for name, notes in coming.items()}}
        outlook = replace(outlook, notes=noted(outlook.names, outlook.notes, told))
        target = next((known for known in TARGETS if known == batch.target), None)
        if target is not None:  # of GPU power only what follows from it is told
            self.champions(target, outlook, told)
            for other in others:
                block = _block(target, _announced(other, batch, now_s, self.events)[0], self.now, self.slot, champion=False)
                self.blocks += [block] if block.spoken.any() else []
        return outlook

    def champions(self, target: Target, outlook: Outlook, told: Mapping[str, tuple[str, ...]] | None) -> None:
        """Issue an outlook; series of which it says nothing are named, but with `told` None."""
        block = _block(target, outlook, self.now, self.slot, champion=True)
        if told is not None:
            mute = np.flatnonzero(~block.spoken)
            absent = [(f"{target}/{outlook.names[s]}", _silent(int(outlook.data_until_s[s]))) for s in mute]
            self.without += explained(absent, target, told)
        if block.spoken.any():
            self.blocks.append(block)


def _unready(batch: Batch, klass: ClassState | None) -> str:
    """Return why a class cannot be forecast; empty if it can."""
    if not batch.names:
        return "no series is known"
    if not np.isfinite(batch.values[:, -1:]).any() and np.isnan(batch.values).all():
        return "nothing observed in the whole window"
    if klass is None:
        return "nothing learnt yet: refit first"
    if klass.voices is None:
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
    if not any(event.target == batch.target for event in events):
        return outlook, {}
    effect = effect_of(events, batch.target, outlook.names, now_s + outlook.seconds, batch.step_s)
    told = touching(effect, outlook.names)
    if not told:
        return outlook, told
    return replace(outlook, values=applied(effect, outlook.values, outlook.levels, lower=batch.lower, upper=batch.upper)), told


def _block(target: Target, outlook: Outlook, now: datetime, slot: int, *, champion: bool) -> Block:
    suffixes = [f"{slot:x}" if champion else f"{slot:x}-{model}" for model in outlook.models]
    return Block(
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


def _silent(newest_s: int) -> str:
    since = "ever" if newest_s < 0 else f"since {datetime.fromtimestamp(newest_s, UTC):%Y-%m-%dT%H:%MZ}"
    return f"nothing observed {since}"
