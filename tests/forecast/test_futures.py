"""Announced events and the weather ahead: what is known of the future, and how surely."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InputError
from contracts.forecasts import LEVELS
from contracts.ports import Batch
from contracts.registry import FORECASTERS, load
from forecast.futures import Event, applied, apply, effect_of, events_of, touching, usual, widened
from forecast.grids import restricted
from forecast.produce import State, refit
from forecast.weather import Ahead, Errors, Issued, assumed_errors, forecast_outside, learnt_errors, provided, with_covariate
from tests.forecast.synthetic import T0_S, at, daily
from tests.forecast.ticking import tick

END_S = 2 * 86_400
TOML = """
[[event]]
name = "launch"
target = "load"
series = "chat*"
from = 2026-07-01T10:00:00+02:00
to = 2026-07-01T12:00:00
factor = 1.8
sd = 0.3
[[event]]
target = "power"
series = "row-3"
from = "2026-07-02T06:00:00Z"
to = "2026-07-02T09:00:00"
maintenance = true
"""


def seconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]


def event(from_s: int, to_s: int, **more: object) -> Event:
    return replace(Event(name="e", target="load", series="*", from_s=from_s, to_s=to_s), **more)  # type: ignore[arg-type]


def test_events_are_read_and_times_without_offset_are_utc() -> None:
    launch, down = events_of(TOML)
    assert launch == Event(
        name="launch",
        target="load",
        series="chat*",
        from_s=seconds(2026, 7, 1, 8),
        to_s=seconds(2026, 7, 1, 12),
        factor=1.8,
        sd=0.3,
    )
    assert (down.name, down.maintenance, down.from_s, down.to_s) == (
        "number 2",
        True,
        seconds(2026, 7, 2, 6),
        seconds(2026, 7, 2, 9),
    )
    assert events_of("") == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("factor = 1.8", "factor = -1"), "launch: factor = -1; give a number"),
        (("factor = 1.8", "factor = nan"), "launch: factor = nan"),
        (("sd = 0.3", "spread = 0.3"), "launch: spread is unknown"),
        (('target = "load"', ""), "launch: target is missing"),
        (("to = 2026-07-01T12:00:00", "to = 2026-07-01T07:00:00"), "launch: it must end after"),
        (("to = 2026-07-01T12:00:00", "to = 2026-07-01"), "launch: to must be a date with time"),
        (("maintenance = true", "maintenance = true\nfactor = 2"), "number 2: maintenance"),
        (("[[event]]", "[[events]]"), "not events"),
        (('"load"', "load"), "no TOML"),
    ],
)
def test_wrong_events_are_refused_in_one_line(change: tuple[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why.replace("[", r"\[")) as refused:
        events_of(TOML.replace(*change))
    assert "\n" not in str(refused.value)


def test_an_event_counts_by_its_share_of_an_interval_and_two_multiply() -> None:
    ends = np.array([300, 600, 900, 1_200])
    one = event(450, 900, factor=3.0, sd=0.4)
    effect = effect_of([one], "load", ("a", "b"), ends, 300)
    np.testing.assert_allclose(effect.factor, [[1.0, 2.0, 3.0, 1.0]] * 2)
    np.testing.assert_allclose(effect.sd, [[0, 0.2, 0.4, 0]] * 2)
    both = effect_of([one, event(600, 900, factor=0.5, sd=0.1, series="b")], "load", ("a", "b"), ends, 300)
    np.testing.assert_allclose(both.factor, [[1.0, 2.0, 3.0, 1.0], [1.0, 2.0, 1.5, 1.0]])
    assert both.sd[1, 2] == pytest.approx(np.hypot(0.4 * 0.5, 3.0 * 0.1))
    assert touching(both, ("a", "b")) == {"a": ("event: e",), "b": ("event: e, e",)}
    assert touching(effect_of([one], "power", ("a",), ends, 300), ("a",)) == {}


def test_apply_moves_medians_and_scale_and_knows_nothing_under_maintenance() -> None:
    ends = np.array([300, 600, 900])
    effect = effect_of([event(300, 600, factor=2.0, sd=0.5), event(600, 900, maintenance=True)], "load", ("a",), ends, 300)
    medians, scale = apply(effect, np.full((1, 3), 10.0), np.full((1, 3), 3.0))
    np.testing.assert_allclose(medians, [[10.0, 20.0, np.nan]])
    np.testing.assert_allclose(scale, [[3.0, np.hypot(6.0, 5.0), np.nan]])


@settings(max_examples=50, deadline=None)
@given(
    factor=st.floats(min_value=0.0, max_value=100.0),
    sd=st.floats(min_value=0.0, max_value=10.0),
    width=st.floats(min_value=0.0, max_value=50.0),
)
def test_quantiles_stay_ordered_and_within_bounds_whatever_is_announced(factor: float, sd: float, width: float) -> None:
    z = np.array([-2.3, -1.6, -0.7, 0, 0.7, 1.6, 2.3])
    values = np.maximum(20.0 + width * z, 0.0)[None, None, :].repeat(3, axis=1)
    effect = effect_of([event(300, 600, factor=factor, sd=sd)], "load", ("a",), np.array([300, 600, 900]), 300)
    out = applied(effect, values, LEVELS, lower=0.0, upper=np.array([500.0]))
    assert (np.diff(out, axis=2) >= 0).all()
    assert (out >= 0).all()
    assert (out <= 500.0).all()
    np.testing.assert_allclose(out[:, [0, 2]], values[:, [0, 2]], rtol=1e-12)
    assert out[0, 1, 3] == pytest.approx(min(20.0 * factor, 500.0))


def test_a_further_error_widens_in_quadrature_and_leaves_the_median() -> None:
    from statistics import NormalDist

    z = np.array([NormalDist().inv_cdf(p) for p in LEVELS])
    out = widened((10.0 + 3.0 * z)[None, None, :], LEVELS, np.array([[4.0]]))
    np.testing.assert_allclose(out[0, 0], 10.0 + 5.0 * z)


def test_the_past_is_freed_of_its_events_and_otherwise_left_alone() -> None:
    batch = daily(1, target="load", level=10.0)
    launch = event(int(batch.ts[99]), int(batch.ts[149]), factor=2.0, series="s1")
    swollen = batch.values.copy()
    swollen[1, 100:150] *= 2.0
    np.testing.assert_allclose(usual(replace(batch, values=swollen), [launch]).values, batch.values)
    masked = usual(batch, [replace(launch, maintenance=True)]).values
    assert np.isnan(masked[1, 100:150]).all()
    assert np.isnan(masked).sum() == 50
    assert np.isnan(usual(batch, [replace(launch, factor=0.0)]).values).sum() == 50
    assert usual(batch, [replace(launch, from_s=0, to_s=9)]) is batch


def test_a_launch_is_in_the_forecast_as_announced_and_named_and_yesterdays_is_not_expected_again() -> None:
    batch = daily(2, target="load", level=20.0, noise=0.2)
    now = at(END_S)

    def medians(given: Batch, *events: Event) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], tuple[str, ...]]:
        state = refit(State(), [given], now, events)
        forecasts, _ = tick(state, [given], [], None, {}, now, 1, events)
        (one,) = [f for f in forecasts if f.champion and f.series == "s0"]
        return np.array(one.values), one.degradations

    plain, _ = medians(batch)
    ahead, notes = medians(batch, event(T0_S + END_S, T0_S + END_S + 7_200, factor=2.0, sd=0.2, series="s0"))
    np.testing.assert_allclose(ahead[2:7, 3], 2 * plain[2:7, 3], rtol=1e-9)
    assert (ahead[4, 5] - ahead[4, 1]) > 2 * (plain[4, 5] - plain[4, 1])
    assert notes[0] == "event: e"
    np.testing.assert_allclose(ahead[15:], plain[15:], rtol=1e-9)
    past = event(int(batch.ts[299]), int(batch.ts[347]), factor=3.0, series="s0")
    values = batch.values.copy()
    values[0, 300:348] *= 3.0
    freed, notes = medians(replace(batch, values=values), past)
    np.testing.assert_allclose(freed, plain, rtol=1e-6)
    assert notes == ("coarse: no minute data",)


def test_maintenance_is_left_out_of_the_forecast_and_named_where_nothing_is_left() -> None:
    batch = daily(2, target="power", level=20_000.0, noise=50.0)
    now = at(END_S)
    state = refit(State(), [batch], now)
    soon = Event(
        name="row down", target="power", series="s0", from_s=T0_S + END_S + 800, to_s=T0_S + END_S + 9_000, maintenance=True
    )
    forecasts, _ = tick(state, [batch], [], None, {"s0": 30_000.0}, now, 1, [soon])
    by_target = {f.target: f for f in forecasts if f.champion and f.series == "s0"}
    for forecast in by_target.values():
        ahead = [(t - now).total_seconds() for t in forecast.valid_at]
        assert ahead[:4] == [60, 120, 300, 600]
        assert ahead[4] > 9_000
        assert "event: row down" in forecast.degradations
    whole = replace(soon, from_s=T0_S + END_S - 300, to_s=T0_S + END_S + 200_000)
    forecasts, after = tick(state, [batch], [], None, {}, now, 1, [whole])
    assert not any(f.series == "s0" for f in forecasts)
    assert "event: row down" in dict(after.without)["power/s0"]


def outside(days: float = 6.0) -> Batch:
    return replace(daily(days, series=1, target="outside", level=20.0, noise=0.05), names=("site",), lower=-70.0)


def test_a_provided_forecast_starts_from_what_is_measured_and_grows_unsure_with_its_age() -> None:
    known = outside(2)
    ts = np.arange(known.ts[-1] - 3_600, known.ts[-1] + 48 * 3_600, 3_600)
    issue = Issued(issued_s=int(known.ts[-1]) - 7_200, ts=ts, values=np.full(len(ts), known.values[0, -1] + 3.0))
    ahead = provided(issue, known, 600, Errors(lead_s=np.array([3_600, 86_400]), sigma=np.array([0.4, 2.0])))
    assert ahead.values[0] == pytest.approx(known.values[0, -1], abs=0.1)
    assert ahead.values[500] == pytest.approx(known.values[0, -1] + 3.0, abs=0.1)
    assert ahead.sigma[0] == pytest.approx(0.4 + 1.6 * (7_500 - 3_600) / 82_800)
    inside = ~np.isnan(ahead.values)
    assert (np.diff(ahead.sigma[inside]) >= 0).all()
    np.testing.assert_array_equal(np.isnan(ahead.sigma), ~inside)
    assert inside.sum() == (ts[-1] - known.ts[-1]) // 300


def test_the_error_by_lead_of_a_service_is_learnt_from_its_own_past() -> None:
    known = outside(20)
    rng = np.random.default_rng(2)
    issues = []
    for start in range(300, len(known.ts) - 400, 40):
        error = np.cumsum(rng.normal(0, 0.1, 400))  # a walk: sigma grows with the root of the lead, .1 K x sqrt(steps)
        issues.append(
            Issued(
                issued_s=int(known.ts[start]),
                ts=known.ts[start : start + 400],
                values=known.values[0, start : start + 400] + error - error[0],
            )
        )
    learnt = learnt_errors(issues, known, (3_600, 21_600, 86_400))
    np.testing.assert_allclose(learnt.sigma, [0.1 * np.sqrt(12), 0.1 * np.sqrt(72), 0.1 * np.sqrt(288)], rtol=0.25)
    few = learnt_errors(issues[:5], known, (3_600, 21_600))
    np.testing.assert_allclose(few.sigma[0], assumed_errors().at(np.array([3_600]))[0])


def test_errors_grow_with_the_lead_from_nothing() -> None:
    errors = Errors(lead_s=np.array([3_600, 7_200]), sigma=np.array([1.0, 2.0]))
    np.testing.assert_allclose(errors.at(np.array([0, 900, 3_600, 5_400, 7_200, 28_800])), [0, 0.5, 1, 1.5, 2, 4])


def test_the_line_ups_own_forecast_of_the_outside_covers_its_errors() -> None:
    known = outside(9)
    inside = []
    for cut in range(6 * 288, 8 * 288, 37):
        ahead = forecast_outside(restricted(known, cut - 1), load(FORECASTERS, "ridge")(), 72)
        inside.append(np.abs(ahead.values - known.values[0, cut : cut + 72]) < 1.645 * ahead.sigma)
    assert 0.75 < float(np.mean(inside)) <= 1.0
    short = forecast_outside(restricted(known, 20), load(FORECASTERS, "ridge")(), 12)
    np.testing.assert_array_equal(short.values, known.values[0, 20])
    assert (short.sigma > 0).all()


def test_a_covariate_holds_the_past_at_the_batchs_own_times_and_the_future_with_its_error() -> None:
    known, batch = outside(1), daily(1)
    late = replace(known, ts=known.ts[10:], values=known.values[:, 10:])
    ahead = Ahead(values=np.full(12, 21.0), sigma=np.linspace(0.1, 1.0, 12))
    out = with_covariate(batch, "outside_c", late, ahead)
    assert out.covariates["outside_c"].shape == (288 + 12,)
    assert np.isnan(out.covariates["outside_c"][:10]).all()
    np.testing.assert_array_equal(out.covariates["outside_c"][10:288], known.values[0, 10:])
    np.testing.assert_array_equal(out.covariate_errors["outside_c"], ahead.sigma)
    assert len(restricted(out, 99).covariates["outside_c"]) == 100
    both = replace(out, covariates={"load": np.zeros((3, 300))})
    assert restricted(both, 99).covariates["load"].shape == (3, 100)
    with pytest.raises(ValueError, match="grid of 300 s beside one of 600 s"):
        with_covariate(replace(batch, step_s=600), "outside_c", known, ahead)
