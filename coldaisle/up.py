"""`coldaisle up`: the parts of a config on this machine, restarted when they die, until Ctrl-C or SIGTERM."""

import signal
import threading
from pathlib import Path
from types import FrameType

from rich.console import Console

from coldaisle import settings
from coldaisle.supervisor import Supervisor


def run(file: Path) -> None:
    """Start every part that the config names and stay until told to stop."""
    config = settings.read(file)
    console = Console(stderr=True)
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    supervisor = Supervisor(file, config.state)
    try:
        supervisor.start(*config.parts)
        supervisor.wait_ready(*config.parts)
        console.print(f"{', '.join(config.parts)} run; logs in {config.state / 'logs'}")
        while not stop.wait(0.5):
            for line in supervisor.check():
                console.print(f"[yellow]{line}")
    finally:
        supervisor.stop(*(name for name in config.parts if name != "history"))
        supervisor.stop()
