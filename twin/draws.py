"""How units of one kind differ: every unit's own parameters, drawn from the means and spreads of its profile."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.topology import Topology
from twin import calibration as c
from twin.hardware import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


RESISTANCE_SERVER_SHARE = 0.8
"""[F] of the resistance's variance belongs to the server, the rest to the single GPU: TAPAS has at most 10 degC between the
GPUs of a server and more than 20 across all (Fig. 9), and a worst placement 13 K above the typical one"""


class Draws(NamedTuple):
    """S servers with G GPUs each; meanings stand in `twin.fleet.Fleet`."""

    resistance: Floats
    power_factor: Floats
    inlet_offset_c: Floats
    temp_bias_c: Floats
    memory_offset_c: Floats
    inlet_bias_share: Floats
    leakage: Floats
    overhead: Floats
    airflow: Floats


def draw(topology: Topology, profiles: tuple[Profile, ...], row: Ints, kind: Ints, seed: int) -> Draws:
    """Return what differs from unit to unit; a normal spread unless said otherwise."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    later = np.random.Generator(np.random.PCG64([seed, 7]))
    servers, gpus = len(row), profiles[kind[0]].sheet.gpus
    of = per_server(profiles, kind)

    def each(spread: Floats) -> Floats:
        return rng.normal(1.0, spread[:, None], (servers, gpus))

    spread = of(lambda p: p.heat.resistance_sd / p.heat.resistance_mean)
    own = rng.normal(0.0, np.sqrt(1.0 - RESISTANCE_SERVER_SHARE), (servers, gpus))
    shared = rng.normal(0.0, np.sqrt(RESISTANCE_SERVER_SHARE), (servers, 1))
    return Draws(
        resistance=np.clip(1.0 + spread[:, None] * (own + shared), 0.6, 1.5),
        power_factor=each(of(lambda p: p.power.gpu_sd)) * rng.normal(1.0, of(lambda p: p.power.instance_sd))[:, None],
        inlet_offset_c=_inlet_offset(topology, row, rng),
        temp_bias_c=rng.normal(0.0, of(lambda p: p.sensors.gpu_sd_c)[:, None], (servers, gpus)),
        memory_offset_c=rng.normal(
            of(lambda p: p.sensors.memory_offset_c)[:, None], of(lambda p: p.sensors.memory_sd_c)[:, None], (servers, gpus)
        ),
        inlet_bias_share=later.normal(0.0, of(lambda p: p.sensors.inlet_share)),
        leakage=np.clip(later.normal(1.0, of(lambda p: p.power.leakage_sd)), 0.2, 1.8),
        overhead=np.clip(later.normal(1.0, of(lambda p: p.power.overhead_sd)), 0.5, 1.5),
        airflow=np.clip(later.normal(1.0, of(lambda p: p.fans.cfm_sd)), 0.5, 1.5),
    )


def per_server(profiles: tuple[Profile, ...], kind: Ints) -> Callable[[Callable[[Profile], float]], Floats]:
    """Return a function that gives a value of the profiles for each server [S]."""

    def of(value: Callable[[Profile], float]) -> Floats:
        return np.array([value(p) for p in profiles], dtype=np.float64)[kind]

    return of


def _inlet_offset(topology: Topology, row: Ints, rng: np.random.Generator) -> Floats:
    """Row up to 1, racks up to 2 rising to the ends of the row, server sd .7, some consistently hot (TAPAS 2.3).

    Relative to an average position: what is expected of all of them is taken off.
    """
    place: dict[str, tuple[int, int]] = {}
    racks = np.zeros(len(topology.rows), dtype=np.int64)
    for r, server in zip(row.tolist(), topology.servers, strict=True):
        if server.rack not in place:
            place[server.rack] = (r, int(racks[r]))
            racks[r] += 1
    middle = (racks[row] - 1) / 2
    position = np.array([place[s.rack][1] for s in topology.servers])
    to_end = np.abs(position - middle) / np.maximum(middle, 1.0)
    rows = rng.uniform(0.0, c.ROW_SPREAD_C, len(racks))[row]
    hot = np.where(rng.random(len(row)) < c.HOT_SERVER_SHARE, c.HOT_SERVER_C, 0.0)
    expected = c.ROW_SPREAD_C / 2.0 + c.RACK_SPREAD_C * to_end.mean() + c.HOT_SERVER_C * c.HOT_SERVER_SHARE
    offset: Floats = rows + c.RACK_SPREAD_C * to_end + rng.normal(0.0, c.SERVER_SD_C, len(row)) + hot - expected
    return offset
