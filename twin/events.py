"""What goes wrong in a run, and when: failures of plant, weather, demand, sensors and exporters. `[[events]]` of a scenario.

All functions are pure: the events and a time in, what holds then out. Times are seconds from the run's start. An event holds in
[at_s, at_s + for_s)."""

from math import inf
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.topology import Name, Topology

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AtLeastZero = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Factor = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class _Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    at_s: AtLeastZero
    for_s: Positive = inf
    """how long it lasts; absent = to the end of the run"""


class AhuLost(_Base, frozen=True, kw_only=True, tag="ahu_lost"):
    """An air handler stops: its aisle has too little air."""

    unit: Name


class UpsLost(_Base, frozen=True, kw_only=True, tag="ups_lost"):
    """A UPS stops: the others carry its rows."""

    unit: Name


class PduLost(_Base, frozen=True, kw_only=True, tag="pdu_lost"):
    """A PDU stops: its partner carries the row."""

    unit: Name


class CoolingDeviceLost(_Base, frozen=True, kw_only=True, tag="cooling_device_lost"):
    """One of the devices that share the site's heat stops: all aisles get warmer."""

    unit: Name


class ChillerRestart(_Base, frozen=True, kw_only=True, tag="chiller_restart"):
    """A chiller is off until it has started again."""

    unit: Name
    for_s: Annotated[float, msgspec.Meta(ge=300, le=1800)] = 900.0
    """5 to 30 min [S]; 15 [A]"""


class HeatWave(_Base, frozen=True, kw_only=True, tag="heat_wave"):
    """The air outside gets warmer by up to peak_k in the middle of for_s, and cools down again, as sin^2."""

    for_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    peak_k: Annotated[float, msgspec.Meta(gt=0, le=40)]


class LoadSpike(_Base, frozen=True, kw_only=True, tag="load_spike"):
    """Requests/s times `factor`, at once; of one endpoint, or of all."""

    factor: Factor
    endpoint: Name | None = None


class FlashCrowd(_Base, frozen=True, kw_only=True, tag="flash_crowd"):
    """Requests/s grow to `factor` times within ramp_s; a crowd with an end leaves in as long."""

    factor: Factor
    ramp_s: Positive
    endpoint: Name | None = None


Warmth = Literal["inlet_c", "temp_c", "mem_temp_c"]
Quantity = Literal["inlet_c", "server_power_w", "fan_pct", "temp_c", "mem_temp_c", "power_w"]
"""the first three a server's, the others its GPUs'"""
OF_SERVER = ("inlet_c", "server_power_w", "fan_pct")


class _Sensor(_Base, frozen=True, kw_only=True):
    node: Name
    gpu: Annotated[int, msgspec.Meta(ge=0, le=63)] | None = None
    """absent = all of the node's"""


class SensorStuck(_Sensor, frozen=True, kw_only=True, tag="sensor_stuck"):
    """Shows what it showed when it began."""

    quantity: Quantity


class SensorDrift(_Sensor, frozen=True, kw_only=True, tag="sensor_drift"):
    """Shows k_per_h more for each hour since it began."""

    quantity: Warmth
    k_per_h: Annotated[float, msgspec.Meta(ge=-100, le=100)]


class SensorSilent(_Sensor, frozen=True, kw_only=True, tag="sensor_silent"):
    """Shows nothing."""

    quantity: Quantity


class ExporterOutage(_Base, frozen=True, kw_only=True, tag="exporter_outage"):
    """An exporter yields nothing."""

    exporter: Literal["gpu", "server", "facility", "requests", "endpoints"]


Lost = AhuLost | UpsLost | PduLost | CoolingDeviceLost | ChillerRestart
SensorFault = SensorStuck | SensorDrift | SensorSilent
Event = Lost | HeatWave | LoadSpike | FlashCrowd | SensorFault | ExporterOutage
Events = tuple[Event, ...]
KINDS = tuple(
    str(kind.__struct_config__.tag)
    for kind in (
        *(AhuLost, UpsLost, PduLost, CoolingDeviceLost, ChillerRestart, HeatWave, LoadSpike, FlashCrowd),
        *(SensorStuck, SensorDrift, SensorSilent, ExporterOutage),
    )
)


