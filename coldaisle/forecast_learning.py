"""The tasks of the forecast worker: read the history window, learn, return what was learnt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from coldaisle.series_window import SeriesWindow
from coldaisle.site_facts import SiteFacts
from contracts.ports import Batch, HistoryReader
from contracts.topology import Topology
from forecast import produce
from forecast.futures import Event
from forecast.grids import recent
from forecast.maxima import Maxima
from forecast.maxima import learn as learn_maxima
from forecast.plant import Plant, drifted, fit
from forecast.plant_readings import Readings
from forecast.state import State
from ingest.history.client import HttpHistory, find_owner

LONG_STEP_S, FINE_STEP_S = 300, 2
MAXIMA_WINDOW = timedelta(hours=48)
PLANT_TARGETS = ("inlet", "outside", "gpu_temp", "gpu_power", "server_power", "airflow")
EACH_GPU = "gpu_temp_each"
EACH_WINDOW = timedelta(days=7)
"""of single GPUs, of which there are thousands"""
DRIFT_WINDOW = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Learn:
    """Learn classes of series anew: hourly, or with Prophet's calendar."""

    daily: bool
    """with Prophet fitted anew"""
    learnt: State
    targets: tuple[str, ...]
    now: datetime
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LearnPlant:
    """Learn the plant models anew; with `known` only where servers have left its family, else there is no result."""

    now: datetime
    known: Plant | None = None


@dataclass(frozen=True, kw_only=True)
class LearnMaxima:
    """Learn the law of the rows' highest power anew."""

    now: datetime


@dataclass(frozen=True, kw_only=True)
class RowLaws:
    """What was learnt of the rows' maxima; `rows` in the order of `maxima`."""

    maxima: Maxima
    rows: tuple[str, ...]


def setup(state: Path, topology: Topology, history_days: float) -> Callable[[Any], Any]:
    """Return what does the tasks; called in the worker's process, which imports there what takes seconds."""
    import statsmodels.tsa.ar_model  # noqa: F401  (better now, while others start, than in the first fit)

    learner = Learner(state, topology, timedelta(days=history_days))
    return learner.task


class Learner:
    """Does tasks; keeps the window of the history between them, so that each reads only what is new."""

    def __init__(self, state: Path, topology: Topology, window: timedelta) -> None:
        """`state`: the run's folder, in which the history's owner says where it is."""
        self._state, self._topology, self._window = state, topology, window
        self._facts = SiteFacts(topology)
        self._series: SeriesWindow | None = None

    def task(self, task: Learn | LearnPlant | LearnMaxima) -> State | Plant | RowLaws | None:
        """Do one task."""
        reader = HttpHistory(*find_owner(self._state))  # anew each time: the owner may have been started again
        if self._series is None:
            self._series = SeriesWindow(reader)
        self._series.reader = reader
        try:
            match task:
                case Learn():
                    return self._learn(task, self._series)
                case LearnPlant():
                    return self._plant(task, self._series)
                case LearnMaxima():
                    return self._maxima(task.now, self._series)
        finally:
            reader.close()

    def _learn(self, task: Learn, series: SeriesWindow) -> State:
        made = [series.batch(target, LONG_STEP_S, self._window, task.now) for target in (*task.targets, "outside")]
        batches: Sequence[Batch] = [self._facts.told(batch) for batch in made if batch is not None]
        learn = produce.refit_daily if task.daily else produce.refit
        return learn(task.learnt, batches, task.now, task.events)

    def _plant(self, task: LearnPlant, series: SeriesWindow) -> Plant | None:
        made = {target: series.batch(target, LONG_STEP_S, self._window, task.now) for target in PLANT_TARGETS}
        known: dict[str, Readings] = {target: batch for target, batch in made.items() if batch is not None}
        if task.known is not None and not drifted(task.known, _newest(known)):
            return None
        return fit(self._topology, {**known, EACH_GPU: self._each_gpu(task.now, series.reader)})

    def _each_gpu(self, now: datetime, reader: HistoryReader) -> Iterator[pl.DataFrame]:
        """Yield the temperatures of single GPUs, a day at a time."""
        at = now - min(EACH_WINDOW, self._window)
        while at < now:
            until = min(at + timedelta(days=1), now)
            frame = reader.series(EACH_GPU, as_of=now, since=at, until=until, step_s=LONG_STEP_S)
            if not frame.is_empty():
                yield frame
            at = until

    def _maxima(self, now: datetime, series: SeriesWindow) -> RowLaws | None:
        """None where no row's power has been measured in the last two days."""
        batch = series.batch("power", FINE_STEP_S, MAXIMA_WINDOW, now)
        if batch is None:
            return None
        hardware = {row.name: "" for row in self._topology.rows} | {s.row: s.hardware for s in self._topology.servers}
        classes = [hardware.get(name, "") for name in batch.names]
        return RowLaws(
            maxima=learn_maxima(batch.values, int(batch.ts[-1]), classes=classes, step_s=FINE_STEP_S), rows=batch.names
        )


def _newest(known: Mapping[str, Readings]) -> dict[str, Readings]:
    """Return the last day of what is known."""
    steps = int(DRIFT_WINDOW.total_seconds()) // LONG_STEP_S
    return {target: recent(batch, steps) for target, batch in known.items() if isinstance(batch, Batch)}


def without_paths(learnt: State) -> State:
    """Return the state without what each tick makes anew: it need not travel to the worker."""
    return replace(learnt, classes={name: replace(klass, coarse=None) for name, klass in learnt.classes.items()})


def with_paths_of(learnt: State, kept: State) -> State:
    """Return the state with what the ticks made under the former one: what was said before a refit is compared after it."""
    made = {name: klass.coarse for name, klass in kept.classes.items()}
    return replace(learnt, classes={name: replace(klass, coarse=made.get(name)) for name, klass in learnt.classes.items()})
