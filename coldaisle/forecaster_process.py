"""`coldaisle forecaster`: the scheduled jobs: from the history to the topic `forecasts`, and the learnt plant to `state`.

A process of its own, and for what takes seconds a further one: neither may delay the guard in `control`, nor a fit a tick.
"""

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from coldaisle import forecast_learning
from coldaisle.clock import AnyClock
from coldaisle.forecast_service import Service
from coldaisle.forecast_worker import Worker
from coldaisle.opened import await_caught_up, open_history
from coldaisle.part import Part
from coldaisle.settings import Config, ForecastSettings
from coldaisle.site import State, wait_for_topology
from contracts.ports import Bus
from forecast.drift import Alarm

NICE = 10
ARRIVES_S = 2.0
"""run time after the end of a slot by which its telemetry has usually arrived"""
PLANT_EVERY_S = 7 * 86_400.0
"""TAPAS refreshes its models weekly"""


class Slots(BaseTrigger):  # type: ignore[misc]
    """Fires once per slot of the run's clock, shortly after its begin; one that was missed is not made up for."""

    def __init__(self, clock: AnyClock, slot_s: float) -> None:
        """`slot_s`: run time."""
        self._clock, self._slot_s = clock, slot_s

    def __str__(self) -> str:
        """Return what it is, for the scheduler's log."""
        return f"each {self._slot_s:g} s of the run"

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return the wall time of the next slot, by the clock's present speed."""
        run_s = self._clock.now().timestamp() - min(ARRIVES_S, self._slot_s / 2)
        wait_s = (run_s // self._slot_s + 1) * self._slot_s - run_s
        return now + timedelta(seconds=max(wait_s / self._clock.speed, 0.01))


def schedule(service: Service, settings: ForecastSettings, clock: AnyClock, part: Part) -> BackgroundScheduler:
    """Return the started scheduler: ticks in one thread, learning in another; late runs are coalesced, never piled up.

    A job that ran before a restart is due when its period is over (`after`: another that counts for it); those that never ran
    are due at once, in this order.
    """
    scheduler = BackgroundScheduler(
        executors={"tick": ThreadPoolExecutor(1), "fit": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )

    def every(name: str, job: Callable[[], None], period_s: float, after: str = "") -> None:
        done, now = service.memory.done.get(name, service.memory.done.get(after)), clock.now()
        left_s = 0.0 if done is None else max(0.0, period_s - (now - done).total_seconds())
        first = clock.wall() + timedelta(seconds=left_s / clock.speed, milliseconds=100 * len(scheduler.get_jobs()))
        scheduler.add_job(job, "interval", seconds=period_s / clock.speed, next_run_time=first, executor="fit", id=name)

    scheduler.add_job(service.tick, Slots(clock, settings.tick_s), executor="tick", id="tick")
    every("refit", service.refit, settings.refit_s)
    every("maxima", service.refit_maxima, settings.refit_s)
    every("daily", service.refit_daily, settings.daily_s)
    every("plant", service.refit_plant, PLANT_EVERY_S)
    every("plant check", service.check_plant, settings.daily_s, after="plant")

    def drifted(alarms: Sequence[Alarm]) -> None:
        for alarm in alarms:
            what, minutes = f"{alarm.target} {alarm.kind}", (alarm.at_s - alarm.since_s) / 60
            part.log.warning("errors of %s have been %.1f times the usual for %.0f min", what, alarm.size, minutes)
        again = {"executor": "fit", "replace_existing": True}
        scheduler.add_job(service.refit, kwargs={"all_anew": True}, id="refit on drift", **again)
        scheduler.add_job(service.check_plant, id="plant on drift", **again)

    service.on_drift = drifted

    def failed(event: JobExecutionEvent) -> None:
        part.log.error("job %s failed: %s", event.job_id, event.exception)

    scheduler.add_listener(failed, EVENT_JOB_ERROR)
    scheduler.start()
    return scheduler


def main(config: Config, part: Part, bus: Bus, clock: AnyClock) -> None:
    """Run the jobs until stopped; ready as soon as the policies have a plant. Fits give way to the loop and the history."""
    os.nice(NICE)
    state = State(bus)
    topology = wait_for_topology(state, part)
    state.close()
    worker = Worker(forecast_learning.setup, config.state, topology, config.forecasts.history_days)
    worker.start()  # it imports while the history catches up
    try:
        history = open_history(config, part)
        await_caught_up(history, bus, part)
        service = Service(history, bus, clock, topology, config.forecasts, worker, config.state / "forecaster")
        if why_not := service.recall():
            part.log.info("%s", why_not)
            service.begin()
        part.ready()
        scheduler = schedule(service, config.forecasts, clock, part)
        part.stop.wait()
        scheduler.pause()  # a tick that runs may end; no other job begins
    finally:
        worker.close()
    scheduler.shutdown(wait=True)
    bus.flush(2.0)
