"""A small site and a workload that needs no data."""

from collections.abc import Callable
from typing import Any

import pytest

from contracts.workload import Workload
from twin.scenario import load
from twin.warmup import plain_workload
from twin.world import World


@pytest.fixture(scope="session")
def workload() -> Workload:
    return plain_workload()


@pytest.fixture
def make_world(workload: Workload) -> Callable[..., World]:
    """A world of 2 x 8 servers with nothing lost and limits in proportion; keywords override the scenario.

    What tests rely on is said here: the demo may be tuned without them."""

    def make(seed: int = 3, **overrides: Any) -> World:
        small: dict[str, Any] = {
            "servers_per_row": 8,
            "endpoints": 2,
            "high_priority_endpoints": 1,
            "row_limit_w": 60e3,
            "aisle_limit_cfm": 20e3,
            "warm_s": 30,
            "tp": 8,
            "peak_rps": 2.0,
        }
        return World(load("normal", **(small | overrides)), workload, seed)

    return make
