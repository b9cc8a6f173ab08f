import numpy as np
import pytest

from forecast.maxima import LEVELS, WINDOWS_S
from studies.row_maxima import DAY_S, DAYS, REFIT_S, interval, rolled, rows_of, scenario, shown, spikes, sums


def test_a_forecast_of_noise_keeps_its_word_and_peers_are_scored_beside_it() -> None:
    rng = np.random.default_rng(0)
    power_w = 1e5 + 500 * rng.normal(0, 1, (2, 5 * 3600))
    found = rolled(power_w, REFIT_S, REFIT_S + 7200)
    assert set(found) == {"ours", "gaussian", "means"}
    records = {(r["forecaster"], r["window_s"], r["beyond"]): r for r in rows_of("noise", {7: found})}
    assert records["ours", 10.0, 0.01]["observed"] == pytest.approx(0.01, abs=0.008)
    assert records["ours", 10.0, 0.01]["windows"] == 2 * 720
    assert records["means", 45.0, 0.001]["observed"] > 0.9  # a mean knows nothing of a maximum
    assert records["ours", 45.0, 0.001]["pinball_w"] < records["gaussian", 45.0, 0.001]["pinball_w"]
    assert "observed" in shown(records["ours", 45.0, 0.001])


def test_an_unknown_maximum_is_not_counted() -> None:
    said = np.ones((1, 2, len(WINDOWS_S), len(LEVELS)))
    came = np.full((1, 2, len(WINDOWS_S)), 3.0)
    came[0, 1] = np.nan
    found = sums(said, came, np.zeros((1, 2)))
    assert found[0, 0].tolist() == [1.0, 1.0, 0.5 * 2, 1.0]


def test_the_interval_holds_the_rate() -> None:
    low, high = interval(np.stack([np.random.default_rng(0).poisson(10, 20), np.full(20, 1000)], axis=1).astype(float))
    assert low < 0.01 < high


def test_spikes_keep_apart_and_end_within_the_run() -> None:
    events = spikes(3)
    starts = np.array([event.at_s for event in events])
    assert (np.diff(starts) >= 3600).all()
    assert max(event.at_s + event.for_s for event in events) < DAYS * DAY_S
    assert scenario("spikes", 3).events == events
    assert not scenario("week", 3).events
    assert scenario("mixed", 3).rows == 4
