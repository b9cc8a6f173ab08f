"""The forecaster's jobs of one site: ticks that speak, tasks that learn, and what they know in common."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coldaisle import forecast_memory
from coldaisle.clock import AnyClock
from coldaisle.forecast_events import Announced
from coldaisle.forecast_learning import (
    FINE_STEP_S,
    LONG_STEP_S,
    Learn,
    LearnMaxima,
    LearnPlant,
    RowLaws,
    with_paths_of,
    without_paths,
)
from coldaisle.forecast_memory import Memory
from coldaisle.forecast_record import Record
from coldaisle.forecast_worker import Worker
from coldaisle.series_window import SeriesWindow
from coldaisle.settings import ForecastSettings
from coldaisle.site import PLANT, publish_state
from coldaisle.site_facts import SiteFacts
from contracts.forecasts import Block
from contracts.ports import Batch, Bus, HistoryReader
from contracts.topology import Topology
from control.forecasts import frames_of
from forecast import produce
from forecast.account import entered, refitted, settled
from forecast.drift import Alarm
from forecast.grids import epoch_s
from forecast.inputs import Cleaned, clean
from forecast.maxima import follow
from forecast.plant import Plant
from forecast.row_max import aligned, highest
from forecast.state import GPU_POWER, TARGETS
from forecast.state import State as Learnt
from forecast.tally import Score
from ingest.publisher import Publisher

SHORT_STEP_S = 60
SHORT_WINDOW = timedelta(hours=3)
TICK_WINDOW = timedelta(days=8)
GPU_TEMP, OUTSIDE = "gpu_temp", "outside"
FINE_WINDOW = timedelta(minutes=40)
"""what the law of the maxima looks back on, and what it follows between two ticks"""


class Service:
    """The jobs. `tick` runs in one thread, all learning in another; what they share is swapped under a lock."""

    def __init__(
        self,
        reader: HistoryReader,
        bus: Bus,
        clock: AnyClock,
        topology: Topology,
        settings: ForecastSettings,
        worker: Worker,
        folder: Path,
    ) -> None:
        """`folder` keeps what was learnt. Nothing is known yet: `recall` or `begin` first."""
        self.settings, self.clock, self.topology = settings, clock, topology
        self.publisher = Publisher(bus, clock, "forecaster")
        self.record = Record(self.publisher, clock)
        self.memory = Memory()
        self._reader, self._bus, self._worker, self._folder = reader, bus, worker, folder
        self._series = SeriesWindow(reader)
        self._clean: dict[str, tuple[Batch, Cleaned]] = {}
        self._events = Announced(settings.events)
        self._lock = threading.Lock()
        self._slot = -1
        self._issued: frozenset[str] = frozenset()
        rows = {row.name: row.power_limit_w for row in topology.rows}
        self._limits = rows | {ups.name: ups.power_limit_w for ups in topology.upses}
        self._facts = SiteFacts(topology)
        self.on_drift: Callable[[Sequence[Alarm]], None] = lambda _: None
        """what to do where errors have grown; the scheduler says"""

    def recall(self) -> str:
        """Take up what was learnt before a restart, and what was issued already; return why nothing, or an empty text."""
        self._issued = self._ids_issued()
        memory, why_not = forecast_memory.recall(self._folder)
        if memory is None:
            return why_not
        self.memory = memory
        if memory.plant is not None:
            publish_state(self._bus, PLANT, memory.plant.to_json(), self.clock)
        return ""

    def begin(self) -> None:
        """Learn what policies cannot do without, plant and row power, and issue the first forecasts of it."""
        self.refit_plant()
        self._learn("begin", ("power",))
        self.tick()

    def refit(self, *, all_anew: bool = False) -> None:
        """Learn the hourly models anew on the whole history window; what was learnt a moment ago (at the start) may stay."""
        oldest = self.clock.now() - timedelta(seconds=self.settings.refit_s / 4)
        fresh = {name for name, klass in self.memory.learnt.classes.items() if klass.fitted_at > oldest and not all_anew}
        self._learn("refit", [target for target in (*TARGETS, GPU_POWER) if target not in fresh])

    def refit_daily(self) -> None:
        """Fit Prophet's calendar anew."""
        self._learn("daily", (*TARGETS, GPU_POWER))

    def refit_plant(self) -> None:
        """Learn the plant models anew and publish them for the policies."""
        self._task("plant", LearnPlant(now=self.clock.now()), self.settings.plant_budget_s, self._take_plant)

    def check_plant(self) -> None:
        """Learn the plant models anew if servers have left what was learnt of them: a repaired fan, a new heat sink."""

        def take(plant: Plant | None) -> None:
            self._take_plant(plant)
            self._remember("plant check")

        task = LearnPlant(now=self.clock.now(), known=self.memory.plant)
        self._task("plant check", task, self.settings.plant_budget_s, take)

    def refit_maxima(self) -> None:
        """Learn the law of the rows' highest power anew."""

        def take(laws: RowLaws | None) -> None:
            if laws is not None:
                self._remember("maxima", maxima=laws.maxima, rows=laws.rows)

        self._task("maxima", LearnMaxima(now=self.clock.now()), self.settings.refit_budget_s, take)

    def tick(self) -> None:
        """Issue this slot's forecasts from what is known now; without effect where that was done."""
        now = self.clock.now()
        slot = int(now.timestamp() // self.settings.tick_s)
        if slot <= self._slot:
            return
        self._slot = slot
        with self.record.job("tick", self.settings.tick_budget_s) as told:
            blocks = self._forecast(now, slot)
            told.series = sum(len(block.names) for block in blocks if block.champion)
            self.publish(blocks)
            self.record.absent(self.memory.learnt.without)

    def publish(self, blocks: Sequence[Block]) -> None:
        """Publish forecasts as rows of the topic `forecasts`; those of this slot that are on the log already are left out."""
        for block in blocks:
            for frame in frames_of(_unissued(block, self._issued)):
                self.publisher.frame("forecasts", "forecaster", frame)

    def _forecast(self, now: datetime, slot: int) -> list[Block]:
        events = self._events.now()
        known = [target for target in (*TARGETS, GPU_POWER) if target in self.memory.learnt.classes]
        long = [cleaned for target in (*known, OUTSIDE) if (cleaned := self._cleaned(target, now)) is not None]
        short = [self._series.batch(target, SHORT_STEP_S, SHORT_WINDOW, now) for target in (*known, GPU_TEMP)]
        minutes = [self._facts.told(batch) for batch in short if batch is not None]
        with self._lock:
            memory = self.memory
            blocks, learnt = produce.tick(memory.learnt, long, minutes, memory.plant, self._limits, now, slot, events)
            self.memory = replace(memory, learnt=learnt)
        measured = [*long, *([hot] if (hot := self._cleaned(GPU_TEMP, now)) is not None else [])]
        self._account(blocks, [given.batch for given in measured])
        return [*blocks, *self._highest(now, slot)]

    def _account(self, blocks: Sequence[Block], measured: Sequence[Batch]) -> None:
        """Enter what is issued, settle what has come, publish the scores, and ask for a refit where errors have grown."""
        alarms: list[Alarm] = []
        scores: list[Score] = []
        with self._lock:
            account = entered(self.memory.account, blocks, self.memory.learnt.classes)
            for batch in measured:
                account, rows, fresh = settled(account, batch)
                scores += rows
                alarms += fresh
            self.memory = replace(self.memory, account=account)
        self.record.scores(scores)
        if alarms:
            self.on_drift(alarms)

    def _cleaned(self, target: str, now: datetime) -> Cleaned | None:
        """Return what may be believed of a target's long past: looked at once per interval."""
        window = min(TICK_WINDOW, timedelta(days=self.settings.history_days))
        batch = self._series.batch(target, LONG_STEP_S, window, now)
        if batch is None:
            return None
        kept = self._clean.get(target)
        if kept is None or kept[0] is not batch:
            kept = self._clean[target] = (batch, clean(self._facts.told(batch)))
        return kept[1]

    def _highest(self, now: datetime, slot: int) -> list[Block]:
        """Let the newest 2 s power count for the law of the rows' maxima, and speak for the next seconds."""
        power = None if self.memory.maxima is None else self._series.batch("power", FINE_STEP_S, FINE_WINDOW, now)
        with self._lock:
            memory = self.memory
            if memory.maxima is None or power is None:
                return []
            followed = follow(memory.maxima, aligned(power, memory.rows), int(power.ts[-1]))
            self.memory = replace(memory, maxima=followed)
        return [highest(followed, memory.rows, power, now, slot)]

    def _learn(self, job: Literal["begin", "refit", "daily"], targets: Sequence[str]) -> None:
        """Learn beside the ticks and take over only what was learnt: a tick in between keeps its own memory."""
        learnt, events = without_paths(self.memory.learnt), self._events.now()
        task = Learn(daily=job == "daily", learnt=learnt, targets=tuple(targets), now=self.clock.now(), events=events)

        def take(learnt: Learnt) -> None:
            with self._lock:
                kept = self.memory.learnt
                fresh = replace(with_paths_of(learnt, kept), path_at=kept.path_at, without=kept.without)
                account = refitted(self.memory.account, targets, epoch_s(task.now))
                self.memory = replace(self.memory, learnt=fresh, account=account)
            self._remember(job)
            self.record.choices([choice for choice in learnt.choices() if choice.at == task.now])

        budget_s = self.settings.refit_budget_s if job != "daily" else self.settings.daily_budget_s
        self._task(job, task, budget_s, take)

    def _task(self, name: str, task: Any, budget_s: float, take: Callable[[Any], None]) -> None:
        """Have the worker do a task and take its result; what goes wrong is recorded, and what was learnt before stands."""
        with self.record.job(name, budget_s) as told:
            done = self._worker.run(task, budget_s)
            told.cpu_s = done.cpu_s
            take(done.result)

    def _take_plant(self, plant: Plant | None) -> None:
        if plant is not None:
            self._remember("plant", plant=plant)
            publish_state(self._bus, PLANT, plant.to_json(), self.clock)

    def _remember(self, job: str, **learnt: Any) -> None:
        """Take over what was learnt, and keep all on disk for a restart."""
        with self._lock:
            self.memory = replace(self.memory, **learnt, done={**self.memory.done, job: self.clock.now()})
            memory = replace(self.memory, learnt=without_paths(self.memory.learnt))
        forecast_memory.save(self._folder, memory)

    def _ids_issued(self) -> frozenset[str]:
        """Return the ids of the last two slots on the log: after a kill, half a slot may be there already."""
        since = self.clock.now() - timedelta(seconds=2 * self.settings.tick_s)
        query = "SELECT forecast_id FROM forecasts WHERE ts > $since"
        return frozenset(self._reader.query(query, {"since": since.replace(tzinfo=None)})["forecast_id"].to_list())


def _unissued(block: Block, issued: frozenset[str]) -> Block:
    """Return the block without what was issued before."""
    again = [i for i, name in enumerate(block.ids) if name in issued]
    if not again:
        return block
    values = block.values.copy()
    values[again] = np.nan
    return replace(block, values=values)
