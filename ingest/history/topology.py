"""A topology as the rows of its tables."""

import polars as pl

from contracts.errors import ConfigError
from contracts.topology import Topology

_STR, _F64, _I32, _LIST = pl.String(), pl.Float64(), pl.Int32(), pl.List(pl.String)
TABLES: dict[str, dict[str, pl.DataType]] = {
    "topology": {
        "node": _STR,
        "slot": _I32,
        "rack": _STR,
        "row": _STR,
        "aisle": _STR,
        "upses": _LIST,
        "tenant": _STR,
        "endpoint": _STR,
        "customer": _STR,
        "priority": _STR,
        "hardware": _STR,
        "gpus": _I32,
        "max_power_w": _F64,
        "max_clock_mhz": _F64,
        "min_clock_mhz": _F64,
        "slowdown_c": _F64,
        "row_limit_w": _F64,
        "aisle_limit_cfm": _F64,
    },
    "topology_rows": {"row": _STR, "aisle": _STR, "upses": _LIST, "limit_w": _F64, "servers": _I32},
    "topology_aisles": {"aisle": _STR, "ahus": _LIST, "limit_cfm": _F64},
    "topology_upses": {"ups": _STR, "limit_w": _F64},
    "topology_endpoints": {"endpoint": _STR, "model": _STR, "ttft_slo_s": _F64, "tbt_slo_s": _F64, "priority": _STR},
}


def check(topology: Topology) -> None:
    """Raise ConfigError naming the first server that stands twice, or thing that refers to what is not there."""
    nodes = [s.name for s in topology.servers]
    if len(set(nodes)) < len(nodes):
        raise ConfigError(f"server {next(n for n in nodes if nodes.count(n) > 1)!r} stands twice")
    rows, aisles = {r.name for r in topology.rows}, {a.name for a in topology.aisles}
    hardware = {h.name for h in topology.hardware}
    wrong = [(f"row {r.name}", "aisle", r.aisle) for r in topology.rows if r.aisle not in aisles]
    wrong += [(f"server {s.name}", "row", s.row) for s in topology.servers if s.row not in rows]
    wrong += [(f"server {s.name}", "hardware", s.hardware) for s in topology.servers if s.hardware not in hardware]
    if wrong:
        owner, kind, name = wrong[0]
        raise ConfigError(f"{owner}: unknown {kind} {name!r}")


def frames(topology: Topology) -> dict[str, pl.DataFrame]:
    """Return the rows of the topology's tables; `topology` must have passed `check`."""
    rows = {r.name: r for r in topology.rows}
    aisles = {a.name: a for a in topology.aisles}
    hardware = {h.name: h for h in topology.hardware}
    count = dict.fromkeys(rows, 0)
    servers: list[tuple[object, ...]] = []
    for s in topology.servers:
        row, kind = rows[s.row], hardware[s.hardware]
        count[s.row] += 1
        where = (s.name, s.slot, s.rack, s.row, row.aisle, list(row.upses), s.tenant, s.endpoint, s.customer, s.priority)
        what = (kind.name, kind.gpus, kind.max_power_w, kind.max_clock_mhz, kind.min_clock_mhz, kind.slowdown_c)
        servers.append((*where, *what, row.power_limit_w, aisles[row.aisle].airflow_limit_cfm))
    data: dict[str, list[tuple[object, ...]]] = {
        "topology": servers,
        "topology_rows": [(r.name, r.aisle, list(r.upses), r.power_limit_w, count[r.name]) for r in topology.rows],
        "topology_aisles": [(a.name, list(a.ahus), a.airflow_limit_cfm) for a in topology.aisles],
        "topology_upses": [(u.name, u.power_limit_w) for u in topology.upses],
        "topology_endpoints": [(e.name, e.model, e.ttft_slo_s, e.tbt_slo_s, e.priority) for e in topology.endpoints],
    }
    return {name: pl.DataFrame(data[name], schema=TABLES[name], orient="row") for name in TABLES}
