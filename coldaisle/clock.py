"""The run's clock: the wall's, or one that starts at a given time and runs faster (a twin's)."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from contracts.errors import ConfigError


class WallClock:
    """Run time is wall time."""

    speed = 1.0

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def wall(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def to_run(self, wall: datetime) -> datetime:
        """The same."""
        return wall

    def started(self) -> bool:
        """The wall's clock always runs."""
        return True

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """When a run's clock was started, as all its processes read it."""

    t0: datetime
    t0_wall: datetime
    speed: float


class RunClock:
    """Run time = t0 + speed x wall time since the start; before the start it stands still at t0.

    All processes of a run share `file`, which `start` writes once.
    """

    def __init__(self, t0: datetime, speed: float, file: Path) -> None:
        """`t0` aware UTC."""
        if speed <= 0:
            raise ConfigError(f"run.speed = {speed}: must be above 0")
        self.t0, self.speed, self.file = t0, speed, file
        self._t0_wall: datetime | None = None

    def start(self) -> None:
        """Start the run now, for all processes that share the file."""
        started = Started(t0=self.t0, t0_wall=datetime.now(UTC), speed=self.speed)
        part = self.file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(started))
        part.rename(self.file)

    def started(self) -> bool:
        """True once `start` was called by any process."""
        if self._t0_wall is None and self.file.exists():
            self._t0_wall = msgspec.json.decode(self.file.read_bytes(), type=Started).t0_wall
        return self._t0_wall is not None

    def now(self) -> datetime:
        """Aware UTC, run time."""
        return self.to_run(datetime.now(UTC))

    def wall(self) -> datetime:
        """Aware UTC, wall time."""
        return datetime.now(UTC)

    def to_run(self, wall: datetime) -> datetime:
        """Run time at a wall time."""
        if not self.started() or self._t0_wall is None:
            return self.t0
        elapsed_s = max(0.0, (wall - self._t0_wall).total_seconds())
        return self.t0 + timedelta(seconds=elapsed_s * self.speed)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds` of run time."""
        time.sleep(max(0.0, seconds / self.speed))


AnyClock = WallClock | RunClock
