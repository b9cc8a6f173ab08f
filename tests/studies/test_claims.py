from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from studies import claims, parameters, settled
from studies.claims import CLAIMS, Claim
from twin import fleet as fleets
from twin import steady
from twin.demand import Demand
from twin.scenario import load
from twin.warmup import plain_workload


class Watched(Mapping[str, float]):
    """A point that remembers what was read of it."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values_, self.read = dict(values), set[str]()

    def __getitem__(self, name: str) -> float:
        self.read.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


DEFAULTS = parameters.defaults(parameters.load())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_claim_reads_the_parameters_that_it_names_and_no_others(claim: Claim) -> None:
    point = Watched(DEFAULTS)
    assert np.isfinite(claim.evaluate(point))
    assert point.read == set(claim.reads)


def test_the_settled_site_is_the_twins() -> None:
    """No clock lowered, air as asked for, cool enough that the twin holds no GPU at its slowdown."""
    scenario, workload = load("demo"), plain_workload()
    fleet = fleets.build(scenario, claims.SEED)
    demand = Demand(scenario, workload, fleet, claims.SEED)
    moment, outside = np.array([600.0]), np.array([18.0])
    theirs = steady.settle(scenario, workload, fleet, demand, moment, supplied_cfm=np.inf, outside_c=outside)
    rps = np.zeros(len(fleet.row))
    rps[fleet.instance_server] = theirs.rps[0]
    site = claims.demo_site()._replace(rps=rps, level=demand.levels(moment)[0], outside_c=18.0, supplied_cfm=np.full(1, np.inf))
    ours = settled.settle(site, DEFAULTS)
    assert theirs.gpu_max_c.max() < 85.0
    assert ours.die_c.max(axis=1) == pytest.approx(theirs.gpu_max_c[0], abs=0.02)
    assert ours.gpu_w.sum(axis=1) == pytest.approx(theirs.gpu_w[0], rel=1e-4)
    assert ours.duty == pytest.approx(theirs.duty[0], abs=1e-3)
    assert ours.airflow_cfm == pytest.approx(theirs.airflow_cfm[0], rel=1e-4)
    assert settled.row_power(site, ours, DEFAULTS) == pytest.approx(theirs.row_w[0], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "sign"),
    [("recirculation", -1), ("h100_resistance", -1), ("inlet_slope", -1), ("decode_base", -1), ("power_exponent", 1)],
)
def test_the_margin_moves_the_way_that_physics_says(name: str, sign: int) -> None:
    (p,) = parameters.select(parameters.load(), (name,))
    margin = claims.lowered_clock_ends_slowdown
    assert sign * (margin({**DEFAULTS, name: p.high}) - margin({**DEFAULTS, name: p.low})) > 0


def test_lower_clocks_cool_and_save() -> None:
    site = claims.demo_site()
    hot, cool = (settled.settle(site, DEFAULTS, mhz) for mhz in (1980.0, 1000.0))
    assert (cool.die_c.max(axis=1) < hot.die_c.max(axis=1)).all()  # the opaque half too: it gets cooler air
    assert (settled.row_power(site, cool, DEFAULTS) < settled.row_power(site, hot, DEFAULTS)).all()


def test_a_site_that_finds_no_rest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "ROUNDS", 3)
    with pytest.raises(ArithmeticError, match="after 3 rounds"):
        settled.settle(claims.demo_site(), DEFAULTS)
