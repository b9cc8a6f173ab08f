"""Servers under constant load, settled by the twin's own plant: what published curves are held against."""

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin import fleet as fleets
from twin import plant
from twin.plant.air import inlet_base
from twin.scenario import Scenario, load

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP_S, STEPS = 60.0, 40
"""40 minutes: fans (10 s), sinks (up to 80 s) and leakage have long settled"""
AMPLE = 1e12
"""air (CFM) and cooling (W) that nothing exceeds"""
NEVER_C = 1e6
"""no shutdown: a table of all pairs holds some that no site would keep"""


class Settled(NamedTuple):
    """What N servers of G GPUs came to."""

    gpu_c: Floats
    """[N, G]"""
    server_w: Floats
    """[N] at the wall"""
    duty: Floats
    """[N]"""


def servers(hardware: str, rows: int, per_row: int) -> Scenario:
    """Return a scenario of opaque tenants' servers of one profile, its limits out of reach."""
    return load(
        "normal",
        hardware=hardware,
        rows=rows,
        servers_per_row=per_row,
        saas_share=0.0,
        row_limit_w=AMPLE,
        aisle_limit_cfm=AMPLE,
    )


def average(hardware: str) -> plant.Units:
    """Return one server whose units are all the profile's mean."""
    drawn = fleets.build(servers(hardware, 1, 1), 0)
    mean = {
        name: np.ones_like(getattr(drawn, name)) for name in ("resistance", "power_factor", "leakage", "overhead", "airflow")
    }
    return fleets.units(dataclasses.replace(drawn, inlet_offset_c=np.zeros(1), **mean))


def settle(u: plant.Units, which: Ints, inlet_c: Floats, gpu_w: Floats, *, drawn: bool = False) -> Settled:
    """Return what copies `which` [N] of the servers of `u` settle at under gpu_w [N, G] with inlets held at inlet_c [N].

    gpu_w is nominal: factor, leakage and the board's limit come on top. With `drawn` it is what a meter shows.
    """
    copies = _copies(u, which, inlet_c, drawn)
    s = plant.state(copies, 1, 1)
    ample = plant.Supply(
        aisle_cfm=np.array([AMPLE]),
        recirculation=np.zeros((1, 1)),
        cooling_share=np.ones(1),
        chiller_share=np.ones(1),
        capacity_w=np.array([AMPLE]),
    )
    nominal_w = np.ascontiguousarray(gpu_w, dtype=np.float64)
    for _ in range(STEPS):
        s.site_load_lagged[0] = 0.0  # its warmth is in the inlets given
        plant.step(copies, s, nominal_w, 0.0, ample, STEP_S)
    return Settled(s.die_c, s.server_w, s.duty)


def _copies(u: plant.Units, which: Ints, inlet_c: Floats, drawn: bool) -> plant.Units:
    copied = plant.Units._make(np.ascontiguousarray(values[which]) for values in u)
    copied = copied._replace(
        row=np.zeros(len(which), dtype=np.int64),
        aisle=np.zeros(len(which), dtype=np.int64),
        inlet_offset_c=np.ascontiguousarray(inlet_c - inlet_base(0.0, 0.0)),
        shutdown_c=np.full(len(which), NEVER_C),
    )
    if not drawn:
        return copied
    return copied._replace(
        tdp_w=np.full(len(which), AMPLE),
        leakage_per_k=np.zeros(len(which)),
        power_factor=np.ones_like(copied.power_factor),
    )
