"""What every process has in common: a stop signal, a log, a sign that it is ready, one-line errors."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from contracts.errors import ColdaisleError


class Part:
    """One running process of a system: `stop` is set by SIGTERM or SIGINT."""

    def __init__(self, name: str, state: Path) -> None:
        """`state` is the folder in which it may write."""
        self.name, self.state = name, state
        self.stop = threading.Event()
        self.log = logging.getLogger(f"coldaisle.{name}")

    def ready(self) -> None:
        """Say that it does its work now."""
        self.note(f"{self.name}.ready", str(os.getpid()))
        self.log.info("ready")

    def note(self, name: str, text: str) -> None:
        """Leave a short text for the other processes of the run, whole or not at all."""
        folder = self.state / "run"
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        part.write_text(text)
        part.rename(folder / name)

    def guard(self, body: "threading.Thread") -> None:
        """Stop the whole part when a thread of it has died."""
        if not body.is_alive() and not self.stop.is_set():
            raise ColdaisleError(f"{self.name}: {body.name} died; see the log")


@contextmanager
def running(name: str, state: Path) -> Iterator[Part]:
    """Set up signals and logging for a process; on leaving, it is no longer ready."""
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname).1s {name}: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the bus says in one line what is wrong with the broker
    for chatty in ("httpx", "apscheduler", "cmdstanpy", "prophet"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    part = Part(name, state)

    def end(_signal: int, _frame: FrameType | None) -> None:
        part.stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        yield part
    finally:
        (state / "run" / f"{name}.ready").unlink(missing_ok=True)
