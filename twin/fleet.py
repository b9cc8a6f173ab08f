"""The site of a scenario: its public topology, and the hidden differences between its units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.topology import Aisle, Endpoint, Hardware, Row, Server, Topology, Ups
from twin import calibration as c
from twin.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HARDWARE = Hardware(
    name="dgx-h100",
    gpus=c.GPUS,
    gpu_tdp_w=c.TDP_W,
    max_clock_mhz=c.MAX_MHZ,
    base_clock_mhz=1410.0,
    min_clock_mhz=800.0,
    brake_clock_mhz=c.BRAKE_MHZ,
    slowdown_c=c.SLOWDOWN_C,
    shutdown_c=c.SHUTDOWN_C,
    max_power_w=10_200.0,  # [S] DGX H100 data sheet
    idle_power_w=3_200.0,
    airflow_idle_cfm=450.0,
    airflow_max_cfm=1_105.0,  # [P]
)
MODEL = "llama2-70b"


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What the twin knows of its units and nobody else does. S servers, 8 GPUs each, I instances; temperatures in kelvin."""

    topology: Topology
    row: Ints
    """[S]"""
    aisle: Ints
    """[S]"""
    endpoint: Ints
    """[S] -1 = none"""
    instance: Ints
    """[S] -1 = none"""
    instance_server: Ints
    """[I]"""
    instance_endpoint: Ints
    """[I]"""
    customer: Ints
    """[S] IaaS customer, -1 = none"""
    resistance: Floats
    """[S, 8] thermal resistance relative to the mean one"""
    power_factor: Floats
    """[S, 8] board power relative to the mean one"""
    inlet_offset_c: Floats
    """[S] row, rack and server together"""
    temp_bias_c: Floats
    """[S, 8] sensor bias"""
    inlet_bias_c: Floats
    """[S]"""
    memory_offset_c: Floats
    """[S, 8]"""


