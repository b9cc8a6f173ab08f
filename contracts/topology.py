"""What stands where, what it may draw, and whose it is. Published on `state` under key `topology`; loadable from TOML."""

from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server model's public data sheet: what a policy may know of it."""

    name: Name
    """e.g. dgx-h100"""
    gpus: Annotated[int, msgspec.Meta(ge=1, le=64)]
    gpu_tdp_w: Positive
    max_clock_mhz: Positive
    base_clock_mhz: Positive
    min_clock_mhz: Positive
    """lowest SM clock that a cap may ask for"""
    brake_clock_mhz: Positive = 288.0
    """SM clock under the power brake (POLCA B2)"""
    slowdown_c: Positive
    """hardware slowdown temperature of the GPU"""
    shutdown_c: Positive
    max_power_w: Positive
    """the server's nameplate power"""
    idle_power_w: Positive
    airflow_idle_cfm: Positive
    airflow_max_cfm: Positive
    """airflow at full load (TAPAS: 80 % PWM)"""


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server and its present tenant."""

    name: Name
    row: Name
    rack: Name
    slot: int
    hardware: Name
    tenant: Literal["saas", "iaas", "free"] = "free"
    """saas = the provider's own inference instance; iaas = opaque virtual machine, metered and capped only"""
    endpoint: str | None = None
    """of a saas instance"""
    customer: str | None = None
    priority: Literal["high", "low"] = "low"


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of racks. `power_limit_w` holds while nothing is lost."""

    name: Name
    aisle: Name
    upses: tuple[Name, ...]
    power_limit_w: Positive
    pdus: tuple[Name, ...] = ()


class Aisle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two rows that share a cold aisle and its air handlers."""

    name: Name
    ahus: tuple[Name, ...]
    airflow_limit_cfm: Positive


class Ups(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A UPS; the datacenter is fed 4N/3: any three of four carry the load."""

    name: Name
    power_limit_w: Positive


class Pdu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A power distribution unit between UPSes and a row; rows have them in pairs, 2N: one carries the whole row."""

    name: Name
    power_limit_w: Positive


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A SaaS inference service and its objectives (P99)."""

    name: Name
    model: Name
    ttft_slo_s: Positive
    tbt_slo_s: Positive
    priority: Literal["high", "low"] = "low"


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole site. Order matters: arrays in a View follow `servers`, `rows`, `aisles`, `upses`, `endpoints`."""

    site: Name
    hardware: tuple[Hardware, ...]
    servers: tuple[Server, ...]
    rows: tuple[Row, ...]
    aisles: tuple[Aisle, ...]
    upses: tuple[Ups, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    pdus: tuple[Pdu, ...] = ()
    cooling_devices: tuple[Name, ...] = ()
    """they share the site's heat; one lost warms all aisles (TAPAS 2.1)"""
    chillers: tuple[Name, ...] = ()
    """they share the site's chilled water"""
    ups_lost_share: float = 0.75
    """capacity of a row left when one of its UPSes is lost (TAPAS 2.1: 4N/3)"""
    ahu_lost_share: float = 0.90
    """airflow of an aisle left when one of its AHUs is lost (TAPAS Table 2)"""
