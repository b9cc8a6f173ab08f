from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coldaisle.clock import RunClock, WallClock
from contracts.errors import ConfigError

T0 = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)


def test_run_time_stands_still_before_the_start_and_then_runs_faster(tmp_path: Path) -> None:
    clock = RunClock(T0, 30.0, tmp_path / "clock.json")
    assert not clock.started()
    assert clock.now() == T0
    clock.start()
    assert clock.to_run(clock.wall() + timedelta(seconds=10)) - T0 >= timedelta(seconds=300)
    assert clock.to_run(clock.wall() - timedelta(hours=1)) == T0


def test_all_processes_of_a_run_share_the_start(tmp_path: Path) -> None:
    mine, yours = (RunClock(T0, 30.0, tmp_path / "clock.json") for _ in range(2))
    mine.start()
    wall = mine.wall()
    assert yours.to_run(wall) == mine.to_run(wall)


def test_a_speed_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.speed = 0.0: must be above 0"):
        RunClock(T0, 0.0, tmp_path / "clock.json")


def test_live_run_time_is_wall_time() -> None:
    clock = WallClock()
    assert clock.to_run(T0) == T0
    assert abs(clock.now() - clock.wall()) < timedelta(seconds=5)
