from typing import Any

import numpy as np
import pytest

from forecast.champion import band_of, choose, eligible, ratios
from forecast.rolling import Residuals
from tests.forecast.synthetic import at

NOW = at(0)


@pytest.mark.parametrize(
    ("errors", "previous", "winner", "reason"),
    [
        ({"persistence": 1.0, "ridge": 0.8}, "", "ridge", "first"),
        ({"persistence": 1.0}, "", "persistence", "only one"),
        ({"persistence": 1.0, "ridge": 0.80, "autoreg": 0.79}, "ridge", "ridge", "kept"),
        ({"persistence": 1.0, "ridge": 0.80, "autoreg": 0.70}, "ridge", "autoreg", "better"),
        ({"persistence": 1.0, "ridge": 1.05}, "ridge", "persistence", "worse than naive"),
        ({"persistence": 1.0, "ridge": 1.01}, "ridge", "ridge", "kept"),
        ({"persistence": 1.0, "ridge": 0.8}, "prophet", "ridge", "gone"),
        ({"persistence": 1.0, "seasonal_naive": 0.99}, "persistence", "persistence", "kept"),
    ],
)
def test_who_wins_and_why(errors: dict[str, float], previous: str, winner: str, reason: str) -> None:
    choice = choose("load", "short", errors, previous, NOW)
    assert (choice.model, choice.reason, choice.previous, choice.errors) == (winner, reason, previous, errors)


def test_nobody_to_choose_from_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no model"):
        choose("load", "short", {}, "", NOW)


def test_bands_of_horizons() -> None:
    assert [band_of(s) for s in (60, 900, 901, 3_600, 3_601, 86_400, 100_000)] == ["short"] * 2 + ["hour"] * 2 + ["day"] * 3


def past(model: str, error: float, **changes: Any) -> Residuals:
    shape = (4, 2, 3)
    fields: dict[str, Any] = {
        "model": model,
        "origins": np.arange(4),
        "origin_ts": np.arange(4) * 300,
        "step_s": 300,
        "knots": np.array([1, 12]),
        "paths": np.zeros(shape),
        "errors": np.full(shape, error),
        "scale": np.ones((4, 3)),
    }
    return Residuals(**{**fields, **changes})


def test_errors_are_ratios_to_persistence_on_the_points_that_both_forecast() -> None:
    half = np.full((4, 2, 3), 1.0)
    half[:2] = np.nan
    pasts = [past("persistence", 2.0), past("ridge", -1.0), past("half", 0.0, errors=half), past("silent", np.nan)]
    assert ratios(pasts, "short", since_s=0) == {"persistence": 1.0, "ridge": 0.5, "half": 0.5}


def test_only_recent_origins_and_the_bands_own_horizons_count() -> None:
    errors = np.full((4, 2, 3), 1.0)
    errors[0] = 100.0
    errors[:, 1] = 5.0
    pasts = [past("persistence", 2.0), past("ridge", 0.0, errors=errors)]
    assert ratios(pasts, "short", since_s=300)["ridge"] == 0.5
    assert ratios(pasts, "hour", since_s=300)["ridge"] == 2.5
    assert ratios(pasts, "day", since_s=300) == {}


def test_a_day_ahead_only_the_ensemble_and_the_naive_ones_stand() -> None:
    errors = {"persistence": 1.0, "ridge": 0.1, "ensemble": 0.5, "seasonal_naive": 0.6, "autoreg": float("inf")}
    assert set(eligible("day", errors)) == {"persistence", "ensemble", "seasonal_naive"}
    assert set(eligible("hour", errors)) == {"persistence", "ridge", "ensemble", "seasonal_naive"}
    assert set(eligible("day", {"persistence": 1.0, "ridge": 0.1})) == {"persistence", "ridge"}