class Down(NamedTuple):
    """Which units stand still, in the topology's order."""

    ahus: Bools
    """over all aisles, in order"""
    upses: Bools
    pdus: Bools
    cooling_devices: Bools
    chillers: Bools


FIELD: dict[type, int] = {AhuLost: 0, UpsLost: 1, PduLost: 2, CoolingDeviceLost: 3, ChillerRestart: 4}
"""which field of `Down` an event is about"""


def units(topology: Topology) -> tuple[tuple[str, ...], ...]:
    """Return the names of what `Down` tells of, in its order."""
    ahus = tuple(name for aisle in topology.aisles for name in aisle.ahus)
    upses, pdus = tuple(u.name for u in topology.upses), tuple(p.name for p in topology.pdus)
    return ahus, upses, pdus, topology.cooling_devices, topology.chillers


def holds(event: Event, at_s: float) -> bool:
    """Whether an event is going on."""
    return event.at_s <= at_s < event.at_s + event.for_s


def down(events: Events, topology: Topology, at_s: float) -> Down:
    """Return what stands still at `at_s`."""
    names = units(topology)
    found = Down(*(np.zeros(len(some), dtype=np.bool_) for some in names))
    for event in events:
        if isinstance(event, Lost) and holds(event, at_s):
            field = FIELD[type(event)]
            found[field][names[field].index(event.unit)] = True
    return found


def outside_k(events: Events, seconds: Floats) -> Floats:
    """[T] K by which heat waves warm the air outside at `seconds`; several add up."""
    warmer = np.zeros(len(seconds))
    for event in events:
        if isinstance(event, HeatWave):
            phase = np.clip((seconds - event.at_s) / event.for_s, 0.0, 1.0)
            warmer += event.peak_k * np.sin(np.pi * phase) ** 2
    return warmer


def demand_factor(events: Events, endpoints: tuple[str, ...], seconds: Floats) -> Floats:
    """[T, E] by which requests/s are multiplied at `seconds`; several multiply."""
    factor = np.ones((len(seconds), len(endpoints)))
    for event in events:
        if isinstance(event, LoadSpike | FlashCrowd):
            rise = (event.factor - 1.0) * _presence(event, seconds)
            columns = slice(None) if event.endpoint is None else endpoints.index(event.endpoint)
            factor[:, columns] *= (1.0 + rise)[:, None] if event.endpoint is None else 1.0 + rise
    return factor


def _presence(event: LoadSpike | FlashCrowd, seconds: Floats) -> Floats:
    """[T] 0 to 1: how much of the event is there."""
    since, left = seconds - event.at_s, event.at_s + event.for_s - seconds
    there: Floats = ((since >= 0.0) & (left > 0.0)).astype(np.float64)
    if isinstance(event, FlashCrowd):
        there *= np.clip(np.minimum(since, left) / event.ramp_s, 0.0, 1.0)
    return there


def sensor_faults(events: Events, at_s: float) -> tuple[SensorFault, ...]:
    """Return what is wrong with sensors at `at_s`."""
    return tuple(event for event in events if isinstance(event, SensorFault) and holds(event, at_s))


def drifted_k(event: SensorDrift, at_s: float) -> float:
    """K that a drifting sensor shows too much."""
    return event.k_per_h * (at_s - event.at_s) / 3600.0


def exporters_out(events: Events, at_s: float) -> frozenset[str]:
    """Return the exporters that yield nothing at `at_s`."""
    return frozenset(event.exporter for event in events if isinstance(event, ExporterOutage) and holds(event, at_s))


def next_change_s(events: Events, after_s: float) -> float:
    """Return when next an event begins or ends after `after_s`, or a crowd is complete or begins to leave; inf = never.

    Heat waves, ramps and drifts change all the while that they hold.
    """
    moments = [moment for event in events for moment in _moments(event)]
    return min((moment for moment in moments if moment > after_s), default=inf)


def _moments(event: Event) -> tuple[float, ...]:
    end_s = event.at_s + event.for_s
    if isinstance(event, FlashCrowd):
        return event.at_s, event.at_s + event.ramp_s, end_s - event.ramp_s, end_s
    return event.at_s, end_s
