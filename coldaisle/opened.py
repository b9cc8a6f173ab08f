"""The history of this run: as soon as its owner answers, and as soon as it holds what is on the log."""

import time

from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.errors import HistoryError
from contracts.ports import Bus, HistoryReader, Start
from contracts.topics import TELEMETRY
from ingest.history.client import HttpHistory, find_owner

HISTORY_WAIT_S = 150.0
AWAITED = (*TELEMETRY, "forecasts")


def open_history(config: Config, part: Part) -> HttpHistory:
    """Return the history of this run's state folder as soon as its owner answers; HistoryError when it does not in time."""
    deadline = time.monotonic() + HISTORY_WAIT_S
    while True:
        try:
            return HttpHistory(*find_owner(config.state))
        except HistoryError:
            if time.monotonic() > deadline or part.stop.wait(0.1):
                raise


def await_caught_up(history: HistoryReader, bus: Bus, part: Part, timeout_s: float = HISTORY_WAIT_S) -> None:
    """Wait until the history holds the telemetry and forecasts that are on the log now: a fit before would miss most of the
    past, and a slot might be issued twice.

    After `timeout_s` it goes on with what there is; the next refit sees the rest.
    """
    offsets = _offsets(history)
    subscription = bus.subscribe(AWAITED, Start(where="beginning", offsets=offsets))
    goal = sum(offsets.values()) + subscription.lag()
    subscription.close()
    deadline = time.monotonic() + timeout_s
    while sum(_offsets(history).values()) < goal:
        if time.monotonic() > deadline:
            part.log.warning("the history lags behind the log: fitting with what it holds")
            return
        if part.stop.wait(0.25):
            return


def _offsets(history: HistoryReader) -> dict[tuple[str, int], int]:
    rows = history.query("SELECT topic, k_partition, next_offset FROM offsets").iter_rows()
    return {(topic, partition): after for topic, partition, after in rows if topic in AWAITED}
