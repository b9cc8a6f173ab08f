"""Whether a site can be: every mistake of a topology, or of events that refer to it, in one line with file and key."""

from collections.abc import Collection, Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.topology import Topology
from twin.events import FIELD, OF_SERVER, Events, FlashCrowd, LoadSpike, Lost, SensorFault, units

LISTED = 8
"""names that a message lists"""


def check(topology: Topology, where: str, *, limit_key: str | None = None) -> None:
    """Raise ConfigError for the first thing that cannot be; `where` is the file, `limit_key` its key of a row's limit."""
    _names_once(topology, where)
    _references(topology, where)
    _places(topology, where)
    _power(topology, where, limit_key)
    _tenants(topology, where)
    for key in ("ups_lost_share", "ahu_lost_share"):
        if not 0.0 < getattr(topology, key) <= 1.0:
            raise ConfigError(f"{where}: {key} = {getattr(topology, key)}: must be above 0 and at most 1")


def matrix(given: Any, aisles: int, where: str) -> NDArray[np.float64]:
    """Return `recirculation` [aisles, aisles] as read from a file; ConfigError when it is no such matrix."""
    square = isinstance(given, list) and len(given) == aisles
    if not square or any(not isinstance(row, list) or len(row) != aisles for row in given):
        raise ConfigError(f"{where}: recirculation: needs {aisles} rows of {aisles} numbers, one per aisle")
    for a, row in enumerate(given):
        for b, value in enumerate(row):
            if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= 0):
                raise ConfigError(f"{where}: recirculation[{a}][{b}] = {value!r}: must be a number of kelvin, at least 0")
    return np.array(given, dtype=np.float64)


def _names_once(t: Topology, where: str) -> None:
    at: dict[str, int] = {}
    for i, s in enumerate(t.servers):
        if s.name in at:
            racks = sorted({s.rack, t.servers[at[s.name]].rack})
            place = f"in racks {' and '.join(racks)}" if len(racks) > 1 else f"in rack {racks[0]}"
            raise ConfigError(f"{where}: servers[{i}].name = {s.name!r}: stands twice, {place}")
        at[s.name] = i
    for key, names in _named(t):
        seen: set[str] = set()
        for i, name in enumerate(names):
            if name in seen:
                raise ConfigError(f"{where}: {key}[{i}] = {name!r}: stands twice; names must be unique")
            seen.add(name)


def _named(t: Topology) -> Iterable[tuple[str, Sequence[str]]]:
    for key in ("rows", "aisles", "upses", "pdus", "endpoints", "hardware"):
        yield key, [each.name for each in getattr(t, key)]
    yield "cooling_devices", t.cooling_devices
    yield "chillers", t.chillers
    yield "aisles: ahus", [name for a in t.aisles for name in a.ahus]


def _references(t: Topology, where: str) -> None:
    rows, kinds = {r.name for r in t.rows}, {h.name for h in t.hardware}
    for i, s in enumerate(t.servers):
        _known(f"{where}: servers[{i}].row", s.row, rows)
        _known(f"{where}: servers[{i}].hardware", s.hardware, kinds)
    aisles, upses, pdus = {a.name for a in t.aisles}, {u.name for u in t.upses}, {p.name for p in t.pdus}
    for i, r in enumerate(t.rows):
        _known(f"{where}: rows[{i}].aisle", r.aisle, aisles)
        for name in r.upses:
            _known(f"{where}: rows[{i}].upses", name, upses)
        for name in r.pdus:
            _known(f"{where}: rows[{i}].pdus", name, pdus)


def _places(t: Topology, where: str) -> None:
    row_of: dict[str, str] = {}
    taken: dict[tuple[str, int], str] = {}
    for i, s in enumerate(t.servers):
        key = f"{where}: servers[{i}]"
        if row_of.setdefault(s.rack, s.row) != s.row:
            raise ConfigError(f"{key}.rack = {s.rack!r}: stands in row {row_of[s.rack]} and in row {s.row}")
        if s.slot < 0:
            raise ConfigError(f"{key}.slot = {s.slot}: must be at least 0")
        if (s.rack, s.slot) in taken:
            raise ConfigError(f"{key}.slot = {s.slot}: {taken[s.rack, s.slot]} stands there in rack {s.rack}")
        taken[s.rack, s.slot] = s.name
    used = [h for h in t.hardware if any(s.hardware == h.name for s in t.servers)]
    for h in used[1:]:
        if h.gpus != used[0].gpus:
            raise ConfigError(
                f"{where}: hardware: {used[0].name} has {used[0].gpus} GPUs and {h.name} {h.gpus}; all servers of a site need"
                " the same number"
            )
    if not used:
        raise ConfigError(f"{where}: servers: there are none")


def _power(t: Topology, where: str, limit_key: str | None) -> None:
    idle_w = {h.name: h.idle_power_w for h in t.hardware}
    least_w = dict.fromkeys((r.name for r in t.rows), 0.0)
    for s in t.servers:
        least_w[s.row] += idle_w[s.hardware]
    for i, r in enumerate(t.rows):
        if r.power_limit_w < least_w[r.name]:
            key = limit_key or f"rows[{i}].power_limit_w"
            raise ConfigError(
                f"{where}: {key} = {r.power_limit_w:g}: below the {least_w[r.name]:g} W that the servers of {r.name} draw idle"
            )


def _tenants(t: Topology, where: str) -> None:
    endpoints = {e.name for e in t.endpoints}
    for i, s in enumerate(t.servers):
        if s.tenant == "saas" and s.endpoint is None:
            raise ConfigError(f"{where}: servers[{i}].endpoint: a saas server needs one")
        if s.endpoint is not None:
            _known(f"{where}: servers[{i}].endpoint", s.endpoint, endpoints)
        if s.tenant == "iaas" and s.customer is None:
            raise ConfigError(f"{where}: servers[{i}].customer: an iaas server needs one")


def check_events(events: Events, topology: Topology, where: str) -> None:
    """Raise ConfigError for the first event that names what is not there, or cannot be."""
    names = units(topology)
    for i, event in enumerate(events):
        key = f"{where}: events[{i}]"
        if isinstance(event, Lost):
            _known(f"{key}.unit", event.unit, names[FIELD[type(event)]])
        elif isinstance(event, LoadSpike | FlashCrowd) and event.endpoint is not None:
            _known(f"{key}.endpoint", event.endpoint, [e.name for e in topology.endpoints])
        elif isinstance(event, SensorFault):
            _check_sensor(key, event, topology)
        if isinstance(event, FlashCrowd) and 2 * event.ramp_s > event.for_s:
            raise ConfigError(f"{key}.ramp_s = {event.ramp_s}: must be at most half of for_s = {event.for_s}")


def _check_sensor(key: str, event: SensorFault, topology: Topology) -> None:
    hardware = {s.name: s.hardware for s in topology.servers}
    if event.node not in hardware:
        raise ConfigError(f"{key}.node = {event.node!r}: no such server")
    if event.gpu is None:
        return
    gpus = next(h.gpus for h in topology.hardware if h.name == hardware[event.node])
    if event.quantity in OF_SERVER:
        raise ConfigError(f"{key}.gpu = {event.gpu}: {event.quantity} is the server's; leave gpu out")
    if event.gpu >= gpus:
        raise ConfigError(f"{key}.gpu = {event.gpu}: {event.node} has GPUs 0 to {gpus - 1}")


def _known(key: str, name: str, there: Collection[str]) -> None:
    if name not in there:
        some = sorted(there)[:LISTED]
        more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
        raise ConfigError(f"{key} = {name!r}: there are {', '.join(some) or 'none'}{more}")
