"""Starts the processes of `up` and `demo`, waits until they are ready, restarts what dies, stops them in order."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from contracts.errors import ColdaisleError

RESTARTS = 5
"""within RESTART_WINDOW_S, then the whole run stops"""
RESTART_WINDOW_S = 120.0
STOP_S = 10.0


@dataclass
class Child:
    """One process and its history of starts (monotonic seconds)."""

    name: str
    process: subprocess.Popen[bytes]
    starts: list[float] = field(default_factory=list)


class Supervisor:
    """The processes of one run; each logs to `state/logs/NAME.log`."""

    def __init__(self, config: Path, state: Path) -> None:
        """`config` is handed to every process."""
        self.config, self.state = config, state
        self.children: dict[str, Child] = {}
        self.restarts = 0
        (state / "logs").mkdir(parents=True, exist_ok=True)
        (state / "run").mkdir(parents=True, exist_ok=True)

    def start(self, *names: str) -> None:
        """Start the named parts; returns at once."""
        for name in names:
            self.children[name] = Child(name, self._spawn(name), [time.monotonic()])

    def wait_ready(self, *names: str, timeout_s: float = 150.0) -> None:
        """Wait until the named parts are ready. ColdaisleError names the first that is not, with the end of its log."""
        deadline = time.monotonic() + timeout_s
        waiting = list(names)
        while waiting:
            waiting = [n for n in waiting if not (self.state / "run" / f"{n}.ready").exists()]
            for name in waiting:
                if self.children[name].process.poll() is not None:
                    raise ColdaisleError(f"{name} ended at its start: {self.last_line(name)}")
                if time.monotonic() > deadline:
                    raise ColdaisleError(f"{name} was not ready within {timeout_s:.0f} s: {self.last_line(name)}")
            time.sleep(0.05)

    def check(self) -> list[str]:
        """Restart what has died; return lines about it. ColdaisleError when a part dies again and again."""
        lines = []
        for child in self.children.values():
            status = child.process.poll()
            if status is None:
                continue
            now = time.monotonic()
            child.starts = [t for t in child.starts if now - t < RESTART_WINDOW_S]
            if len(child.starts) >= RESTARTS:
                raise ColdaisleError(
                    f"{child.name} died {len(child.starts)} times in {RESTART_WINDOW_S:.0f} s: {self.last_line(child.name)}"
                )
            lines.append(f"{child.name} ended with status {status} ({self.last_line(child.name)}); started again")
            child.process = self._spawn(child.name)
            child.starts.append(now)
            self.restarts += 1
        return lines

    def stop(self, *names: str) -> None:
        """Ask the named parts (all when none is named) to end, together, and wait; what does not end is killed."""
        chosen = [self.children.pop(name) for name in (names or tuple(self.children)) if name in self.children]
        for child in chosen:
            child.process.terminate()
        deadline = time.monotonic() + STOP_S
        for child in chosen:
            try:
                child.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def last_line(self, name: str) -> str:
        """The last line of a part's log."""
        log = self.state / "logs" / f"{name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1] if lines else f"no log in {log}"

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        (self.state / "run" / f"{name}.ready").unlink(missing_ok=True)
        with (self.state / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "coldaisle", name, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal reaches us alone; we stop them in order
            )
