"""What is asked of the site: requests per endpoint, levels of the opaque tenants, the weather. A function of time and seed.

Slow wander is a sum of waves with random periods and phases, so that it has a value at any moment without a start: the
back-filled past and the run see one process. What is asked never depends on what control does (paired runs)."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin.fleet import Fleet
from twin.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEEK_MIN = 7 * 24 * 60
DAY_MIN = 24 * 60
WAVES = 16
PERIOD_S = (900.0, 8 * 3600.0)
BLOCK_S = 60
"""arrivals are drawn in blocks of so many seconds, each with a generator of its own"""


class Arrivals(NamedTuple):
    """The requests of one block, by time. Times are seconds from the run's start."""

    at_s: Floats
    endpoint: Ints
    prompt: Ints
    output: Ints


class Wander:
    """A red-spectrum process with mean 0 and standard deviation 1 for each of `count` series."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        """Draw periods (log-uniform, 15 min to 8 h) and phases."""
        period_s = np.exp(rng.uniform(np.log(PERIOD_S[0]), np.log(PERIOD_S[1]), (count, WAVES)))
        amplitude = np.sqrt(period_s)  # power rises with the period, as an AR(1) process's does
        self._amplitude = amplitude * np.sqrt(2.0) / np.sqrt((amplitude**2).sum(axis=1, keepdims=True))
        self._omega = 2 * np.pi / period_s
        self._phase = rng.uniform(0, 2 * np.pi, (count, WAVES))

    def at(self, seconds: Floats) -> Floats:
        """[T, count] values at `seconds` [T]."""
        angle = seconds[:, None, None] * self._omega[None] + self._phase[None]
        value: Floats = (self._amplitude[None] * np.sin(angle)).sum(axis=2)
        return value


class Demand:
    """Rates, levels and weather of a scenario; seconds count from scenario.start and may be negative."""

    def __init__(self, scenario: Scenario, workload: Workload, fleet: Fleet, seed: int) -> None:
        """`seed` draws phases, customers and requests; nothing is shared with the fleet's units."""
        rng = np.random.Generator(np.random.PCG64([seed, 2]))
        self._scenario, self._workload, self._seed = scenario, workload, seed
        self._endpoint_wander = Wander(scenario.endpoints, rng)
        customers = int(fleet.customer.max(initial=-1)) + 1
        servers = len(fleet.row)
        self._customer_wander = Wander(max(customers, 1), rng)
        self._server_wander = Wander(servers, rng)
        self._daily_phase = rng.uniform(0, 2 * np.pi, max(customers, 1))
        hot = np.diff(np.floor(np.arange(customers + 1) * scenario.iaas_hot_share + 1e-9)) > 0
        self._level = np.where(hot, scenario.iaas_hot_level, scenario.iaas_cold_level)
        self._hot = hot
        self._fleet = fleet
        self._instances = np.bincount(fleet.instance_endpoint, minlength=scenario.endpoints).astype(np.float64)
        self._curve_min, self._curve = _day_normalised(scenario, workload)
        self._weather_shift_c = scenario.outside_c - float(self._weather(np.zeros(1))[0])

    def rates(self, seconds: Floats) -> Floats:
        """[T, endpoints] expected requests/s at `seconds` [T]."""
        minute = (self._curve_min + seconds / 60.0) % WEEK_MIN
        curve = np.interp(minute, self._workload.minute_of_week, self._curve, period=WEEK_MIN)
        wander = np.exp(self._scenario.demand_sd * self._endpoint_wander.at(seconds) - self._scenario.demand_sd**2 / 2)
        rates: Floats = curve[:, None] * wander * self._instances[None] * self._scenario.peak_rps
        return rates

    def levels(self, seconds: Floats) -> Floats:
        """[T, S] load level of the opaque tenants, 0 to 1; 0 where a server has none."""
        s, fleet = self._scenario, self._fleet
        levels = np.zeros((len(seconds), len(fleet.row)))
        iaas = np.flatnonzero(fleet.customer >= 0)
        if len(iaas) == 0:
            return levels
        who = fleet.customer[iaas]
        daily = s.iaas_daily * np.sin(2 * np.pi * seconds[:, None] / 86_400.0 + self._daily_phase[None])
        wander = s.iaas_sd * self._customer_wander.at(seconds)
        customer = self._level[None] + np.where(self._hot, 0.0, daily) + wander
        own = 0.5 * s.iaas_sd * self._server_wander.at(seconds)[:, iaas]
        levels[:, iaas] = np.clip(customer[:, who] + own, 0.02, 1.0)
        return levels

    def outside_c(self, seconds: Floats) -> Floats:
        """[T] outside temperature: the workload's weather, shifted to the scenario's value at its start."""
        outside: Floats = np.clip(self._weather(seconds) + self._weather_shift_c, -40.0, 55.0)
        return outside

    def arrivals(self, block: int) -> Arrivals:
        """The requests of seconds [60 block, 60 block + 60): a Cox process.

        Each second's rate bears gamma noise of mean 1 that gives counts the index of dispersion burst_cv^2, that of a renewal
        process whose gaps have this coefficient of variation; at burst_cv <= 1 it is Poisson.
        """
        rng = np.random.Generator(np.random.PCG64([self._seed, 3, block + (1 << 32)]))
        start_s = float(block * BLOCK_S)
        rates = self.rates(start_s + np.arange(0.5, BLOCK_S))
        excess = max(0.0, self._workload.burst_cv**2 - 1.0)
        if excess > 0:
            shape = np.maximum(rates, 1e-9) / excess
            rates = rates * rng.gamma(shape) / shape
        counts = rng.poisson(rates)
        total = int(counts.sum())
        second, endpoint = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
        at_s = start_s + second + rng.random(total)
        pick = rng.integers(0, len(self._workload.prompt_tokens), total)
        order = np.argsort(at_s, kind="stable")
        return Arrivals(
            at_s=at_s[order],
            endpoint=endpoint[order].astype(np.int64),
            prompt=np.maximum(1, self._workload.prompt_tokens[pick])[order],
            output=np.maximum(1, self._workload.output_tokens[pick])[order],
        )

    def _weather(self, seconds: Floats) -> Floats:
        start = self._scenario.start.astimezone(UTC)
        base_min = (start - datetime(start.year, 1, 1, tzinfo=UTC)).total_seconds() / 60.0
        minute = np.mod(base_min + seconds / 60.0, 365 * DAY_MIN)
        weather: Floats = np.interp(minute, self._workload.outside_minute, self._workload.outside_c, period=365 * DAY_MIN)
        return weather


def _day_normalised(scenario: Scenario, workload: Workload) -> tuple[float, Floats]:
    """Return the minute of the week that `start` is taken for, and the curve relative to that day's highest hour."""
    start = scenario.start.astimezone(UTC)
    midnight = start.weekday() * DAY_MIN
    minutes = midnight + np.arange(DAY_MIN, dtype=np.float64)
    rate = np.interp(minutes, workload.minute_of_week, workload.rate, period=WEEK_MIN)
    hour = np.convolve(np.concatenate([rate, rate[:60]]), np.ones(60) / 60, mode="valid")[:DAY_MIN]
    peak = int(np.argmax(hour))
    minute = midnight + (peak if scenario.start_at_peak else start.hour * 60 + start.minute)
    return float(minute), workload.rate / hour[peak]
