"""What a run is: the site, its tenants, its load and what fails when. Read from TOML, frozen."""

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from contracts.errors import ConfigError

FOLDER = Path(__file__).parent / "scenarios"

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
AtLeastZero = Annotated[float, msgspec.Meta(ge=0)]


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site and its hour. Seconds are run time from `start`; `inf` = never."""

    name: str
    start: datetime
    """aware; the run's first moment"""
    start_at_peak: bool = True
    """shift the day's curve so that `start` is its highest hour"""

    rows: Count = 2
    servers_per_row: Count = 40
    servers_per_rack: Count = 4
    ahus: Count = 2
    upses: Count = 4
    row_limit_w: Positive
    """see `twin.limits`"""
    aisle_limit_cfm: Positive
    """what the aisle's air handlers supply while none is lost"""
    oversubscription: AtLeastZero = 0.0
    """servers beyond those that the limits were made for, as a share; said here, decided by servers_per_row"""

    saas_share: Share = 0.5
    endpoints: Count = 4
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
    ahu_lost_after_s: AtLeastZero = float("inf")
    ups_lost_after_s: AtLeastZero = float("inf")
    warm_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 180
    """serving is simulated so long before `start`, so that the run begins with full batches"""


def load(name_or_path: str | Path, **overrides: Any) -> Scenario:
    """Return a scenario by the name of a shipped one or from a TOML file, with `overrides` in the place of its values.

    A file may say `base = NAME` and then only what differs. ConfigError names file, key and what is allowed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = FOLDER / f"{name_or_path}.toml"
    values = _read(path, ()) | overrides
    try:
        scenario = msgspec.convert(values, Scenario)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    _check(scenario, path.name)
    return scenario


def _read(path: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    if path.name in seen:
        raise ConfigError(f"{path.name}: base = ...: refers to itself by {' -> '.join((*seen, path.name))}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise ConfigError(f"no scenario {path}: name a TOML file or one of {names}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not TOML: {error}") from None
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path.name}: base = {base!r}: must be the name of a scenario")
    return _read(FOLDER / f"{base}.toml", (*seen, path.name)) | values


def _check(scenario: Scenario, where: str) -> None:
    if scenario.start.tzinfo is None:
        raise ConfigError(f"{where}: start = {scenario.start}: needs an offset, e.g. 2026-07-15T14:00:00Z")
    servers = scenario.rows * scenario.servers_per_row
    instances = round(servers * scenario.saas_share)
    if instances and instances < scenario.endpoints:
        raise ConfigError(f"{where}: endpoints = {scenario.endpoints}: more than the {instances} instances; lower it")
    if not 0 <= scenario.high_priority_endpoints <= scenario.endpoints:
        raise ConfigError(
            f"{where}: high_priority_endpoints = {scenario.high_priority_endpoints}: must be 0 to {scenario.endpoints}"
        )
