from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from studies import claims, parameters, settled
from studies.claims import CLAIMS, Claim


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
    hot, cool = (settled.settle(site, DEFAULTS, mhz) for mhz in (1980.0, 1000.0))
    assert (cool.die_c.max(axis=1) < hot.die_c.max(axis=1)).all()  # the opaque half too: it gets cooler air
    assert (settled.row_power(site, cool, DEFAULTS) < settled.row_power(site, hot, DEFAULTS)).all()


def test_a_site_that_finds_no_rest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "ROUNDS", 3)
    with pytest.raises(ArithmeticError, match="after 3 rounds"):
        settled.settle(claims.demo_site(), DEFAULTS)
