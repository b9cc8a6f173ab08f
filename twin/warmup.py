"""A small workload and a small site: a load that needs no data, and what the kernels are compiled with.

`python -m twin.warmup` compiles them ahead of the first run.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import numpy as np

from contracts.workload import Workload
from twin.compiled import CACHE
from twin.demand import DAY_MIN, WEEK_MIN
from twin.scenario import load

COUNT = 4


def plain_workload() -> Workload:
    """A conversation service by published figures: no trace, no data folder.

    Lengths: log-normal around the medians of Azure's 2023 conversation trace (1,020 in, 129 out; means 1,155 and 211). Curve:
    peak/valley 3.3 (DynamoLLM, conversation). Bursts: 1.2, conversation-like. Weather: a year's and a day's wave around
    20 degC [A]. Draws are fixed: it is always the same workload.
    """
    rng = np.random.Generator(np.random.PCG64(2023))
    minute = np.arange(0.0, WEEK_MIN, 5.0)
    day = 2 * np.pi * (minute % DAY_MIN) / DAY_MIN
    rate = 1.0 - (1.0 - 1.0 / 3.3) * (1.0 + np.cos(day - 2 * np.pi * (2.0 / 24))) / 2.0
    prompt = np.exp(rng.normal(np.log(1020.0), 0.50, 8192))
    output = np.exp(rng.normal(np.log(129.0), 0.99, 8192))
    weather_min = np.arange(0.0, 365 * DAY_MIN, 60.0)
    year = 2 * np.pi * weather_min / (365 * DAY_MIN)
    outside = 20.0 - 8.0 * np.cos(year - 0.3) - 5.0 * np.cos(2 * np.pi * (weather_min % DAY_MIN) / DAY_MIN - 0.8)
    return Workload(
        name="plain",
        source="published statistics: Azure LLM 2023 conversation medians, DynamoLLM section C3",
        minute_of_week=minute,
        rate=rate / rate.max(),
        prompt_tokens=np.clip(prompt, 1, 4096).astype(np.int64),
        output_tokens=np.clip(output, 1, 1000).astype(np.int64),
        burst_cv=1.2,
        outside_minute=weather_min,
        outside_c=outside,
    )


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    """What has to run once for every kernel to be compiled: `COUNT` names with their work."""
    from twin import models, solo
    from twin.exporters import exporters
    from twin.fluid import Fluid
    from twin.world import World

    scenario, workload = load("demo", servers_per_row=8, warm_s=5, endpoints=2), plain_workload()

    def settle() -> None:
        Fluid(scenario, workload, 1).advance(2, 60.0)

    def run() -> None:
        world = World(scenario, workload, 1)
        world.advance(scenario.start + timedelta(seconds=5))

    def look() -> None:
        world = World(scenario, workload, 1)
        instruments = exporters(world)
        world.advance(scenario.start + timedelta(seconds=5))
        for instrument in instruments:
            instrument.collect(world.now)

    def alone() -> None:
        one = np.ones(1, dtype=np.int64)
        solo.serve(models.load("modern").points[0], solo.Arrivals(np.zeros(1), one, one), 1000.0)

    yield "plant and flows", settle
    yield "every second of a site", run
    yield "instruments", look
    yield "one instance alone", alone


def main() -> None:
    """Run every kernel once on a small site, so that later processes only load them."""
    for old in CACHE.parent.glob("numba-*"):
        if old != CACHE:
            shutil.rmtree(old, ignore_errors=True)
    began = time.perf_counter()
    for position, (name, step) in enumerate(steps(), start=1):
        step()
        print(f"twin kernels [{position}/{COUNT}] {name}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
