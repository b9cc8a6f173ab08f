import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InputError
from contracts.workload import Workload
from ingest import workload_statistics as published
from ingest.workload import WEEK_MIN, YEAR_MIN, Lengths, from_folder, generated, load

DAY_MIN = 1440


def assert_sound(workload: Workload) -> None:
    """What every workload must be, wherever it comes from."""
    assert (np.diff(workload.minute_of_week) > 0).all()
    assert workload.minute_of_week[0] >= 0
    assert workload.minute_of_week[-1] < WEEK_MIN
    assert workload.rate.max() == 1.0
    assert workload.rate.min() > 0
    assert workload.prompt_tokens.shape == workload.output_tokens.shape
    assert workload.prompt_tokens.min() >= 1
    assert workload.output_tokens.min() >= 1
    assert (np.diff(workload.outside_minute) > 0).all()
    assert workload.outside_minute[0] >= 0
    assert workload.outside_minute[-1] < YEAR_MIN
    assert workload.outside_c.min() > -30
    assert workload.outside_c.max() < 55
    assert 0.5 < workload.burst_cv < 5


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from(["azure2023", "mooncake"]))
def test_a_generated_workload_is_sound_whatever_the_seed(seed: int, lengths: Lengths) -> None:
    assert_sound(generated(seed, lengths=lengths))


def test_the_same_seed_gives_the_same_workload_and_another_seed_another() -> None:
    one, same, other = generated(7), generated(7), generated(8)
    assert (one.prompt_tokens == same.prompt_tokens).all()
    assert (one.outside_c == same.outside_c).all()
    assert (one.prompt_tokens != other.prompt_tokens).any()


def test_the_generated_week_has_the_published_peaks_and_valleys() -> None:
    rate = generated(0).rate
    assert 1 / rate.mean() == pytest.approx(published.PEAK_OVER_MEAN, rel=0.01)
    assert 1 / rate.min() == pytest.approx(published.PEAK_OVER_VALLEY, rel=0.01)


