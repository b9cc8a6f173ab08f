from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from studies import claims, parameters, settled
from studies.claims import CLAIMS, Claim
from twin import made
from twin.events import down
from twin.flow import flow
from twin.fluid import Fluid
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
    hot, cool = (settled.settle(site, DEFAULTS, mhz) for mhz in (None, 1000.0))
    assert (cool.die_c.max(axis=1) < hot.die_c.max(axis=1)).all()  # the opaque half too: it gets cooler air
    assert (cool.row_w < hot.row_w).all()


def test_with_the_defaults_it_is_the_twin() -> None:
    """No clock lowered, weather in which no GPU comes to its slowdown."""
    site = claims.demo_site()._replace(outside_c=18.0)
    ours = settled.settle(site, DEFAULTS)
    fluid = Fluid(load("demo", ahu_lost_after_s=0.0), plain_workload(), claims.SEED)
    steps = 200
    rates, level = np.repeat(site.rps[None], steps, axis=0), np.repeat(site.level[None], steps, axis=0)
    made.supply_now(fluid.topology, down(fluid.scenario.happenings(), fluid.topology, 0.0), fluid.site.supply)
    flow(fluid.flow, fluid.means, fluid.site, fluid.cap_mhz, rates, level, np.full(steps, 18.0), settled.STEP_S, True)
    theirs = fluid.site.s
    assert theirs.die_c.max() < 85.0
    assert ours.die_c == pytest.approx(theirs.die_c, abs=0.05)
    assert ours.gpu_w == pytest.approx(theirs.gpu_w, rel=1e-3)
    assert ours.duty.tolist() == theirs.duty.tolist()
    assert ours.row_w == pytest.approx(theirs.row_w, rel=1e-3)
    assert ours.airflow_cfm == pytest.approx(theirs.airflow_cfm, rel=1e-6)


def test_settling_leaves_the_site_as_it_was() -> None:
    site = claims.demo_site()
    before = [values.copy() for values in (*site.fluid.site.s, *site.fluid.site.u, *site.fluid.flow, *site.fluid.site.supply)]
    settled.settle(site, {**DEFAULTS, "inlet_slope": 0.9, "decode_base": 300.0}, 1000.0)
    after = (*site.fluid.site.s, *site.fluid.site.u, *site.fluid.flow, *site.fluid.site.supply)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_site_that_finds_no_rest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "MOST_STEPS", 3)
    with pytest.raises(ArithmeticError, match="after 3 steps"):
        settled.settle(claims.demo_site(), DEFAULTS)
