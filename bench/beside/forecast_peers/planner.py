"""ai-dynamo's planner predictors, unmodified, as peers: what its planner would ask of them at an origin.

The planner forecasts the requests of its next interval from those of the intervals before. So it is run here with an interval
as long as the horizon: every `step`-th point back from the origin, in requests per interval, and its one next value. All
settings are its own. `import dynamo.planner` wants a cluster's libraries; the predictors do not, so the packages above them are
registered empty, with their folders.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

ABOVE = ("planner", "planner.core", "planner.config", "planner.core.load")


def planner(
    name: str, filled: Callable[[pd.Series], np.ndarray], step_s: Callable[[pd.Series], int]
) -> Callable[[pd.Series, tuple[int, ...]], np.ndarray]:
    """Return (values up to the origin, steps ahead) -> forecasts. `name`: arima, kalman or prophet.

    Raises ModuleNotFoundError where ai-dynamo is not installed.
    """
    spec = find_spec("dynamo")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("ai-dynamo is not installed")
    os.environ.setdefault("DYN_LOG", "warn")
    root = Path(next(iter(spec.submodule_search_locations)))
    for package in ABOVE:
        empty = ModuleType(f"dynamo.{package}")
        empty.__path__ = [str(root.joinpath(*package.split(".")))]
        sys.modules[f"dynamo.{package}"] = empty
    make: Any = import_module("dynamo.planner.core.load.predictors").LOAD_PREDICTORS[name]
    config: Any = import_module("dynamo.planner.config.planner_config").PlannerConfig

    def predict(values: pd.Series, steps: tuple[int, ...]) -> np.ndarray:
        known, out = filled(values), []
        for step in steps:
            interval_s = step * step_s(values)
            predictor = make(config(throughput_adjustment_interval_seconds=interval_s, load_predictor=name))
            for rate in known[(len(known) - 1) % step :: step]:
                predictor.add_data_point(float(rate) * interval_s)
            out.append(predictor.predict_next() / interval_s)
        return np.array(out)

    return predict
