"""What a run is: the site, its tenants, its load and what fails when. Read from TOML, frozen."""

from datetime import datetime
from math import inf
from pathlib import Path
from typing import Annotated, Any

import msgspec

from contracts.errors import ConfigError
from twin import services as serve
from twin import tomlfile
from twin.events import KINDS, AhuLost, Events, UpsLost
from twin.services import Quantisation, Service

FOLDER = Path(__file__).parent / "scenarios"

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
AtLeastZero = Annotated[float, msgspec.Meta(ge=0)]
_FILES = ("hardware", "topology", "calibration", "recorded_requests", "recorded_power", "recorded_outside")
"""keys whose values may be paths"""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site and its hour. Seconds are run time from `start`; `inf` = never."""

    name: str
    start: datetime
    """aware; the run's first moment"""
    start_at_peak: bool = True
    """shift the day's curve so that `start` is its highest hour"""

    hardware: str | tuple[str, ...] = "h100"
    """profile of the rows' servers, by name or TOML file (see `twin.hardware`); several take turns, row by row"""
    topology: str = ""
    """TOML file of the site (see `twin.site`); what it says goes before the counts and limits here"""
    rows: Count = 2
    servers_per_row: Count = 40
    servers_per_rack: Count = 4
    ahus: Count = 2
    upses: Count = 4
    pdus_per_row: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    """2N: each alone carries the row"""
    cooling_devices: Count = 4
    chillers: Count = 3
    cooling_capacity_w: Positive = inf
    """heat that all cooling devices together carry away; absent = what the rows may draw, and a device more"""
    row_limit_w: Positive = inf
    """see `twin.limits`; may be absent where `topology` says it"""
    aisle_limit_cfm: Positive = inf
    """what the aisle's air handlers supply while none is lost; may be absent where `topology` says it"""
    oversubscription: AtLeastZero = 0.0
    """servers beyond those that the limits were made for, as a share; said here, decided by servers_per_row"""

    occupancy: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """share of the servers that have a tenant at `start`"""
    churn_per_week: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    """share of the virtual machines that leave in a week, and as many come (see `twin.tenancy`)"""

    calibration: str = "llama2-70b-2023"
    """of serving: a shipped one or a TOML file (see `twin.models`)"""
    model: str = "llama2-70b"
    tp: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    quantisation: Quantisation = "fp16"
    chunked: bool | None = None
    """chunked prefill instead of prefill first; absent = as the calibration was measured"""
    services: tuple[Service, ...] = ()
    """absent = `endpoints` endpoints chat-1, chat-2, ... of one service with the values above and below"""

    saas_share: Share = 0.5
    endpoints: Count = 4
    """with `services`: theirs, whatever is said here"""
    high_priority_endpoints: int = 2
    peak_rps: Positive = 2.0
    """requests/s per instance in the day's highest hour"""
    demand_sd: Share = 0.08
    """slow wander of an endpoint's demand, relative"""
    batch_limit: Annotated[int, msgspec.Meta(ge=1, le=512)] = 128
    prefill_tokens: Count = 8192
    """prompt tokens taken into one iteration; a longer prompt goes alone"""
    queue_limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 2048
    """requests waiting at an instance; one more is rejected"""
    slo_factor: Positive = 5.0
    """times an unloaded request (TAPAS, DynamoLLM)"""
    slo_prompt_tokens: Count = 4096
    """prompt whose unloaded first token sets the TTFT objective"""

    iaas_group: Count = 4
    """virtual machines of one customer"""
    iaas_hot_share: Share = 0.4
    """customers that keep their GPUs busy; the others hardly do"""
    iaas_hot_level: Share = 1.0
    """level 0 = idle, 1 = TDP"""
    iaas_cold_level: Share = 0.2
    iaas_daily: Share = 0.1
    """amplitude of a customer's daily curve, level"""
    iaas_sd: Share = 0.06
    """slow wander of a customer's level"""
    iaas_high_share: Share = 1.0
    """share of virtual machines with high priority: an opaque tenant cannot say what a cap costs it"""

    outside_c: Annotated[float, msgspec.Meta(ge=-40, le=55)] = 35.0
    """at `start`; before and after it follows the workload's weather, shifted"""
    events: Events = ()
    """what goes wrong (see `twin.events`)"""
    ahu_lost_after_s: AtLeastZero = inf
    """short for an event: ahu-1 lost"""
    ups_lost_after_s: AtLeastZero = inf
    """short for an event: ups-1 lost"""

    recorded_requests: str = ""
    """Parquet file of requests that replace the drawn ones (see `twin.recorded`)"""
    recorded_power: str = ""
    """Parquet file of opaque tenants' server power that replaces their levels"""
    recorded_outside: str = ""
    """Parquet file of outside temperatures"""
    warm_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 180
    """serving is simulated so long before `start`, so that the run begins with full batches"""

    def offered(self) -> tuple[Service, ...]:
        """Return `services`, or the one that the scenario's plain keys make."""
        return self.services or (
            Service(
                name="chat",
                endpoints=self.endpoints,
                model=self.model,
                tp=self.tp,
                quantisation=self.quantisation,
                high_endpoints=self.high_priority_endpoints,
            ),
        )

    def happenings(self) -> Events:
        """Return `events`, and those that the short keys stand for."""
        short: Events = ()
        if self.ahu_lost_after_s < inf:
            short += (AhuLost(at_s=self.ahu_lost_after_s, unit="ahu-1"),)
        if self.ups_lost_after_s < inf:
            short += (UpsLost(at_s=self.ups_lost_after_s, unit="ups-1"),)
        return self.events + short


