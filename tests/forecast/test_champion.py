from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from forecast.champion import Contest, band_of, choose, contest, eligible, shrunk, speakers
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
    choice = choose("inlet", "short", errors, previous, NOW, kind="bursty")
    assert (choice.target, choice.kind, choice.band, choice.at) == ("inlet", "bursty", "short", NOW)
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


def found(pasts: list[Residuals], band: Any = "short", kinds: tuple[str, ...] = ("", "", ""), since_s: int = 0) -> Contest:
    one = contest(pasts, "inlet", band, kinds, since_s=since_s)
    assert one is not None
    return one


def test_errors_are_ratios_to_persistence_on_the_points_that_both_forecast() -> None:
    half = np.full((4, 2, 3), 1.0)
    half[:2] = np.nan
    pasts = [past("persistence", 2.0), past("ridge", -1.0), past("half", 0.0, errors=half), past("silent", np.nan)]
    one = found(pasts)
    assert one.kinds[""] == {"persistence": 1.0, "ridge": 0.5, "half": 0.5}
    assert one.models == ("persistence", "half", "ridge")
    np.testing.assert_allclose(one.series, [[1.0] * 3, [0.5] * 3, [0.5] * 3])


def test_only_recent_origins_and_the_bands_own_horizons_count() -> None:
    errors = np.full((4, 2, 3), 1.0)
    errors[0] = 100.0
    errors[:, 1] = 5.0
    pasts = [past("persistence", 2.0), past("ridge", 0.0, errors=errors)]
    assert found(pasts, since_s=300).kinds[""]["ridge"] == 0.5
    assert found(pasts, "hour", since_s=300).kinds[""]["ridge"] == 2.5
    assert contest(pasts, "inlet", "day", ("", "", ""), since_s=300) is None
    assert contest([past("ridge", 1.0)], "inlet", "short", ("", "", ""), since_s=0) is None


def test_a_day_ahead_only_the_ensemble_and_the_naive_ones_stand() -> None:
    errors = {"persistence": 1.0, "ridge": 0.1, "ensemble": 0.5, "seasonal_naive": 0.6, "ets": 0.2}
    assert eligible("load", "day", errors) == ("persistence", "seasonal_naive", "ensemble")
    assert eligible("load", "hour", errors) == ("persistence", "ridge")
    assert eligible("inlet", "hour", errors) == ("persistence", "seasonal_naive", "ridge")
    assert eligible("load", "day", {"persistence": 1.0, "ridge": 0.1}) == ("persistence", "ridge")


def test_the_day_keeps_its_median_unless_naive_is_clearly_better() -> None:
    assert choose("load", "day", {"persistence": 1.0, "ensemble": 1.04}, "", NOW).model == "ensemble"
    assert choose("load", "day", {"persistence": 1.0, "ensemble": 1.06}, "", NOW).model == "persistence"
    assert choose("load", "day", {"persistence": 1.0, "ensemble": 1.06}, "ensemble", NOW).reason == "worse than naive"


def test_a_series_speaks_by_its_own_errors_as_far_as_there_are_days_of_them() -> None:
    hours = np.arange(0, 7 * 24, 2)
    shape = (len(hours), 1, 3)
    own = np.full(shape, 0.8)
    own[:, :, 0] = 1.3  # a week of being worse than persistence
    own[5:, :, 1] = np.nan
    own[:5, :, 1] = 1.3  # ten hours of it
    base = np.where(np.isnan(own), np.nan, 1.0)
    ages: dict[str, Any] = {
        "origins": hours * 12,
        "origin_ts": hours * 3_600,
        "knots": np.array([1]),
        "scale": np.ones(shape[::2]),
    }
    pasts = [past("persistence", 0.0, errors=base, **ages), past("ridge", 0.0, errors=own, **ages)]
    one = found(pasts, kinds=("bursty", "bursty", "bursty"))
    assert one.kinds["bursty"]["ridge"] == pytest.approx((1.3 + 1.3 + 0.8) / 3)
    prior = one.kinds["bursty"]["ridge"]
    np.testing.assert_allclose(one.series[1, 0], (7 * 1.3 + prior) / 8)
    np.testing.assert_allclose(one.series[1, 1], (5 / 12 * 1.3 + prior) / (17 / 12))
    assert [one.models[m] for m in speakers(one, np.full(3, -1))] == ["persistence", "persistence", "ridge"]


@given(
    own=arrays(np.float64, 5, elements=st.floats(0, 50)),
    kind=st.floats(0, 50),
    days=arrays(np.float64, 5, elements=st.floats(0, 100)),
)
@settings(deadline=None)
def test_shrinkage_lies_between_the_series_and_its_kind(
    own: NDArray[np.float64], kind: float, days: NDArray[np.float64]
) -> None:
    out = shrunk(own, kind, days)
    assert (out >= np.minimum(own, kind) - 1e-9).all()
    assert (out <= np.maximum(own, kind) + 1e-9).all()
    more = shrunk(own, kind, days + 1.0)
    assert (np.abs(more - own) <= np.abs(out - own) + 1e-9).all()
    np.testing.assert_allclose(shrunk(own, kind, np.zeros(5)), kind)


@given(
    errors=arrays(np.float64, (3, 6, 2, 4), elements=st.one_of(st.just(np.nan), st.just(0.0), st.floats(1e-9, 1e3))),
    factor=st.sampled_from([2.0**-8, 2.0**9]),
    seed=st.integers(0, 20),
)
@settings(deadline=None, max_examples=60)
def test_who_speaks_depends_on_neither_order_nor_unit(errors: NDArray[np.float64], factor: float, seed: int) -> None:
    ages: dict[str, Any] = {"origins": np.arange(6), "origin_ts": np.arange(6) * 300}
    kinds = ("smooth", "bursty", "smooth", "")

    def spoken(order: NDArray[np.int64], unit: float) -> list[str]:
        pasts = [
            past(name, 0.0, errors=row[:, :, order] * unit, scale=np.full((6, 4), unit), **ages)
            for name, row in zip(("persistence", "ridge", "kalman"), errors, strict=True)
        ]
        one = contest(pasts, "inlet", "short", [kinds[i] for i in order], since_s=0)
        return [] if one is None else [one.models[m] for m in speakers(one, np.full(4, -1))]

    usual = spoken(np.arange(4), 1.0)
    assert spoken(np.arange(4), factor) == usual
    order = np.random.default_rng(seed).permutation(4)
    shuffled = spoken(order, 1.0)
    ratios = [round(float(e), 6) for e in np.nan_to_num(errors).ravel()]
    if usual and len(set(ratios)) == len(ratios):  # without ties, where the sums' last digit may decide
        assert shuffled == [usual[i] for i in order]
