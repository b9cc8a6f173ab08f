"""Claims for tests; at the top level of a module of their own, so that worker processes find them and
need import little."""

import math
import multiprocessing
import os
from collections.abc import Mapping

from studies.pool import ONE_THREAD

Point = Mapping[str, float]


def ishigami(p: Point) -> float:
    """The usual a = 7, b = .1 on [-pi, pi]^3."""
    return math.sin(p["x1"]) + 7.0 * math.sin(p["x2"]) ** 2 + 0.1 * p["x3"] ** 4 * math.sin(p["x1"])


def below_seven_tenths(p: Point) -> float:
    return 0.7 - p["x"] + 0.0 * p.get("dead", 0.0)


def fails_above_nine_tenths(p: Point) -> float:
    if p["x"] > 0.9:
        raise ArithmeticError(f"x = {p['x']:.3f} is too much\nsecond line")
    return 0.5 - p["x"]


def fails(p: Point) -> float:
    raise ArithmeticError(f"never for {sorted(p)}")


def dies(p: Point) -> float:
    if p["x"] > 0.9:
        os._exit(3)
    return 0.0


def says_where_it_runs(p: Point) -> float:
    """1 where a spawned process with one thread per library evaluates."""
    spawned = multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "spawn"
    return float(spawned and all(os.environ.get(name) == "1" for name in ONE_THREAD)) + 0.0 * p["x"]
