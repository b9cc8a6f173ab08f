"""The process beside the ticks: learns what takes seconds or minutes, one task at a time, each within its time budget.

By spawn, since polars and fork do not agree. A task that outlives its budget is ended with the process; the next one begins in
a new process. When the parent dies, so does the worker, whatever it is doing.
"""

import multiprocessing
import os
import pickle
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from contracts.errors import ColdaisleError

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
NICE = 5
"""on top of the parent's"""

Body = Callable[[Any], Any]
"""takes a task, returns its result; both picklable"""


class OverBudgetError(ColdaisleError):
    """A task took longer than it may."""


class StoppedError(ColdaisleError):
    """The worker was closed."""


class TaskFailedError(ColdaisleError):
    """A task ended with an error; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task gave, and what it cost."""

    result: Any
    took_s: float
    cpu_s: float


class Worker:
    """One process that does tasks. Used by one thread at a time; `close` by any."""

    def __init__(self, setup: Callable[..., Body], *given: Any) -> None:
        """`setup(*given)` is called in the process and returns what does the tasks; both must be importable and picklable."""
        self._setup, self._given = setup, given
        self._context = multiprocessing.get_context("spawn")
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def start(self) -> None:
        """Begin the process, so that it is ready when the first task comes; without effect where one runs."""
        if self._closed or (self._process is not None and self._process.is_alive()):
            return
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._setup, self._given), name="forecast worker", daemon=True
        )
        kept = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(THREADS)
        try:
            self._process.start()
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()

    def run(self, task: Any, budget_s: float) -> Done:
        """Do a task and wait for its result.

        Raises OverBudgetError and TaskFailedError, after which it can be used again, and StoppedError once it is closed.
        """
        self.start()
        if self._pipe is None or self._process is None:
            raise StoppedError("the worker is closed")
        began = time.monotonic()
        try:
            self._pipe.send_bytes(pickle.dumps(task, protocol=5))
            ready = wait([self._pipe, self._process.sentinel], timeout=budget_s)
            if self._pipe in ready:
                failed, result, cpu_s = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from our own child
            elif ready:
                raise EOFError
            else:
                self._end()
                raise OverBudgetError(f"not done after {budget_s:.0f} s: ended")
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self._end()
            if self._closed:
                raise StoppedError("the worker was closed") from None
            raise TaskFailedError(f"the worker died (exit status {code})") from None
        if failed:
            raise TaskFailedError(result)
        return Done(result=result, took_s=time.monotonic() - began, cpu_s=cpu_s)

    def close(self) -> None:
        """End the process, busy or not; safe to call twice."""
        self._closed = True
        self._end()

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.join()
        if self._pipe is not None:
            self._pipe.close()
        return process.exitcode


def _serve(pipe: Connection, setup: Callable[..., Body], given: tuple[Any, ...]) -> None:
    """Do tasks until the parent is gone."""
    os.nice(NICE)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    body: Body | None = None
    while True:
        try:
            task = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from our own parent
        except EOFError:
            return
        before = _cpu_s()
        try:
            body = body or setup(*given)
            answer: tuple[bool, Any] = (False, body(task))
        except Exception as error:  # noqa: BLE001 - the border of a task: its error is the parent's to tell
            answer = (True, f"{type(error).__name__}: {error}")
        pipe.send_bytes(pickle.dumps((*answer, _cpu_s() - before), protocol=5))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
