"""The fluid engine against the exact one, on the same plant; and what intervals of it are."""

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pytest

from contracts.workload import Workload
from twin.fluid import Fluid
from twin.intervals import lived
from twin.scenario import Scenario, load
from twin.world import World

RUN_S, LEAD_S, LOOK_S = 1200, 3600, 60
CAPACITY_RPS = 3.9
"""of an instance on four GPUs: the plain workload then keeps 128 requests in its batch"""


class Found(NamedTuple):
    gpu_mj: float
    batch: float
    hottest_c: float
    """of each server, mean over servers and time"""
    peak_row_w: float
    """highest 5 min mean"""


def small(**overrides: object) -> Scenario:
    given: dict[str, object] = {
        "servers_per_row": 8,
        "endpoints": 2,
        "high_priority_endpoints": 1,
        "row_limit_w": 60e3,
        "aisle_limit_cfm": 14e3,  # less than is asked for: recirculation belongs to it
    }
    return load("normal", **(given | overrides))


def exactly(scenario: Scenario, workload: Workload) -> Found:
    world = World(scenario, workload, 3)
    hottest = []
    for second in range(LOOK_S, RUN_S + 1, LOOK_S):
        world.advance(scenario.start + timedelta(seconds=second))
        hottest.append(world.state.die_c.max(axis=1).mean())
    inst = world.serving.s.inst
    return Found(
        gpu_mj=world.state.energy_j.sum() / 1e6,
        batch=inst["batch_s"].sum() / RUN_S / len(inst),
        hottest_c=float(np.mean(hottest)),
        peak_row_w=float(world.row_power(0).reshape(-1, 300, 2).mean(axis=1).max()),
    )


def as_flows(scenario: Scenario, workload: Workload) -> Found:
    fluid = Fluid(scenario, workload, 3, at_s=-LEAD_S)
    lived(fluid, LEAD_S // LOOK_S, LOOK_S, LOOK_S)
    means = lived(fluid, RUN_S // LOOK_S, LOOK_S, 5)
    return Found(
        gpu_mj=means.gpu_w.sum(axis=1).mean() * RUN_S / 1e6,
        batch=means.batch.mean(),
        hottest_c=means.gpu_max_c.mean(),
        peak_row_w=float(means.row_w.reshape(-1, 5, 2).mean(axis=1).max()),
    )


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75, 0.9])
def test_flows_come_to_what_requests_come_to(share: float, workload: Workload, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = small(peak_rps=share * CAPACITY_RPS)
    exact, fluid = exactly(scenario, workload), as_flows(scenario, workload)
    off = Found(*(b / a - 1.0 for a, b in zip(exact, fluid, strict=True)))
    kelvin = fluid.hottest_c - exact.hottest_c
    with capsys.disabled():
        print(
            f"\nload {share}: energy {off.gpu_mj:+.2%}, batch {exact.batch:.1f} {off.batch:+.1%}, hottest {kelvin:+.2f} K,"
            f" peak row {off.peak_row_w:+.2%}"
        )
    assert abs(off.gpu_mj) < 0.01
    assert abs(off.batch) < 0.08
    assert abs(kelvin) < 0.5
    assert abs(off.peak_row_w) < 0.015
