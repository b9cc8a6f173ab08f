"""The one settings object: read once from a TOML file, handed down in parts. No other file reads the environment."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from coldaisle.clock import AnyClock, RunClock, WallClock
from coldaisle.explain import read_toml
from contracts.control import Mode
from contracts.errors import ConfigError
from ingest.bus import BusSettings

Seconds = Annotated[float, msgspec.Meta(gt=0)]
ALL_POLICIES = ("caps", "thermal", "routing", "emergency", "alerts")


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run whose time is not the wall's (a twin's): starts at `t0` and runs `speed` times faster."""

    t0: datetime
    speed: Seconds = 1.0


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The loop: what decides, how often, and how far it may go."""

    tick_s: Seconds = 5.0
    """run time between two rounds of the policies"""
    policies: tuple[str, ...] = ALL_POLICIES
    mode: Mode = "advise"
    """of every policy that `modes` does not name"""
    modes: dict[str, Mode] = {}
    guard: bool = True
    """POLCA's thresholds on measured power"""
    settings: dict[str, dict[str, Any]] = {}
    """policy (or guard, arbiter, plan) -> its own settings"""


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The forecast jobs; periods in run time."""

    tick_s: Seconds = 60.0
    refit_s: Seconds = 3600.0
    daily_s: Seconds = 86_400.0
    history_days: Annotated[float, msgspec.Meta(gt=0, le=366)] = 28.0
    tick_budget_s: Seconds = 20.0
    """wall time that a tick may take; one that takes longer is recorded as over budget"""
    refit_budget_s: Seconds = 600.0
    """wall time of the hourly refit, and of the maxima's; over it, it is ended and what was learnt before stands"""
    daily_budget_s: Seconds = 3600.0
    plant_budget_s: Seconds = 600.0
    events: Path | None = None
    """TOML file with announced events and maintenance, read again when it changes"""


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent: for whom it obeys, with what, within which bounds."""

    nodes: tuple[str, ...] = ()
    actuators: tuple[dict[str, Any], ...] = ()
    """each {type = NAME, ...its settings}; none = dry run"""
    node_file: Path | None = None
    """the node's own file: which GPUs are opted in, and their bounds"""


class TwinSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A twin in place of a datacenter."""

    scenario: str = "demo"
    seed: int = 7
    past_days: float = 28.0
    exporters: dict[str, Any] = {}
    """periods of its instruments, see twin.exporters.ExporterSettings"""
    overrides: dict[str, Any] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything. Only `kafka` and `state` are needed by every part."""

    state: Path
    """folder for all that is written"""
    kafka: BusSettings
    data: Path | None = None
    """reference data, read only"""
    run: RunSettings | None = None
    """absent = wall time"""
    topology: Path | None = None
    """TOML file; a twin brings its own"""
    key_file: Path | None = None
    """key that signs actions (0600); absent = `state/actions.key`, made at first use"""
    exporters: tuple[dict[str, Any], ...] = ()
    """each {type = NAME, ...its settings}"""
    history: dict[str, Any] = {}
    control: ControlSettings = ControlSettings()
    forecasts: ForecastSettings = ForecastSettings()
    agent: AgentSettings = AgentSettings()
    dashboard: dict[str, Any] = {}
    twin: TwinSettings | None = None
    parts: tuple[str, ...] = ("history", "control", "forecaster", "dashboard", "exporter", "agent")
    """what `coldaisle up` starts"""

    def key(self) -> Path:
        """The file with the key that signs actions."""
        return self.key_file or self.state / "actions.key"


def read(file: Path) -> Config:
    """Return the settings in `file`, with COLDAISLE_KAFKA, COLDAISLE_STATE and COLDAISLE_DATA in the place of theirs.

    ConfigError names file, key, value and what is allowed.
    """
    config = read_toml(file, Config)
    if kafka := os.environ.get("COLDAISLE_KAFKA"):
        bus = msgspec.structs.replace(config.kafka, bootstrap=kafka, fetch_waits=True)
        config = msgspec.structs.replace(config, kafka=bus)
    if state := os.environ.get("COLDAISLE_STATE"):
        config = msgspec.structs.replace(config, state=Path(state))
    if (data := os.environ.get("COLDAISLE_DATA")) and config.data is None:
        config = msgspec.structs.replace(config, data=Path(data))
    if config.data is not None:
        config = msgspec.structs.replace(config, data=data_folder(config.data))
    return config


def data_folder(given: Path) -> Path:
    """Return the folder with the reference data: `given`, or its `data` where the tables lie in there."""
    inner = given / "data"
    return inner if not any(given.glob("*.parquet")) and any(inner.glob("*.parquet")) else given


def clock_of(config: Config) -> AnyClock:
    """Return the run's clock."""
    if config.run is None:
        return WallClock()
    if config.run.t0.tzinfo is None:
        raise ConfigError(f"run.t0 = {config.run.t0}: needs an offset, e.g. 2026-07-15T14:00:00Z")
    return RunClock(config.run.t0, config.run.speed, config.state / "run" / "clock.json")