def build(scenario: Scenario, seed: int, *, placement: tuple[NDArray[np.bool_], Ints] | None = None) -> Fleet:
    """Return the fleet of `scenario`; the same seed gives the same units.

    `placement` = (is SaaS [S], customer or endpoint group [S]); absent: SaaS and IaaS alternate, customers spread.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    servers = scenario.rows * scenario.servers_per_row
    row = np.repeat(np.arange(scenario.rows), scenario.servers_per_row)
    slot = np.tile(np.arange(scenario.servers_per_row), scenario.rows)
    saas, group = (_spread(servers, scenario.saas_share), None) if placement is None else placement
    instance = np.where(saas, np.cumsum(saas) - 1, -1)
    endpoint = np.where(saas, (instance if group is None else group) % scenario.endpoints, -1)
    iaas_rank = np.cumsum(~saas) - 1
    customer = np.where(saas, -1, iaas_rank // scenario.iaas_group if group is None else group)
    instance_server = np.flatnonzero(saas)
    return Fleet(
        topology=_topology(scenario, row, slot, saas, endpoint, customer),
        row=row,
        aisle=row // 2,
        endpoint=endpoint,
        instance=instance,
        instance_server=instance_server,
        instance_endpoint=endpoint[instance_server],
        customer=customer,
        resistance=np.clip(rng.normal(1.0, c.RESISTANCE_SD / c.RESISTANCE_MEAN, (servers, c.GPUS)), 0.6, 1.5),
        power_factor=rng.normal(1.0, c.GPU_POWER_SD, (servers, c.GPUS)) * rng.normal(1.0, c.INSTANCE_POWER_SD, (servers, 1)),
        inlet_offset_c=_inlet_offset(scenario, row, slot, rng),
        temp_bias_c=rng.normal(0.0, c.SENSOR_BIAS_SD_C, (servers, c.GPUS)),
        inlet_bias_c=rng.normal(0.0, c.SENSOR_BIAS_SD_C, servers),
        memory_offset_c=rng.normal(c.MEMORY_OFFSET_C, c.MEMORY_SD_C, (servers, c.GPUS)),
    )


def _spread(count: int, share: float) -> NDArray[np.bool_]:
    """`share` of `count` positions, evenly spread."""
    steps = np.floor(np.arange(count + 1) * share + 1e-9)
    picked: NDArray[np.bool_] = np.diff(steps) > 0
    return picked


def _inlet_offset(scenario: Scenario, row: Ints, slot: Ints, rng: np.random.Generator) -> Floats:
    """Row up to 1, racks up to 2 rising to the ends of the row, server sd .7, some consistently hot (TAPAS 2.3)."""
    racks = max(1, -(-scenario.servers_per_row // scenario.servers_per_rack))
    middle = (racks - 1) / 2
    to_end = np.abs(slot // scenario.servers_per_rack - middle) / max(middle, 1.0)
    rows = rng.uniform(0.0, c.ROW_SPREAD_C, scenario.rows)[row]
    hot = np.where(rng.random(len(row)) < c.HOT_SERVER_SHARE, c.HOT_SERVER_C, 0.0)
    offset: Floats = rows + c.RACK_SPREAD_C * to_end + rng.normal(0.0, c.SERVER_SD_C, len(row)) + hot
    return offset


def _topology(scenario: Scenario, row: Ints, slot: Ints, saas: NDArray[np.bool_], endpoint: Ints, customer: Ints) -> Topology:
    high_iaas = _spread(int((~saas).sum()), scenario.iaas_high_share)
    iaas_rank = np.cumsum(~saas) - 1
    servers = []
    for i in range(len(row)):
        high = endpoint[i] < scenario.high_priority_endpoints if saas[i] else high_iaas[iaas_rank[i]]
        servers.append(
            Server(
                name=f"n{i + 1:03d}",
                row=f"row-{row[i] + 1}",
                rack=f"r{row[i] + 1}k{slot[i] // scenario.servers_per_rack + 1:02d}",
                slot=int(slot[i] % scenario.servers_per_rack),
                hardware=HARDWARE.name,
                tenant="saas" if saas[i] else "iaas",
                endpoint=f"chat-{endpoint[i] + 1}" if saas[i] else None,
                customer="provider" if saas[i] else f"customer-{customer[i] + 1}",
                priority="high" if high else "low",
            )
        )
    aisles = (scenario.rows + 1) // 2
    upses = tuple(f"ups-{u + 1}" for u in range(scenario.upses))
    # 4N/3: any three of four carry the full load (TAPAS 2.1); in general all but one.
    ups_limit_w = scenario.rows * scenario.row_limit_w / max(1, scenario.upses - 1)
    return Topology(
        site=scenario.name,
        hardware=(HARDWARE,),
        servers=tuple(servers),
        rows=tuple(
            Row(name=f"row-{r + 1}", aisle=f"aisle-{r // 2 + 1}", upses=upses, power_limit_w=scenario.row_limit_w)
            for r in range(scenario.rows)
        ),
        aisles=tuple(
            Aisle(
                name=f"aisle-{a + 1}",
                ahus=tuple(f"ahu-{a * scenario.ahus + k + 1}" for k in range(scenario.ahus)),
                airflow_limit_cfm=scenario.aisle_limit_cfm,
            )
            for a in range(aisles)
        ),
        upses=tuple(Ups(name=name, power_limit_w=ups_limit_w) for name in upses),
        endpoints=tuple(_endpoint(scenario, e) for e in range(scenario.endpoints) if saas.any()),
        ups_lost_share=c.UPS_LOST_SHARE,
        ahu_lost_share=c.AHU_LOST_SHARE,
    )


def _endpoint(scenario: Scenario, position: int) -> Endpoint:
    """Objectives are `slo_factor` times an unloaded request: first token of a long prompt, decode step of a batch of one."""
    lat, n = c.H100_TP8_2023, scenario.slo_prompt_tokens
    return Endpoint(
        name=f"chat-{position + 1}",
        model=MODEL,
        ttft_slo_s=round(scenario.slo_factor * (lat.p0 + lat.p1 * n + lat.p2 * n * n), 3),
        tbt_slo_s=round(scenario.slo_factor * (lat.d0 + lat.d1 + lat.d2 * n), 3),
        priority="high" if position < scenario.high_priority_endpoints else "low",
    )
