"""A backtest on all cores: tasks of `forecast.backtest` in worker processes, which read the table from one file they share.

Also one worker is a process of its own: whatever the number, every task runs with one thread of arithmetic, and the figures are
the same to the bit.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from contracts.errors import ColdaisleError
from contracts.ports import Batch
from contracts.registry import FORECASTERS, installed, load
from forecast.backtest import Result, join
from forecast.backtest_tasks import Part, Plan, Task, run

TASKS_EACH = 4
"""a plan with fewer tasks than this per worker is dealt finer, so that none waits long for the last"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_batch: Batch | None = None
"""in a worker: the table of its tasks"""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def named(models: str | None) -> tuple[str, ...]:
    """Return the models of a comma-separated list, or all that can run here. ConfigError names one that does not exist."""
    if models is None:
        return installed(FORECASTERS)
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    for name in names:
        load(FORECASTERS, name)
    return names


def split_for(days: int, workers: int, models: int) -> int:
    """Return to how many tasks the models of a day are dealt, so that `days` days keep `workers` busy."""
    return max(1, min(models, -(-TASKS_EACH * workers // max(days, 1)))) if workers > 1 else 1


def backtested(plan: Plan, workers: int, console: Console) -> Result:
    """Do the plan's tasks in `workers` processes and join them; shows how far it is. When it ends, however, no process is left.

    Raises ColdaisleError when a worker dies.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    parts: list[Part] = []
    with (
        tempfile.TemporaryDirectory(prefix="coldaisle-backtest-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        _pool(plan, min(workers, len(plan.tasks)), Path(folder)) as pool,
    ):
        task = progress.add_task("days x models", total=len(plan.tasks))
        with _ctrl_c_later():
            waiting: list[Future[Part]] = [pool.submit(_run, one) for one in plan.tasks]
        try:
            for done in as_completed(waiting):
                parts.append(done.result())
                progress.advance(task)
        except BrokenProcessPool:
            raise ColdaisleError("a worker died (out of memory?): try fewer --workers, or fewer series") from None
        progress.update(task, description="scores")
        return join(plan, parts)


@contextmanager
def _pool(plan: Plan, workers: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned workers (polars' threads do not survive a fork) that is gone afterwards, also after Ctrl-C."""
    file = folder / "values.npy"
    np.save(file, plan.table.batch.values)
    bare = replace(plan.table.batch, values=np.empty((0, 0)))
    before = set(multiprocessing.active_children())
    with _single_threaded():
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, spawn, initializer=_begin, initargs=(bare, str(file)))
        try:
            yield pool
        except BaseException:
            for child in multiprocessing.active_children():
                if child not in before:
                    child.terminate()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes that start now compute with one thread each: they are many, and sums must not depend on their number."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back while workers are started: half a start leaves half a worker.

    They inherit that the signal is blocked, and so leave the answer to their parent for good. The handler is needed beside it,
    since any thread may get the signal.
    """
    came: list[int] = []
    answer = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, answer)
    if came:
        raise KeyboardInterrupt


def _begin(bare: Batch, file: str) -> None:
    """Begin a worker: it reads the table, and ends when its parent has died."""
    global _batch
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlived, args=(parent,), daemon=True).start()
    _batch = replace(bare, values=np.load(file, mmap_mode="r"))


def _outlived(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _run(task: Task) -> Part:
    if _batch is None:
        raise RuntimeError("a task ran before its worker had begun")
    return run(task, _batch)
