"""`coldaisle forecaster`: the scheduled jobs: from the history to the topic `forecasts`, and the learnt plant to `state`.

A process of its own: a fit takes seconds of CPU, and the guard in `control` must answer within half a second.
"""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from coldaisle.clock import AnyClock
from coldaisle.opened import await_caught_up, open_history
from coldaisle.part import Part
from coldaisle.series_cache import SeriesCache
from coldaisle.settings import Config, ForecastSettings
from coldaisle.site import PLANT, State, publish_state, wait_for_topology
from contracts.forecasts import Block
from contracts.ports import Batch, Bus, Clock, HistoryReader
from contracts.topology import Topology
from control.forecasts import frames_of
from forecast import produce
from forecast.plant import Plant, fit
from forecast.state import GPU_POWER, TARGETS
from forecast.state import State as Learnt
from ingest.publisher import Publisher

LONG_STEP_S, SHORT_STEP_S = 300, 60
SHORT_WINDOW = timedelta(hours=3)
TICK_WINDOW = timedelta(days=8)
PLANT_TARGETS = ("inlet", "outside", "gpu_temp", "gpu_power", "server_power", "airflow")
PLANT_EVERY_S = 7 * 86_400.0
"""TAPAS refreshes its models weekly"""
NICE = 10


class Service:
    """The jobs of one site. `tick` and the fits run in threads of their own; they share `learnt` under a lock."""

    def __init__(self, reader: HistoryReader, bus: Bus, clock: Clock, topology: Topology, settings: ForecastSettings) -> None:
        """Nothing is learnt yet: call `refit` first."""
        self.settings, self.clock, self.topology, self.bus = settings, clock, topology, bus
        self.publisher = Publisher(bus, clock, "forecaster")
        self.plant: Plant | None = None
        self.learnt = Learnt()
        self._reader = reader
        self._ticks = SeriesCache(reader)
        self._fits = SeriesCache(reader)
        self._lock = threading.Lock()
        self._seq = itertools.count()
        self._limits = {row.name: row.power_limit_w for row in topology.rows}

    def begin(self) -> None:
        """Learn what policies cannot do without, plant and row power, and issue the first forecasts of it."""
        self.refit_plant()
        self._learn(produce.refit, ("power",))
        self.tick()

    def refit(self) -> None:
        """Learn the hourly models anew on the whole history window."""
        self._learn(produce.refit)

    def refit_daily(self) -> None:
        """Fit Prophet's calendar anew."""
        self._learn(produce.refit_daily)

    def refit_plant(self) -> None:
        """Learn the plant models anew and publish them for the policies."""
        now = self.clock.now()
        since = now - self._window()
        frames = {target: self._reader.series(target, as_of=now, since=since, step_s=LONG_STEP_S) for target in PLANT_TARGETS}
        self.plant = fit(self.topology, frames)
        publish_state(self.bus, PLANT, self.plant.to_json(), self.clock)

    def tick(self) -> None:
        """Issue forecasts from what is known now."""
        now = self.clock.now()
        known = tuple(target for target in (*TARGETS, GPU_POWER) if target in self.learnt.classes)
        long = self._batches(self._ticks, known, LONG_STEP_S, min(TICK_WINDOW, self._window()), now)
        short = self._batches(self._ticks, (*known, "gpu_temp"), SHORT_STEP_S, SHORT_WINDOW, now)
        with self._lock:
            blocks, self.learnt = produce.tick(self.learnt, long, short, self.plant, self._limits, now, next(self._seq))
        self.publish(blocks)

    def publish(self, blocks: Sequence[Block]) -> None:
        """Publish forecasts as rows of the topic `forecasts`."""
        for block in blocks:
            for frame in frames_of(block):
                self.publisher.frame("forecasts", "forecaster", frame)

    def _learn(
        self, learn: Callable[[Learnt, Sequence[Batch], datetime], Learnt], targets: Sequence[str] = (*TARGETS, GPU_POWER)
    ) -> None:
        """Learn beside the ticks and take over only what was learnt: a tick in between keeps its own memory."""
        now = self.clock.now()
        batches = self._batches(self._fits, targets, LONG_STEP_S, self._window(), now)
        learnt = learn(self.learnt, batches, now)
        with self._lock:
            self.learnt = replace(learnt, path_at=self.learnt.path_at)

    def _batches(
        self, cache: SeriesCache, targets: Sequence[str], step_s: int, window: timedelta, now: datetime
    ) -> list[Batch]:
        made = [cache.batch(target, step_s, window, now) for target in targets]
        return [batch for batch in made if batch is not None]

    def _window(self) -> timedelta:
        return timedelta(days=self.settings.history_days)


def schedule(service: Service, settings: ForecastSettings, speed: float, part: Part) -> BackgroundScheduler:
    """Return the started scheduler: ticks in one thread, fits in another; late runs are coalesced, never piled up."""
    scheduler = BackgroundScheduler(
        executors={"tick": ThreadPoolExecutor(1), "fit": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )

    def every(job: Callable[[], None], period_s: float, executor: str) -> None:
        scheduler.add_job(job, "interval", seconds=period_s / speed, executor=executor, id=job.__name__)

    every(service.tick, settings.tick_s, "tick")
    every(service.refit, settings.refit_s, "fit")
    every(service.refit_daily, settings.daily_s, "fit")
    every(service.refit_plant, PLANT_EVERY_S, "fit")
    scheduler.add_job(service.refit_daily, executor="fit", id="first calendar")  # at once, beside the first ticks

    def failed(event: JobExecutionEvent) -> None:
        part.log.error("job %s failed: %s", event.job_id, event.exception)

    scheduler.add_listener(failed, EVENT_JOB_ERROR)
    scheduler.start()
    return scheduler


def main(config: Config, part: Part, bus: Bus, clock: AnyClock) -> None:
    """Run the jobs until stopped; ready as soon as the policies have a plant. Fits give way to the loop and the history."""
    os.nice(NICE)
    import statsmodels.tsa.ar_model  # noqa: F401  (seconds, better spent while others start than in the first fit)

    state = State(bus)
    topology = wait_for_topology(state, part)
    state.close()
    history = open_history(config, part)
    await_caught_up(history, bus, part)
    service = Service(history, bus, clock, topology, config.forecasts)
    service.begin()
    part.ready()
    service.refit()
    service.tick()
    part.log.info("learnt; the jobs run")
    scheduler = schedule(service, config.forecasts, clock.speed, part)
    part.stop.wait()
    scheduler.pause()  # a job that runs may end; no other begins
    scheduler.shutdown(wait=True)
    bus.flush(2.0)