def test_the_generated_week_peaks_on_a_weekday_afternoon_and_rests_at_the_weekend() -> None:
    workload = generated(0)
    peak_min = workload.minute_of_week[workload.rate.argmax()]
    assert peak_min < 5 * DAY_MIN
    assert 12 <= peak_min % DAY_MIN / 60 <= 17
    days = [workload.rate[workload.minute_of_week // DAY_MIN == day].mean() for day in range(7)]
    assert max(days[5:]) < 0.75 * min(days[:5])


@pytest.mark.parametrize(
    ("lengths", "prompt", "output"),
    [
        ("azure2023", published.AZURE_2023_PROMPT, published.AZURE_2023_OUTPUT),
        ("mooncake", published.MOONCAKE_PROMPT, published.MOONCAKE_OUTPUT),
    ],
)
def test_generated_lengths_have_the_published_quantiles(
    lengths: Lengths, prompt: published.Quantiles, output: published.Quantiles
) -> None:
    workload = generated(3, lengths=lengths)
    for drawn, quantiles in ((workload.prompt_tokens, prompt), (workload.output_tokens, output)):
        for level, tokens in quantiles[3:-2]:  # .10 to .95: the ends are too thin for a sample
            share_below = (drawn <= tokens).mean()
            assert share_below == pytest.approx(level, abs=0.02)


def test_generated_lengths_have_the_published_classes() -> None:
    workload = generated(3)
    prompt = np.digitize(workload.prompt_tokens, [408, 1109], right=True)
    output = np.digitize(workload.output_tokens, [94, 371], right=True)
    shares = np.bincount(prompt * 3 + output, minlength=9) / len(prompt)
    assert shares == pytest.approx(np.array(published.AZURE_2023_CLASSES), abs=0.015)


def test_the_hot_year_follows_the_normals() -> None:
    workload = generated(5)
    days_c = workload.outside_c.reshape(365, 24)
    july, january = days_c[181:212], days_c[:31]
    assert july.max(axis=1).mean() == pytest.approx(published.HOT_DAILY_MAX_C[6], abs=2.5)
    assert july.min(axis=1).mean() == pytest.approx(published.HOT_DAILY_MIN_C[6], abs=2.5)
    assert january.max(axis=1).mean() == pytest.approx(published.HOT_DAILY_MAX_C[0], abs=2.5)
    # The warmest hour is late in the afternoon there: 16:00 local is 23:00 UTC.
    assert np.abs(days_c.mean(axis=0).argmax() - 23) <= 1


def write_folder(folder: Path) -> None:
    minutes = [7.2 * (i + 1) for i in range(1396)]
    pl.DataFrame(
        {"service": ["conv"] * 1396, "minute_of_week": minutes, "mid_rpm": [100 + i % 200 for i in range(1396)]}
    ).write_parquet(folder / "azure2024_week_rpm.parquet")
    arrivals = pl.datetime_range(pl.datetime(2023, 11, 16), pl.datetime(2023, 11, 16, 1), "7s", eager=True)
    pl.DataFrame(
        {"timestamp": arrivals, "context_tokens": [9] * len(arrivals), "generated_tokens": [3] * len(arrivals)}
    ).write_parquet(folder / "azure_llm_2023_conv.parquet")
    hours = pl.datetime_range(pl.datetime(2023, 1, 1), pl.datetime(2023, 12, 31, 23), "1h", eager=True)
    pl.DataFrame({"loc": ["IN-WE"] * len(hours), "time_local": hours, "temp_c": [float(h.hour) for h in hours]}).write_parquet(
        folder / "weather_openmeteo.parquet"
    )


def test_reads_a_folder_and_shifts_week_and_hours(tmp_path: Path) -> None:
    write_folder(tmp_path)
    workload = from_folder(tmp_path, city="IN-WE")
    # The curve begins on a Sunday: its first value stands 7.2 minutes after Sunday 00:00, the last before that is a Saturday's.
    first = np.searchsorted(workload.minute_of_week, 6 * DAY_MIN + 7.2 - 1e-6)
    assert workload.rate[first] == pytest.approx(100 / 299)
    # 00:00 UTC is 05:30 there.
    assert np.interp(0.0, workload.outside_minute, workload.outside_c) == pytest.approx(5.5, abs=0.51)
    assert (workload.prompt_tokens == 9).all()
    assert workload.burst_cv == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["azure2024_week_rpm", "azure_llm_2023_conv", "weather_openmeteo"])
def test_a_missing_broken_or_foreign_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    path = tmp_path / f"{name}.parquet"
    path.unlink()
    with pytest.raises(InputError, match=f"{name}.parquet: there is no such file; give a folder that holds it"):
        from_folder(tmp_path, city="IN-WE")
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match=f"{name}.parquet: no parquet file with the columns"):
        from_folder(tmp_path, city="IN-WE")
    pl.DataFrame({"other": [1]}).write_parquet(path)
    with pytest.raises(InputError, match=f"{name}.parquet: no parquet file with the columns") as caught:
        from_folder(tmp_path, city="IN-WE")
    assert "\n" not in str(caught.value)


def test_an_unknown_city_lists_those_that_there_are(tmp_path: Path) -> None:
    write_folder(tmp_path)
    with pytest.raises(InputError, match=r"no city 'Atlantis'.*there are IN-WE"):
        from_folder(tmp_path, city="Atlantis")


def test_without_a_folder_the_workload_is_generated() -> None:
    assert load(None).name == "generated-azure2023"


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("COLDAISLE_DATA")
    if not folder:
        pytest.skip("COLDAISLE_DATA names no folder of reference data; set it to check against the real traces")
    return Path(folder)


def test_the_real_traces_agree_with_the_published_figures(data: Path) -> None:
    workload = load(data)
    assert_sound(workload)
    for drawn, quantiles in (
        (workload.prompt_tokens, published.AZURE_2023_PROMPT),
        (workload.output_tokens, published.AZURE_2023_OUTPUT),
    ):
        for level, tokens in quantiles:
            assert np.quantile(drawn, level) == pytest.approx(tokens, rel=0.02, abs=1)
    hourly = workload.rate[: 1396 // 8 * 8].reshape(-1, 8).mean(axis=1)
    assert hourly.max() / hourly.mean() == pytest.approx(published.PEAK_OVER_MEAN, rel=0.1)
    assert hourly.max() / hourly.min() == pytest.approx(published.PEAK_OVER_VALLEY, rel=0.2)
    days = [workload.rate[workload.minute_of_week // DAY_MIN == day].mean() for day in range(7)]
    assert days == pytest.approx(list(published.DAY_LEVELS), abs=0.01)
    assert workload.burst_cv == pytest.approx(1.09, abs=0.01)
