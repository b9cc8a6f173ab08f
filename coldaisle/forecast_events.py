"""The file of announced events, read again whenever it changes; a bad one is named and the last good one stands."""

import logging
from pathlib import Path

from contracts.errors import InputError
from forecast.futures import Event, events_of

LOG = logging.getLogger("coldaisle.forecaster")


class Announced:
    """The events that stand in a TOML file (see `forecast.futures`)."""

    def __init__(self, file: Path | None) -> None:
        """None = no events at all."""
        self._file = file
        self._seen: tuple[int, int] | None = None
        self._events: tuple[Event, ...] = ()

    def now(self) -> tuple[Event, ...]:
        """Return the events as they stand in the file now."""
        if self._file is None:
            return ()
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._seen = seen
                self._events = events_of(self._file.read_text())
        except (OSError, InputError, UnicodeDecodeError) as error:
            LOG.error("%s: %s; the events known before stand", self._file, error)
        return self._events
