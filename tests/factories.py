"""Small inputs for tests: a topology, a View in which nothing is wrong, and changes to it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from contracts.topology import Aisle, Endpoint, Hardware, Row, Server, Topology, Ups
from contracts.view import View
from control.index import build

NOW = datetime(2026, 7, 15, 14, 0, tzinfo=UTC)

H100 = Hardware(
    name="dgx-h100",
    gpus=8,
    gpu_tdp_w=700,
    max_clock_mhz=1980,
    base_clock_mhz=1410,
    min_clock_mhz=800,
    slowdown_c=87,
    shutdown_c=92,
    max_power_w=10_200,
    idle_power_w=3_200,
    airflow_idle_cfm=450,
    airflow_max_cfm=1105,
)


def make_topology(servers_per_row: int = 4, rows: int = 2, row_limit_w: float = 30_000.0) -> Topology:
    """Rows in pairs share an aisle; servers alternate saas (endpoint chat, high) and iaas (low)."""
    servers = tuple(
        Server(
            name=f"r{r}s{i}",
            row=f"row-{r}",
            rack=f"r{r}k{i // 4}",
            slot=i % 4,
            hardware="dgx-h100",
            tenant="saas" if i % 2 == 0 else "iaas",
            endpoint="chat" if i % 2 == 0 else None,
            customer="acme",
            priority="high" if i % 2 == 0 else "low",
        )
        for r in range(rows)
        for i in range(servers_per_row)
    )
    aisles = (rows + 1) // 2
    return Topology(
        site="test",
        hardware=(H100,),
        servers=servers,
        rows=tuple(
            Row(name=f"row-{r}", aisle=f"aisle-{r // 2}", upses=("ups-0", "ups-1"), power_limit_w=row_limit_w)
            for r in range(rows)
        ),
        aisles=tuple(
            Aisle(name=f"aisle-{a}", ahus=(f"ahu-{a}a", f"ahu-{a}b"), airflow_limit_cfm=1105.0 * servers_per_row * 2)
            for a in range(aisles)
        ),
        upses=tuple(Ups(name=f"ups-{u}", power_limit_w=row_limit_w * rows) for u in range(2)),
        endpoints=(Endpoint(name="chat", model="llama2-70b", ttft_slo_s=2.0, tbt_slo_s=0.1, priority="high"),),
    )


def make_view(topology: Topology | None = None, **changes: Any) -> View:
    """A fresh, healthy View (50 % of the row limit, 25 degC inlet, 60 degC GPUs) with `changes` to its fields."""
    topology = topology or make_topology()
    index = build(topology)
    servers, gpus, rows = len(topology.servers), len(index.gpu_server), len(topology.rows)
    serving = index.server_endpoint >= 0
    per_row = np.bincount(index.server_row, minlength=rows)
    view = View(
        now=NOW,
        topology=topology,
        index=index,
        gpu_power_w=np.full(gpus, 400.0),
        gpu_temp_c=np.full(gpus, 60.0),
        gpu_clock_mhz=np.full(gpus, 1980.0),
        gpu_reasons=np.zeros(gpus, dtype=np.int64),
        gpu_age_s=np.full(gpus, 1.0),
        inlet_c=np.full(servers, 25.0),
        server_power_w=np.full(servers, 5_500.0),
        server_age_s=np.full(servers, 1.0),
        running=np.where(serving, 10.0, np.nan),
        waiting=np.where(serving, 0.0, np.nan),
        requests_rps=np.where(serving, 2.0, np.nan),
        slo_ok_pct=np.where(serving, 100.0, np.nan),
        endpoint_age_s=np.where(serving, 1.0, np.inf),
        row_power_w=index.row_limit_w * 0.5,
        row_power_max_w=index.row_limit_w * 0.52,
        row_age_s=np.full(rows, 1.0),
        row_measured=np.ones(rows, dtype=np.bool_),
        aisle_airflow_cfm=np.array([700.0 * per_row[index.row_aisle == a].sum() for a in range(len(topology.aisles))]),
        ups_lost=np.zeros(len(topology.upses), dtype=np.bool_),
        ahu_lost=np.zeros(len(index.ahu), dtype=np.bool_),
        outside_c=25.0,
    )
    return replace(view, **changes)
