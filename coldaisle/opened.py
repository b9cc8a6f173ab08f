"""The history of this run, as soon as its owner answers."""

import time

from coldaisle.part import Part
from coldaisle.settings import Config
from contracts.errors import HistoryError
from ingest.history.client import HttpHistory, find_owner

HISTORY_WAIT_S = 150.0


def open_history(config: Config, part: Part) -> HttpHistory:
    """Return the history of this run's state folder as soon as its owner answers; HistoryError when it does not in time."""
    deadline = time.monotonic() + HISTORY_WAIT_S
    while True:
        try:
            return HttpHistory(*find_owner(config.state))
        except HistoryError:
            if time.monotonic() > deadline or part.stop.wait(0.1):
                raise
