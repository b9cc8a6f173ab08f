"""Servers: inlet and GPU temperatures now, and the worst of the next hour."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboard.model import InForce, ServerNow
from dashboard.moment import Asker

Row = Mapping[str, Any]
HOTTEST = 10


def servers(ask: Asker, in_force: Sequence[InForce]) -> tuple[ServerNow, ...]:
    """Return every server of the topology, by row, rack and slot."""
    ahead = {(row["target"], row["series"]): row for row in ask.rows("page_temps_ahead")}
    gpus = {row["node"]: row for row in ask.rows("page_gpus")}
    caps = {a.node: a.max_mhz for a in in_force if a.kind == "clock_cap" and a.mode == "enforce"}
    return tuple(
        _server(
            row,
            gpus.get(row["node"], {}),
            ahead.get(("gpu_temp", row["node"]), {}),
            ahead.get(("inlet", row["node"]), {}),
            caps.get(row["node"]),
            ask,
        )
        for row in ask.rows("page_servers")
    )


def _server(row: Row, gpu: Row, gpu_ahead: Row, inlet_ahead: Row, cap_mhz: float | None, ask: Asker) -> ServerNow:
    # NVML's own reading of each GPU wins over what another source says of the hottest one.
    hottest_c = gpu["gpu_max_c"] if gpu.get("gpu_max_c") is not None else row["gpu_max_c"]
    return ServerNow(
        node=row["node"],
        row=row["row"],
        rack=row["rack"],
        slot=row["slot"],
        tenant=row["tenant"],
        endpoint=row["endpoint"],
        priority=row["priority"],
        seen=ask.at.seen(_newest(row, gpu, "created_wall"), _newest(row, gpu, "ts")),
        inlet_c=row["inlet_c"],
        gpu_max_c=hottest_c,
        slowdown_c=row["slowdown_c"],
        margin_k=None if hottest_c is None else row["slowdown_c"] - hottest_c,
        hottest_gpu=gpu.get("hottest_gpu"),
        power_w=row["power_w"],
        gpu_median_c=gpu_ahead.get("median_c"),
        gpu_upper_c=gpu_ahead.get("upper_c"),
        inlet_upper_c=inlet_ahead.get("upper_c"),
        max_mhz=cap_mhz,
        slowed_gpus=gpu.get("slowed", 0),
        lost_gpus=gpu.get("lost", 0),
    )


def _newest(row: Row, gpu: Row, column: str) -> datetime | None:
    return max((t for t in (row[column], gpu.get(column)) if t is not None), default=None)


def hottest(found: Sequence[ServerNow]) -> tuple[str, ...]:
    """Return the names of the ten servers with the least margin to slowdown, worst first."""
    known = sorted((s.margin_k, s.node) for s in found if s.margin_k is not None)
    return tuple(node for _, node in known[:HOTTEST])
