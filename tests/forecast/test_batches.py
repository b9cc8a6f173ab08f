from datetime import datetime

import numpy as np
import polars as pl
import pytest

from contracts.errors import InputError
from forecast.batches import collection_gaps, to_batch
from tests.forecast.synthetic import at, daily, frame_of


def rows(*values: tuple[datetime, str, float | None]) -> pl.DataFrame:
    stamps, names, numbers = zip(*values, strict=True)
    return pl.DataFrame({"ts": [s.replace(tzinfo=None) for s in stamps], "series": names, "value": numbers})


def test_a_gridded_frame_comes_back_as_it_was() -> None:
    batch = daily(0.5)
    back = to_batch(frame_of(batch), "inlet", 300, at(43_200), at(0))
    assert back.names == batch.names
    np.testing.assert_array_equal(back.ts, batch.ts)
    np.testing.assert_allclose(back.values, batch.values)


def test_a_time_counts_to_the_interval_that_ends_after_it_and_repeats_are_averaged() -> None:
    frame = rows((at(301), "a", 1.0), (at(600), "a", 3.0), (at(900), "a", 7.0))
    batch = to_batch(frame, "power", 300, at(900), at(0))
    np.testing.assert_array_equal(batch.values, [[np.nan, 2.0, 7.0]])


def test_absent_impossible_and_marked_values_are_gaps() -> None:
    values = (None, float("nan"), 99.0, 5.0, 6.0)
    frame = rows(*((at(300 * (i + 1)), "a", value) for i, value in enumerate(values)))
    frame = frame.with_columns(gap=pl.Series([False, False, False, True, False]))
    batch = to_batch(frame, "power", 300, at(1500), at(0), upper=50.0)
    np.testing.assert_array_equal(batch.values, [[np.nan] * 4 + [6.0]])


def test_only_intervals_after_since_and_up_to_until_and_only_whole_ones() -> None:
    batch = to_batch(frame_of(daily(1)), "inlet", 300, at(1_000), at(300))
    np.testing.assert_array_equal(batch.ts, [at(600).timestamp(), at(900).timestamp()])


def test_given_names_fix_the_order_and_unknown_ones_are_all_gaps() -> None:
    batch = to_batch(frame_of(daily(0.1)), "inlet", 300, at(3_600), at(0), names=["s1", "new", "s0"])
    assert batch.names == ("s1", "new", "s0")
    assert np.isnan(batch.values[1]).all()
    assert not np.isnan(batch.values[[0, 2]]).any()


def test_busy_services_that_fall_silent_together_were_not_collected() -> None:
    load = np.full((2, 20), 3.0)
    load[:, 5:8] = 0.0
    load[0, 12] = 0.0
    load[:, 15] = 0.0
    gaps = collection_gaps(load, 300)
    np.testing.assert_array_equal(np.flatnonzero(gaps), [5, 6, 7])


def test_a_quiet_service_may_truly_be_silent() -> None:
    load = np.full((1, 20), 0.01)
    load[:, 5:8] = 0.0
    assert not collection_gaps(load, 300).any()


def test_wrong_frames_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="column value is missing"):
        to_batch(pl.DataFrame({"ts": [], "series": []}), "load", 300, at(600), at(0))
    with pytest.raises(InputError, match="no whole interval"):
        to_batch(frame_of(daily(1)), "load", 300, at(300), at(400))
