"""What users ask for: from a folder of real traces, or generated from published statistics where there is none.

The folder holds `azure2024_week_rpm.parquet` (requests per minute over a week), `azure_llm_2023_conv.parquet` (token lengths
and arrivals) and `weather_openmeteo.parquet` (hourly temperatures of cities); `from_folder` names the columns that it reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.workload import Workload
from ingest import workload_statistics as published

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Service = Literal["conv", "coding"]
Lengths = Literal["azure2023", "mooncake"]

WEEK_MIN = 7 * 1440
YEAR_MIN = 365 * 1440
STEP_MIN = 5
SAMPLES = 20_000
# The curves begin on the day on which the data set does: conversation on Sunday 12 May 2024, coding on Friday 10 May.
CURVE_BEGINS_MIN: dict[Service, int] = {"conv": 6 * 1440, "coding": 4 * 1440}
# Offsets of the weather's local times from UTC in seconds: fixed over the year, as its source has them.
UTC_OFFSET_S = {
    "AU-NSW": 39600, "AU-VIC": 39600, "BR-SP": -10800, "CA-ON": -14400, "CL-SIC": -10800, "DE-LU": 3600, "GB": 0,
    "IN-WE": 19800, "JP-TK": 32400, "KR": 32400, "US-CAL-CISO": -25200, "US-MIDA-PJM": -14400, "US-NY-NYIS": -14400, "ZA": 7200,
}  # fmt: skip
WEATHER_YEAR = 2023


def load(data: Path | None, *, seed: int = 0) -> Workload:
    """Return the workload of the folder `data`, or a generated one where there is none. Raises InputError on a bad folder."""
    return generated(seed) if data is None else from_folder(data)


def from_folder(data: Path, *, city: str = "US-MIDA-PJM", service: Service = "conv") -> Workload:
    """Read curve, lengths and weather from `data`. The curve's local time is taken as it stands: its source names no zone.

    Raises InputError naming the file, or the city, and the remedy.
    """
    curve = read_columns(data, "azure2024_week_rpm.parquet", ("service", "minute_of_week", "mid_rpm"))
    lengths = read_columns(data, "azure_llm_2023_conv.parquet", ("timestamp", "context_tokens", "generated_tokens"))
    weather = read_columns(data, "weather_openmeteo.parquet", ("loc", "time_local", "temp_c"))
    minute, rate = _week(curve, service)
    outside_minute, outside_c = _year(weather, city)
    return Workload(
        name=f"azure-2024-{service}",
        source=f"Azure LLM inference traces: arrivals of 2024 ({service}), lengths of 2023 (conversation); Open-Meteo {city}",
        minute_of_week=minute,
        rate=rate,
        prompt_tokens=lengths["context_tokens"].to_numpy().astype(np.int64),
        output_tokens=lengths["generated_tokens"].to_numpy().astype(np.int64),
        burst_cv=_variation(lengths["timestamp"].dt.epoch("us").to_numpy() / 1e6),
        outside_minute=outside_minute,
        outside_c=outside_c,
    )


def generated(seed: int, *, lengths: Lengths = "azure2023") -> Workload:
    """Make a workload from `ingest.workload_statistics`; the same seed gives the same one."""
    rng = np.random.default_rng(seed)
    prompt, output = _azure_lengths(rng) if lengths == "azure2023" else _mooncake_lengths(rng)
    minute, rate = _published_week()
    outside_minute, outside_c = _hot_year(rng)
    return Workload(
        name=f"generated-{lengths}",
        source="published statistics: lengths of Azure 2023 or Mooncake, week of Azure 2024 and DynamoLLM, bursts of ServeGen, "
        "normals of Phoenix",
        minute_of_week=minute,
        rate=rate,
        prompt_tokens=prompt,
        output_tokens=output,
        burst_cv=published.BURST_CV,
        outside_minute=outside_minute,
        outside_c=outside_c,
    )


def read_columns(data: Path, name: str, columns: Sequence[str]) -> "pl.DataFrame":
    """Read columns of a parquet file in `data`. Raises InputError naming file and remedy."""
    import polars as pl  # an exporter on a node without traces needs no polars

    path = data / name
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; give a folder that holds it, or no data folder to generate a workload"
        )
    try:
        frame = pl.read_parquet(path, columns=list(columns))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: no parquet file with the columns {', '.join(columns)} ({reason}); fetch it anew") from error
    if frame.is_empty() or frame.null_count().sum_horizontal().item() > 0:
        raise InputError(f"{path}: is empty or has NULLs in {', '.join(columns)}; fetch it anew")
    return frame


def _week(curve: "pl.DataFrame", service: Service) -> tuple[Floats, Floats]:
    mine = curve.filter(curve["service"] == service)
    if mine.is_empty():
        raise InputError(
            f"azure2024_week_rpm.parquet: no service {service!r}; there are {', '.join(_unique(curve, 'service'))}"
        )
    minute = (mine["minute_of_week"].to_numpy().astype(float) + CURVE_BEGINS_MIN[service]) % WEEK_MIN
    rpm = mine["mid_rpm"].to_numpy().astype(float)
    order = np.argsort(minute)
    return minute[order], rpm[order] / rpm.max()


def _year(weather: "pl.DataFrame", city: str) -> tuple[Floats, Floats]:
    cities = _unique(weather, "loc")
    if city not in cities or city not in UTC_OFFSET_S:
        known = ", ".join(name for name in cities if name in UTC_OFFSET_S)
        raise InputError(f"weather_openmeteo.parquet: no city {city!r} with a known offset from UTC; there are {known}")
    mine = weather.filter((weather["loc"].cast(str) == city) & (weather["time_local"].dt.year() == WEATHER_YEAR))
    if mine.is_empty():
        raise InputError(f"weather_openmeteo.parquet: no year {WEATHER_YEAR} of {city}; fetch it anew")
    since_year = mine["time_local"].to_numpy() - np.datetime64(f"{WEATHER_YEAR}-01-01")
    minute = (since_year / np.timedelta64(1, "m") - UTC_OFFSET_S[city] / 60) % YEAR_MIN
    order = np.argsort(minute)
    return minute[order], mine["temp_c"].to_numpy().astype(float)[order]


def _unique(frame: "pl.DataFrame", column: str) -> list[str]:
    return sorted(str(value) for value in frame[column].unique())


def _variation(arrivals_s: Floats) -> float:
    gaps_s = np.diff(np.sort(arrivals_s))
    return float(gaps_s.std() / gaps_s.mean())


def _azure_lengths(rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw the class of a request, then both lengths within its thirds, so that short prompts go with the right outputs."""
    classes = np.array(published.AZURE_2023_CLASSES)
    drawn = rng.choice(9, size=SAMPLES, p=classes / classes.sum())
    return (
        _within_thirds(published.AZURE_2023_PROMPT, drawn // 3, rng),
        _within_thirds(published.AZURE_2023_OUTPUT, drawn % 3, rng),
    )


def _mooncake_lengths(rng: np.random.Generator) -> tuple[Ints, Ints]:
    return (
        _at_quantiles(published.MOONCAKE_PROMPT, rng.random(SAMPLES)),
        _at_quantiles(published.MOONCAKE_OUTPUT, rng.random(SAMPLES)),
    )


def _within_thirds(quantiles: published.Quantiles, third: Ints, rng: np.random.Generator) -> Ints:
    limits = np.array(published.THIRDS)
    return _at_quantiles(quantiles, limits[third] + rng.random(len(third)) * np.diff(limits)[third])


def _at_quantiles(quantiles: published.Quantiles, probability: Floats) -> Ints:
    levels, tokens = np.array(quantiles).T
    drawn: Ints = np.maximum(np.rint(np.interp(probability, levels, tokens)), 1).astype(np.int64)
    return drawn


def _published_week() -> tuple[Floats, Floats]:
    """The fitted week, its height and depth stretched until it has the published peak over mean and peak over valley.

    Stretching is x -> x^k and then linear: two knobs for two figures, k by bisection with the linear part solved for.
    """
    minute = np.arange(0.0, WEEK_MIN, STEP_MIN)
    hour = minute % 1440 / 60
    weekend = minute >= 5 * 1440
    shape = np.where(weekend, _harmonics(published.WEEKEND_SHAPE, hour), _harmonics(published.WEEKDAY_SHAPE, hour))
    # A day's level holds at its noon and leads over to the next day's: no step at midnight.
    noons = np.arange(7) * 1440.0 + 720.0
    raw = shape * np.interp(minute, noons, published.DAY_LEVELS, period=WEEK_MIN)
    raw /= raw.max()
    low, high = 0.1, 5.0
    for _ in range(60):
        power = (low + high) / 2
        stretched = _with_valley(raw**power)
        low, high = (power, high) if stretched.mean() > 1 / published.PEAK_OVER_MEAN else (low, power)
    return minute, stretched


def _with_valley(curve: Floats) -> Floats:
    """Map the curve (highest 1) linearly so that it stays 1 at its peak and its lowest is 1 / PEAK_OVER_VALLEY."""
    valley = 1 / published.PEAK_OVER_VALLEY
    mapped: Floats = 1 - (1 - curve) * (1 - valley) / (1 - curve.min())
    return mapped


def _harmonics(coefficients: Sequence[float], hour: Floats) -> Floats:
    curve = np.ones_like(hour)
    for k, (cosine, sine) in enumerate(zip(coefficients[::2], coefficients[1::2], strict=True), start=1):
        angle = 2 * np.pi * k * hour / 24
        curve = curve + cosine * np.cos(angle) + sine * np.sin(angle)
    return curve


def _hot_year(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Hourly temperatures: the normals of the month, a cosine over the day, and departures that last some days."""
    minute = np.arange(0.0, YEAR_MIN, 60.0)
    mid_months = (np.arange(12) + 0.5) * YEAR_MIN / 12
    top_c = np.interp(minute, mid_months, published.HOT_DAILY_MAX_C, period=YEAR_MIN)
    bottom_c = np.interp(minute, mid_months, published.HOT_DAILY_MIN_C, period=YEAR_MIN)
    local_hour = (minute / 60 + published.HOT_UTC_OFFSET_H) % 24
    swing = np.cos(2 * np.pi * (local_hour - published.WARMEST_LOCAL_HOUR) / 24)
    noons = np.arange(365) * 1440.0 + 720.0
    departure_k = np.interp(minute, noons, _departures_k(rng), period=YEAR_MIN)
    return minute, (top_c + bottom_c) / 2 + (top_c - bottom_c) / 2 * swing + departure_k


def _departures_k(rng: np.random.Generator) -> Floats:
    keep = published.DEPARTURE_AUTOCORRELATION
    shocks = rng.normal(0.0, published.DEPARTURE_SD_K * np.sqrt(1 - keep**2), 365)
    days = np.empty(365)
    days[0] = rng.normal(0.0, published.DEPARTURE_SD_K)
    for day in range(1, 365):
        days[day] = keep * days[day - 1] + shocks[day]
    return days
