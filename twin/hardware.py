"""Server models: the data sheet that everybody may read, and the physics behind it that only the twin knows.

A profile is a TOML file: one of `profiles/` by its name, or a user's own by its path. Means and spreads stand there; what a
single unit has of them is drawn in `twin.fleet`."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated

import msgspec

from contracts.errors import ConfigError
from contracts.topology import Hardware, Name
from twin import tomlfile

FOLDER = Path(__file__).parent / "profiles"

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
AtLeastZero = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Degrees = Annotated[float, msgspec.Meta(ge=-100, le=200)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Spread = Annotated[float, msgspec.Meta(ge=0, le=0.3)]
"""a standard deviation relative to the mean"""
MEASURED_DUTY = 0.8
"""fan duty at which the whole resistance is given"""


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Board and server power, W. Server = (sum of GPUs + overhead + fans duty^3) / psu_share."""

    idle_w: Positive
    """a GPU that nobody uses"""
    loaded_w: Positive
    """a GPU that waits with a model loaded; level 0 of an opaque tenant"""
    gpu_sd: Spread
    """board power between GPUs"""
    instance_sd: Spread
    """board power between servers"""
    clock_floor: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    clock_exponent: Positive
    """busy power at clock f = floor + (1 - floor) (f / highest)^exponent"""
    leakage_per_k: AtLeastZero
    leakage_at_c: Degrees
    leakage_sd: Spread
    overhead_w: Positive
    overhead_sd: Spread
    fans_w: AtLeastZero
    psu_share: Share


class Fans(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Air and the fan law: duty = hot_duty + per_k (hottest GPU - hot_c), from idle_duty to 1."""

    cfm_full: Positive
    cfm_sd: Spread
    idle_duty: Share
    hot_c: Positive
    hot_duty: Share
    per_k: Positive


class Heat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two nodes per GPU. Die to sink die_k_per_w; sink to air sink_k_per_w / (.25 + .75 duty)."""

    resistance_mean: Positive
    """K/W, die to air at 80 % duty, over many GPUs"""
    resistance_sd: AtLeastZero
    die_k_per_w: Positive
    sink_k_per_w: Positive
    die_j_per_k: Positive
    sink_j_per_k: Positive
    air_offset_c: Degrees
    air_slope: Positive
    """air at the first sink = air_offset_c + air_slope inlet"""
    position_c: tuple[AtLeastZero, ...]
    """warmth of the air at each GPU's place when every GPU of the server draws position_at_w"""
    position_at_w: Positive
    slowdown_mhz: Positive
    """clock in hardware slowdown"""
    slowdown_hysteresis_c: Positive


class Sensors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the readings lack."""

    gpu_sd_c: AtLeastZero
    inlet_share: Spread
    """bias of an inlet sensor, relative to its reading, sd"""
    step_c: Positive
    memory_offset_c: Degrees
    """memory above the GPU, mean over many"""
    memory_sd_c: AtLeastZero


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server model. `sheet` is public; the rest is hidden from whoever controls the site."""

    gpu: Name
    """name that serving calibrations know it by"""
    sheet: Hardware
    power: Power
    fans: Fans
    heat: Heat
    sensors: Sensors


def load(name: str | Path) -> Profile:
    """Return a profile by the name of a shipped one or the path of a TOML file.

    ConfigError names file, key, value and what is allowed.
    """
    path = tomlfile.shipped(FOLDER, str(name), "hardware profile")
    profile = tomlfile.convert(tomlfile.read(path), Profile, path.name)
    _check(profile, path.name)
    return profile


def names() -> tuple[str, ...]:
    """Names of the shipped profiles, sorted."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.toml")))


_BELOW = (
    ("sheet.slowdown_c", "sheet.shutdown_c"),
    ("sheet.brake_clock_mhz", "sheet.base_clock_mhz"),
    ("sheet.min_clock_mhz", "sheet.base_clock_mhz"),
    ("sheet.base_clock_mhz", "sheet.max_clock_mhz"),
    ("sheet.idle_power_w", "sheet.max_power_w"),
    ("sheet.airflow_idle_cfm", "sheet.airflow_max_cfm"),
    ("power.idle_w", "power.loaded_w"),
    ("power.loaded_w", "sheet.gpu_tdp_w"),
    ("fans.idle_duty", "fans.hot_duty"),
    ("heat.slowdown_mhz", "sheet.max_clock_mhz"),
    ("heat.slowdown_hysteresis_c", "sheet.slowdown_c"),
    ("heat.resistance_sd", "heat.resistance_mean"),
)
"""the first must lie below the second"""


def _check(profile: Profile, where: str) -> None:
    """Raise ConfigError for the first thing that cannot be."""
    heat = profile.heat
    for key, other in _BELOW:
        value, bound = attrgetter(key)(profile), attrgetter(other)(profile)
        if not value < bound:
            raise ConfigError(f"{where}: {key} = {value}: must be below {other} = {bound}")
    if len(heat.position_c) != profile.sheet.gpus:
        raise ConfigError(f"{where}: heat.position_c = {list(heat.position_c)}: needs sheet.gpus = {profile.sheet.gpus} values")
    total = heat.die_k_per_w + heat.sink_k_per_w / (0.25 + 0.75 * MEASURED_DUTY)
    if abs(total / heat.resistance_mean - 1.0) > 0.02:
        raise ConfigError(
            f"{where}: heat.resistance_mean = {heat.resistance_mean}: die_k_per_w and sink_k_per_w make {total:.4f} K/W at"
            f" {MEASURED_DUTY:.0%} duty; both must agree within 2 %"
        )