def load(name_or_path: str | Path, **overrides: Any) -> Scenario:
    """Return a scenario by the name of a shipped one or from a TOML file, with `overrides` in the place of its values.

    A file may say `base = NAME` and then only what differs; paths in a file are relative to its folder.
    ConfigError names file, key and what is allowed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_path}.toml"
    values = _read(path, ()) | overrides
    for i, event in enumerate(values.get("events", ())):
        if isinstance(event, dict) and event.get("kind") not in KINDS:
            raise ConfigError(f"{path.name}: events[{i}].kind = {event.get('kind')!r}: must be one of {', '.join(KINDS)}")
    scenario = tomlfile.convert(values, Scenario, path.name)
    if scenario.services:
        asked = serve.endpoints(scenario.services)
        high = sum(e.high for e in asked)
        scenario = msgspec.structs.replace(scenario, endpoints=len(asked), high_priority_endpoints=high)
    _check(scenario, path.name)
    return scenario


def _read(path: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    if path.name in seen:
        raise ConfigError(f"{path.name}: base = ...: refers to itself by {' -> '.join((*seen, path.name))}")
    try:
        values = _rooted(tomlfile.read(path), path.parent)
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise ConfigError(f"no scenario {path}: name a TOML file or one of {names}") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path.name}: base = {base!r}: must be the name of a scenario")
    return _read(FOLDER / f"{base}.toml", (*seen, path.name)) | values


def _rooted(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return `values` with paths of files put together with the folder of the file that names them."""

    def rooted(value: Any) -> Any:
        if isinstance(value, list):
            return [rooted(one) for one in value]
        is_file = isinstance(value, str) and value.endswith((".toml", ".parquet"))
        return str(folder / value) if is_file else value

    return values | {key: rooted(values[key]) for key in _FILES if key in values}


def _check(scenario: Scenario, where: str) -> None:
    s = scenario
    if s.start.tzinfo is None:
        raise ConfigError(f"{where}: start = {s.start}: needs an offset, e.g. 2026-07-15T14:00:00Z")
    if s.services:
        serve.check(s.services, where)
    elif not 0 <= s.high_priority_endpoints <= s.endpoints:
        raise ConfigError(f"{where}: high_priority_endpoints = {s.high_priority_endpoints}: must be 0 to {s.endpoints}")
    if s.topology:
        return
    for key in ("row_limit_w", "aisle_limit_cfm"):
        if getattr(s, key) == inf:
            raise ConfigError(f"{where}: {key}: missing; python -m twin.limits finds it")
    instances = round(round(s.rows * s.servers_per_row * s.occupancy) * s.saas_share)
    if instances and instances < s.endpoints:
        raise ConfigError(f"{where}: endpoints = {s.endpoints}: more than the {instances} instances; lower it")
