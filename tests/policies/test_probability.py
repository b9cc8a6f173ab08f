from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.forecasts import LEVELS
from policies.probability import exceedance, fan, survival
from tests.factories import NOW, make_view
from tests.policies.values import forecasts, make_forecast

LEVEL = np.array(LEVELS)
UNIFORM = LEVEL * 100.0
"""quantiles of a uniform distribution on 0..100, inside them"""


@pytest.mark.parametrize(("x", "expected"), [(50.0, 0.5), (60.0, 0.4), (95.0, 0.05), (99.0, 0.01), (1.0, 0.99)])
def test_between_quantiles_it_interpolates(x: float, expected: float) -> None:
    assert survival(LEVEL, UNIFORM[None], np.array([x]))[0] == pytest.approx(expected)


def test_tail_is_the_exponential_through_the_two_outer_quantiles() -> None:
    # from the 95 % to the 99 % quantile (4 apart) the tail falls fivefold, so 4 further it falls fivefold again
    assert survival(LEVEL, UNIFORM[None], np.array([103.0]))[0] == pytest.approx(0.002)
    assert survival(LEVEL, UNIFORM[None], np.array([-3.0]))[0] == pytest.approx(0.998)


def test_certain_forecast_is_a_step() -> None:
    certain = np.full((1, len(LEVEL)), 80.0)
    assert survival(LEVEL, certain, np.array([79.9]))[0] == 1 - LEVEL[0] * 0.0
    assert survival(LEVEL, certain, np.array([80.1]))[0] == 0.0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-1e5, 1e5), min_size=len(LEVELS), max_size=len(LEVELS)),
    st.lists(st.floats(-2e5, 2e5), min_size=2, max_size=2),
)
def test_probability_never_rises_with_the_limit(values: list[float], limits: list[float]) -> None:
    quantiles = np.sort(np.array(values))[None]
    low, high = sorted(limits)
    p_low, p_high = (survival(LEVEL, quantiles, np.array([x]))[0] for x in (low, high))
    assert 0.0 <= p_high <= p_low + 1e-12 <= 1.0 + 1e-9


def test_exceedance_takes_the_highest_step_and_its_lead() -> None:
    view = make_view(forecasts=forecasts(make_forecast("power", "row-0", [10, 10, 30, 30], spread=1.0)))
    of = fan(view, "power", ["row-0", "row-1"], horizon_s=600)
    found = exceedance(of, np.array([28.0, 28.0]))
    assert found.probability[0] > 0.7
    assert found.lead_s[0] == 180.0
    assert found.probability[1] == 0.0
    assert np.isnan(found.lead_s[1])
    assert of.known.tolist() == [True, False]


def test_fan_leaves_out_the_past_and_what_lies_beyond_the_horizon() -> None:
    made = make_forecast("power", "row-0", [1, 2, 3, 4, 5], issued_at=NOW - timedelta(seconds=90))
    of = fan(make_view(forecasts=forecasts(made)), "power", ["row-0"], horizon_s=120)
    assert of.quantile(0.5).tolist() == [[2.0, 3.0]]
    assert of.start.tolist() == [1.0]
    assert of.rise(0.5, 60.0).tolist() == [1.0]


def test_old_forecast_is_not_used() -> None:
    made = make_forecast("power", "row-0", [1.0] * 60, issued_at=NOW - timedelta(seconds=1000))
    of = fan(make_view(forecasts=forecasts(made)), "power", ["row-0"], horizon_s=900)
    assert not of.known.any()
    assert of.rise(0.99, 900).tolist() == [0.0]


def test_forecasts_of_different_length_and_levels_stand_together() -> None:
    long = make_forecast("power", "row-0", [1, 2, 3], spread=1.0)
    short = make_forecast("power", "row-1", [7], spread=0.0)
    of = fan(make_view(forecasts=forecasts(long, short)), "power", ["row-0", "row-1"], horizon_s=600)
    assert of.values.shape == (2, 3, len(LEVELS))
    assert of.rise(0.99, 600).tolist() == [5.0, 0.0]
