from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from contracts.workload import Workload
from twin import fleet
from twin.demand import Demand, Wander
from twin.scenario import load


def demand(workload: Workload, seed: int = 3, **overrides: object) -> Demand:
    scenario = load("normal", **overrides)
    return Demand(scenario, workload, fleet.build(scenario, seed), seed)


def test_the_run_begins_at_the_days_peak_and_at_the_given_weather(workload: Workload) -> None:
    steady = demand(workload, demand_sd=0.0)
    day = np.arange(-43_200.0, 43_200.0, 600.0)
    hour = steady.rates(np.arange(0.0, 3600.0, 60.0)).sum(axis=1).mean()
    assert hour == pytest.approx(80 * load("normal").peak_rps, rel=0.01)  # two instances on each of 40 servers
    assert steady.rates(day).sum(axis=1).max() <= hour * 1.02
    assert steady.outside_c(np.zeros(1))[0] == 35.0
    clock = demand(workload, demand_sd=0.0, start_at_peak=False, start=load("normal").start - timedelta(hours=12))
    assert clock.rates(np.zeros(1)).sum() < 0.5 * hour


def test_arrivals_are_what_the_rates_say_and_repeat(workload: Workload) -> None:
    one = demand(workload)
    blocks = [one.arrivals(b) for b in range(-5, 25)]
    total = sum(len(b.rows) for b in blocks)
    expected = one.rates(np.arange(-300.0, 1500.0) + 0.5).sum()
    assert total == pytest.approx(expected, rel=0.02)
    for number, block in zip(range(-5, 25), blocks, strict=True):
        for low, high in pairwise(block.first.tolist()):
            assert (np.diff(block.rows["at_s"][low:high]) >= 0).all()
        assert ((block.rows["at_s"] >= 60 * number) & (block.rows["at_s"] < 60 * number + 60)).all()
        assert min(block.rows["prompt"].min(), block.rows["output"].min()) >= 1
    again = demand(workload).arrivals(7)
    assert [a.tolist() for a in again] == [b.tolist() for b in one.arrivals(7)]


@pytest.mark.parametrize("burst_cv", [0.5, 1.0, 2.0])
def test_counts_are_as_dispersed_as_the_burstiness_asks(workload: Workload, burst_cv: float) -> None:
    bursty = demand(replace(workload, burst_cv=burst_cv), demand_sd=0.0)
    counts = np.concatenate(
        [
            np.bincount((b.rows["at_s"][: b.first[1]] - 60 * number).astype(int), minlength=60)
            for number in range(40)
            for b in [bursty.arrivals(number)]
        ]
    )
    assert counts.var() / counts.mean() == pytest.approx(max(1.0, burst_cv**2), rel=0.12)


def test_levels_differ_by_customer_and_stay_in_bounds(workload: Workload) -> None:
    levels = demand(workload).levels(np.arange(0.0, 86_400.0, 600.0))
    iaas = levels.max(axis=0) > 0
    assert iaas.sum() == 40
    assert levels.min() >= 0.0
    assert levels.max() <= 1.0
    busy = levels[:, iaas].mean(axis=0)
    assert ((busy > 0.8) | (busy < 0.3)).all()
    assert (busy > 0.8).mean() == pytest.approx(load("normal").iaas_hot_share)


def test_wander_has_unit_variance_and_no_start() -> None:
    wander = Wander(50, np.random.default_rng(1))
    values = wander.at(np.arange(-2e6, 2e6, 5e3))
    assert values.mean() == pytest.approx(0.0, abs=0.05)
    assert values.std() == pytest.approx(1.0, abs=0.05)
    assert np.array_equal(wander.at(np.array([123.0]))[0], wander.at(np.array([0.0, 123.0]))[1])
