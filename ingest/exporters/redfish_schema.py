"""Where a BMC keeps intake temperature and node power (the probe), and the readings themselves, in both Redfish schemas.

DMTF names: new Chassis.ThermalSubsystem -> ThermalMetrics.TemperatureSummaryCelsius.Intake.Reading and
Chassis.EnvironmentMetrics.PowerWatts.Reading; old Chassis.Thermal -> Temperatures[] with PhysicalContext Intake,
ReadingCelsius, and Chassis.Power -> PowerControl[0].PowerConsumedWatts.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import msgspec

from ingest.exporters.http_targets import TargetError, fetch

Kind = Literal["new", "old"]
CHASSIS = "/redfish/v1/Chassis"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """(schema, path) of the two readings of one BMC. None = it offers none."""

    inlet: tuple[Kind, str] | None
    power: tuple[Kind, str] | None


class Walk:
    """GETs of one BMC that share one time-out; each resource is fetched once."""

    def __init__(self, *, client: httpx.Client, base_url: str, auth: tuple[str, str] | None, timeout_s: float) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._auth = auth
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._seen: dict[str, dict[str, Any]] = {}

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON object at `path` (an @odata.id). Raises TargetError."""
        if path in self._seen:
            return self._seen[path]
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TargetError(f"did not answer within {self._timeout_s:g} s")
        body = fetch(self._client, self._base_url + path, timeout_s=left_s, auth=self._auth)
        try:
            found = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise TargetError(f"sent no JSON on {path}: {error}") from error
        if not isinstance(found, dict):
            raise TargetError(f"sent no JSON object on {path}")
        self._seen[path] = found
        return found


def probe(walk: Walk, chassis: str = "") -> Sources:
    """Find both readings: in the chassis of that Id, else in the first chassis that has them. New schema before old.

    Raises TargetError when the BMC does not answer or has no such chassis.
    """
    paths = [path for path in _members(walk.get(CHASSIS)) if not chassis or path.rstrip("/").rpartition("/")[2] == chassis]
    if not paths:
        raise TargetError(f"has no chassis {chassis!r}" if chassis else "has no chassis")
    inlet: tuple[Kind, str] | None = None
    power: tuple[Kind, str] | None = None
    for path in paths:
        inlet = inlet or next(_inlets(walk, path), None)
        power = power or next(_powers(walk, path), None)
        if inlet and power:
            break
    return Sources(inlet=inlet, power=power)


def inlet_c(kind: Kind, body: dict[str, Any]) -> float | None:
    """Intake temperature in degC; None while the sensor gives no number. Several intake sensors: the highest."""
    if kind == "new":
        return _number(_at(body, "TemperatureSummaryCelsius", "Intake", "Reading"))
    readings = [_number(sensor.get("ReadingCelsius")) for sensor in _intakes(body)]
    return max((reading for reading in readings if reading is not None), default=None)


def power_w(kind: Kind, body: dict[str, Any]) -> float | None:
    """Node power in W; None while there is no number. The first PowerControl is the whole chassis (its `Name` may say so)."""
    if kind == "new":
        return _number(_at(body, "PowerWatts", "Reading"))
    controls = _objects(body.get("PowerControl"))
    return _number(controls[0].get("PowerConsumedWatts")) if controls else None


def _inlets(walk: Walk, chassis: str) -> Iterator[tuple[Kind, str]]:
    body = walk.get(chassis)
    subsystem = _link(body, "ThermalSubsystem")
    metrics = _link(_get_or_empty(walk, subsystem), "ThermalMetrics")
    if metrics and _at(_get_or_empty(walk, metrics), "TemperatureSummaryCelsius", "Intake") is not None:
        yield "new", metrics
    thermal = _link(body, "Thermal")
    if thermal and _intakes(_get_or_empty(walk, thermal)):
        yield "old", thermal


def _powers(walk: Walk, chassis: str) -> Iterator[tuple[Kind, str]]:
    body = walk.get(chassis)
    metrics = _link(body, "EnvironmentMetrics")
    if metrics and _at(_get_or_empty(walk, metrics), "PowerWatts") is not None:
        yield "new", metrics
    power = _link(body, "Power")
    if power and "PowerConsumedWatts" in next(iter(_objects(_get_or_empty(walk, power).get("PowerControl"))), {}):
        yield "old", power


def _get_or_empty(walk: Walk, path: str) -> dict[str, Any]:
    """As get, but a link that leads nowhere (404, as some firmware has it) is an empty resource."""
    if not path:
        return {}
    try:
        return walk.get(path)
    except TargetError as error:
        if error.status == 404:
            return {}
        raise


def _members(body: dict[str, Any]) -> list[str]:
    return [path for member in _objects(body.get("Members")) if isinstance(path := member.get("@odata.id"), str)]


def _intakes(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [sensor for sensor in _objects(body.get("Temperatures")) if sensor.get("PhysicalContext") == "Intake"]


def _link(body: dict[str, Any], name: str) -> str:
    path = _at(body, name, "@odata.id")
    return path if isinstance(path, str) else ""


def _at(body: Any, *names: str) -> Any:
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _objects(found: Any) -> list[dict[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _number(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
