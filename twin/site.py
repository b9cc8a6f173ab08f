"""What stands where: rows, racks, aisles, UPSes, PDUs and cooling, from the scenario's counts or from a TOML file.

A site file has the keys of `contracts.topology.Topology`, and two more things: `hardware` may name profiles (`["h100"]`)
instead of giving data sheets, and `recirculation` is the matrix [aisle][aisle] of `Site.recirculation`. Where its servers
have no tenants at all, the scenario's shares fill them."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.topology import Aisle, Hardware, Pdu, Row, Server, Topology, Ups
from twin import calibration as c
from twin import hardware, sitecheck, tomlfile
from twin.hardware import Profile
from twin.scenario import Scenario

Floats = NDArray[np.float64]

NEIGHBOUR_SHARE = 0.1  # [A] of an aisle's own recirculation that reaches the next one; its square the one after


class Site(NamedTuple):
    """A topology and what belongs to it. Without tenants all servers are free and there are no endpoints."""

    topology: Topology
    profiles: tuple[Profile, ...]
    """in the order of topology.hardware"""
    recirculation: Floats
    """[A, A] K of inlet rise in the first aisle per unit of air drawn beyond the supply in the second"""
    tenants: bool
    """whether the file says whose the servers are"""


def site(scenario: Scenario) -> Site:
    """Return the site of a scenario; ConfigError names file and key of what cannot be."""
    if scenario.topology:
        return _from_file(Path(scenario.topology), scenario)
    profiles = tuple(hardware.load(name) for name in dict.fromkeys(_names(scenario)))
    topology = _from_counts(scenario, profiles)
    where = f"scenario {scenario.name}"
    sitecheck.check(topology, where, limit_key="row_limit_w")
    return Site(topology, profiles, _recirculation(len(topology.aisles)), tenants=False)


def _names(scenario: Scenario) -> tuple[str, ...]:
    return (scenario.hardware,) if isinstance(scenario.hardware, str) else scenario.hardware


def _recirculation(aisles: int) -> Floats:
    distance = np.abs(np.arange(aisles)[:, None] - np.arange(aisles)[None])
    matrix: Floats = c.OVERDRAW_C * NEIGHBOUR_SHARE**distance
    return matrix


def _from_counts(s: Scenario, profiles: tuple[Profile, ...]) -> Topology:
    kinds = list(dict.fromkeys(_names(s)))
    of_row = [profiles[kinds.index(_names(s)[r % len(_names(s))])].sheet.name for r in range(s.rows)]
    upses = tuple(f"ups-{u + 1}" for u in range(s.upses))
    # 4N/3: any three of four carry the full load (TAPAS 2.1); in general all but one.
    ups_limit_w = s.rows * s.row_limit_w / max(1, s.upses - 1)
    pdus = [tuple(f"pdu-{r * s.pdus_per_row + k + 1}" for k in range(s.pdus_per_row)) for r in range(s.rows)]
    return Topology(
        site=s.name,
        hardware=tuple(p.sheet for p in profiles),
        servers=tuple(_server(s, of_row, i) for i in range(s.rows * s.servers_per_row)),
        rows=tuple(
            Row(name=f"row-{r + 1}", aisle=f"aisle-{r // 2 + 1}", upses=upses, power_limit_w=s.row_limit_w, pdus=pdus[r])
            for r in range(s.rows)
        ),
        aisles=tuple(
            Aisle(
                name=f"aisle-{a + 1}",
                ahus=tuple(f"ahu-{a * s.ahus + k + 1}" for k in range(s.ahus)),
                airflow_limit_cfm=s.aisle_limit_cfm,
            )
            for a in range((s.rows + 1) // 2)
        ),
        upses=tuple(Ups(name=name, power_limit_w=ups_limit_w) for name in upses),
        pdus=tuple(Pdu(name=name, power_limit_w=s.row_limit_w) for names in pdus for name in names),
        cooling_devices=tuple(f"cooling-{k + 1}" for k in range(s.cooling_devices)),
        chillers=tuple(f"chiller-{k + 1}" for k in range(s.chillers)),
        ups_lost_share=c.UPS_LOST_SHARE,
        ahu_lost_share=c.AHU_LOST_SHARE,
    )


def _server(s: Scenario, of_row: list[str], i: int) -> Server:
    row, place = divmod(i, s.servers_per_row)
    return Server(
        name=f"n{i + 1:03d}",
        row=f"row-{row + 1}",
        rack=f"r{row + 1}k{place // s.servers_per_rack + 1:02d}",
        slot=place % s.servers_per_rack,
        hardware=of_row[row],
    )


def _from_file(path: Path, scenario: Scenario) -> Site:
    if not path.is_file():
        raise ConfigError(f"scenario {scenario.name}: topology = {str(path)!r}: no such file")
    values = tomlfile.read(path)
    given = values.pop("recirculation", None)
    profiles = tuple(_profile(kind, i, path, scenario) for i, kind in enumerate(_list(values, "hardware", path)))
    sheets = [msgspec.to_builtins(p.sheet) for p in profiles]
    topology = tomlfile.convert(values | {"hardware": sheets}, Topology, path.name)
    sitecheck.check(topology, path.name)
    matrix = _recirculation(len(topology.aisles)) if given is None else sitecheck.matrix(given, len(topology.aisles), path.name)
    tenants = bool(topology.endpoints) or any(s.tenant != "free" for s in topology.servers)
    return Site(topology, profiles, matrix, tenants)


def _list(values: dict[str, Any], key: str, path: Path) -> list[Any]:
    if not isinstance(values.get(key), list) or not values[key]:
        raise ConfigError(f"{path.name}: {key}: needs a list of profiles, e.g. {key} = ['h100'], or of data sheets")
    return list(values[key])


def _profile(kind: Any, i: int, path: Path, scenario: Scenario) -> Profile:
    """Return the profile behind an entry of the file's `hardware`: a name, or the data sheet of a known server model."""
    if isinstance(kind, str):
        return hardware.load(path.parent / kind if kind.endswith(".toml") else kind)
    known = {p.sheet.name: p for p in map(hardware.load, (*_names(scenario), *hardware.names()))}
    name = kind.get("name") if isinstance(kind, dict) else kind
    if name not in known:
        raise ConfigError(
            f"{path.name}: hardware[{i}].name = {name!r}: its physics is not known; give its profile in the scenario's key"
            f" hardware, or use one of {', '.join(known)}"
        )
    sheet = tomlfile.convert(kind, Hardware, f"{path.name}: hardware[{i}]")
    return msgspec.structs.replace(known[name], sheet=sheet)
