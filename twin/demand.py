"""What is asked of the site: requests per endpoint, levels of the opaque tenants, the weather. A function of time and seed.

Slow wander is a sum of waves with random periods and phases, so that it has a value at any moment without a start: the
back-filled past and the run see one process. What is asked never depends on what control does (paired runs)."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contracts.workload import Workload
from twin import events
from twin.arrivals import Block, Lengths, by_endpoint, draw
from twin.fleet import Fleet
from twin.scenario import Scenario
from twin.services import Service
from twin.tenancy import customer_levels
from twin.tenants import evenly

if TYPE_CHECKING:
    from twin import recorded

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEEK_MIN = 7 * 24 * 60
DAY_MIN = 24 * 60
WAVES = 16
PERIOD_S = (900.0, 8 * 3600.0)
BLOCK_S = 60
"""arrivals are drawn in blocks of so many seconds, each with a generator of its own"""


LENGTHS = 8192
"""draws of a service that has lengths of its own"""


class Wander:
    """A red-spectrum process with mean 0 and standard deviation 1 for each of `count` series."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        """Draw periods (log-uniform, 15 min to 8 h) and phases."""
        period_s = np.exp(rng.uniform(np.log(PERIOD_S[0]), np.log(PERIOD_S[1]), (count, WAVES)))
        amplitude = np.sqrt(period_s)  # power rises with the period, as an AR(1) process's does
        self._amplitude = amplitude * np.sqrt(2.0) / np.sqrt((amplitude**2).sum(axis=1, keepdims=True))
        self._omega = 2 * np.pi / period_s
        self._phase = rng.uniform(0, 2 * np.pi, (count, WAVES))

    def more(self, count: int, rng: np.random.Generator) -> None:
        """Add series."""
        other = Wander(count, rng)
        self._amplitude = np.concatenate([self._amplitude, other._amplitude])
        self._omega = np.concatenate([self._omega, other._omega])
        self._phase = np.concatenate([self._phase, other._phase])

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
        self._scenario, self._workload, self._seed, self._fleet = scenario, workload, seed, fleet
        self._events = scenario.happenings()
        self._names = tuple(e.name for e in fleet.topology.endpoints)
        endpoints = len(self._names)
        self._endpoint_wander = Wander(endpoints, rng)
        customers = int(fleet.customer.max(initial=-1)) + 1
        self._customer_wander = Wander(max(customers, 1), rng)
        self._server_wander = Wander(len(fleet.row), rng)
        self._daily_phase = rng.uniform(0, 2 * np.pi, max(customers, 1))
        self._level = customer_levels(scenario, customers)
        self._hot = evenly(customers, scenario.iaas_hot_share)
        peak = [fleet.services[k].peak_rps or scenario.peak_rps for k in fleet.endpoint_service]
        self._peak_rps = np.bincount(fleet.instance_endpoint, minlength=endpoints)[:endpoints] * np.array(
            peak, dtype=np.float64
        )
        self.lengths = _lengths(workload, [fleet.services[k] for k in fleet.endpoint_service], seed)
        self._curve_min, self._curve = _day_normalised(scenario, workload)
        self._weather_shift_c = scenario.outside_c - float(self._weather(np.zeros(1))[0])
        self._requests: recorded.Requests | None = None
        self._power: recorded.Power | None = None
        self._outside: recorded.Outside | None = None
        self._read(scenario, fleet)

    def _read(self, scenario: Scenario, fleet: Fleet) -> None:
        """Read what the scenario has recorded."""
        if not (scenario.recorded_requests or scenario.recorded_power or scenario.recorded_outside):
            return
        from twin import recorded  # polars; most runs need none

        if scenario.recorded_requests:
            self._requests = recorded.Requests(scenario.recorded_requests, fleet, scenario.start)
        if scenario.recorded_power:
            self._power = recorded.Power(scenario.recorded_power, fleet, scenario.start)
        if scenario.recorded_outside:
            self._outside = recorded.Outside(scenario.recorded_outside, scenario.start)

    def adopt(self, fleet: Fleet, customer: int = -1, peak_level: float = 0.0) -> None:
        """Let the opaque tenants of `fleet` ask from now on; `customer`, when it is new, keeps its GPUs around `peak_level`."""
        self._fleet = fleet
        while customer >= len(self._level):
            rng = np.random.Generator(np.random.PCG64([self._seed, 12, len(self._level)]))
            self._customer_wander.more(1, rng)
            self._daily_phase = np.append(self._daily_phase, rng.uniform(0, 2 * np.pi))
            self._level = np.append(self._level, peak_level)
            self._hot = np.append(self._hot, peak_level >= self._scenario.iaas_hot_level)

    def rates(self, seconds: Floats) -> Floats:
        """[T, endpoints] expected requests/s at `seconds` [T]."""
        if self._requests is not None:
            return self._requests.rates(seconds)
        return self._calm_rates(seconds) * events.demand_factor(self._events, self._names, seconds)

    def _calm_rates(self, seconds: Floats) -> Floats:
        """The same without what happens by events."""
        minute = (self._curve_min + seconds / 60.0) % WEEK_MIN
        curve = np.interp(minute, self._workload.minute_of_week, self._curve, period=WEEK_MIN)
        wander = np.exp(self._scenario.demand_sd * self._endpoint_wander.at(seconds) - self._scenario.demand_sd**2 / 2)
        rates: Floats = curve[:, None] * wander * self._peak_rps[None]
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
        return levels if self._power is None else self._power.levels(seconds, levels)

    def outside_c(self, seconds: Floats) -> Floats:
        """[T] outside temperature: recorded, or the workload's weather shifted to the scenario's value at its start."""
        weather = self._weather(seconds) + self._weather_shift_c if self._outside is None else self._outside.at(seconds)
        outside: Floats = np.clip(weather + events.outside_k(self._events, seconds), -40.0, 60.0)
        return outside

    def arrivals(self, number: int) -> Block:
        """The requests of seconds [60 number, 60 number + 60), recorded or drawn.

        Drawn ones are a Cox process: each second's rate bears gamma noise of mean 1 that gives counts the index of dispersion
        burst_cv^2, that of a renewal process whose gaps have this coefficient of variation; at burst_cv <= 1 it is Poisson.
        """
        if self._requests is not None:
            return by_endpoint(self._requests.arrivals(number), len(self._names))
        rng = np.random.Generator(np.random.PCG64([self._seed, 3, number + (1 << 32)]))
        start_s = float(number * BLOCK_S)
        second = start_s + np.arange(0.5, BLOCK_S)
        ends = self._calm_rates(np.array([start_s, start_s + BLOCK_S]))  # slow: what lies between is linear
        share = ((second - start_s) / BLOCK_S)[:, None]
        rates = (ends[:1] * (1.0 - share) + ends[1:] * share) * events.demand_factor(self._events, self._names, second)
        return draw(rng, start_s, rates, max(0.0, self._workload.burst_cv**2 - 1.0), self.lengths)

    def _weather(self, seconds: Floats) -> Floats:
        start = self._scenario.start.astimezone(UTC)
        base_min = (start - datetime(start.year, 1, 1, tzinfo=UTC)).total_seconds() / 60.0
        minute = np.mod(base_min + seconds / 60.0, 365 * DAY_MIN)
        weather: Floats = np.interp(minute, self._workload.outside_minute, self._workload.outside_c, period=365 * DAY_MIN)
        return weather


def _lengths(workload: Workload, services: list[Service], seed: int) -> Lengths:
    """Samples of each endpoint: the workload's, or log-uniform within its service's bounds."""
    rng = np.random.Generator(np.random.PCG64([seed, 10]))
    prompts, outputs, first, size = [workload.prompt_tokens], [workload.output_tokens], [], []
    total = len(workload.prompt_tokens)
    for s in services:
        if s.prompt_tokens is None and s.output_tokens is None:
            first.append(0)
            size.append(len(workload.prompt_tokens))
            continue
        pick = rng.integers(0, len(workload.prompt_tokens), LENGTHS)
        for own, bounds, samples in ((prompts, s.prompt_tokens, workload.prompt_tokens),
                                     (outputs, s.output_tokens, workload.output_tokens)):  # fmt: skip
            own.append(samples[pick] if bounds is None else _log_uniform(rng, bounds))
        first.append(total)
        size.append(LENGTHS)
        total += LENGTHS
    return Lengths(
        first=np.array(first, dtype=np.int64),
        size=np.array(size, dtype=np.int64),
        prompt=np.maximum(1, np.concatenate(prompts)).astype(np.int32),
        output=np.maximum(1, np.concatenate(outputs)).astype(np.int32),
        cached_share=np.array([s.cached_share for s in services], dtype=np.float64),
    )


def _log_uniform(rng: np.random.Generator, bounds: tuple[int, int]) -> Ints:
    drawn: Ints = np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), LENGTHS)).round().astype(np.int64)
    return drawn


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
