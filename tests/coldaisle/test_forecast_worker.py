"""The worker: tasks go on after one that failed, hung or died; it never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coldaisle.forecast_worker import Body, OverBudgetError, StoppedError, TaskFailedError, Worker


def setup(factor: int) -> Body:
    """What runs in the process."""

    def body(task: Any) -> Any:
        match task:
            case "pid":
                return os.getpid()
            case "hang":
                time.sleep(600)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "threads":
                return os.environ["OMP_NUM_THREADS"]
            case int():
                return factor * task
        raise ValueError(f"no such task: {task}")

    return body


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(setup, 3)
    yield made
    made.close()


def test_tasks_run_in_one_other_process_with_one_thread_each(worker: Worker) -> None:
    before = dict(os.environ)
    assert [worker.run(task, 60).result for task in (1, 2)] == [3, 6]
    pids = {worker.run("pid", 60).result for _ in range(2)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert dict(os.environ) == before
    assert worker.run("threads", 60).result == "1"


def test_a_task_that_fails_says_why_and_the_next_runs(worker: Worker) -> None:
    with pytest.raises(TaskFailedError, match="ValueError: no such task: nonsense"):
        worker.run("nonsense", 60)
    assert worker.run(5, 60).result == 15


def test_a_task_over_its_budget_is_ended_and_the_next_runs(worker: Worker) -> None:
    first = worker.run("pid", 60).result
    with pytest.raises(OverBudgetError, match="not done after 0 s"):
        worker.run("hang", 0.3)
    assert worker.run("pid", 60).result != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_worker_that_dies_is_replaced(worker: Worker) -> None:
    with pytest.raises(TaskFailedError, match="exit status -9"):
        worker.run("die", 60)
    assert worker.run(7, 60).result == 21


def test_closed_it_does_nothing_more(worker: Worker) -> None:
    assert worker.run(1, 60).result == 3
    worker.close()
    worker.close()
    with pytest.raises(StoppedError, match="closed"):
        worker.run(1, 60)


PARENT = """
import sys, time
from coldaisle.forecast_worker import Worker
from tests.coldaisle.test_forecast_worker import setup
if __name__ == "__main__":
    worker = Worker(setup, 3)
    print(worker.run("pid", 60).result, flush=True)
    worker.run("hang", 600)
"""


def test_it_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()
