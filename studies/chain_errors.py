"""Whether row power is better forecast through the loads than by its own past: the power chain beside persistence, ridge and
boosted trees.

    python -m studies.chain_errors --folder F [--data DIR] [--kinds mixed,serving] [--seeds 12,13,14] [--target power]

Four weeks of `studies.plant_history`: every model is fitted on the first 70 % and forecasts from an origin every 35 min of the
rest; mean absolute error relative to persistence at 5 min, 15 min and 1 h. `known loads` = the chain with the loads that came,
which nobody has: what is left is the curves' own error. `a+b` = the median of members, of two their mean.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from contracts.ports import Batch, Fitted, Forecaster
from contracts.registry import FORECASTERS, installed, load
from forecast.grids import Floats, restricted
from forecast.power_chain import Chain, with_loads
from forecast.rolling import Residuals, residuals, roll
from studies.plant_history import history

STEPS = (1, 3, 12)
EVERY = 7
LEARNT = 0.7
TOGETHER = (
    ("ridge", "chain"),
    ("boosted", "chain"),
    ("persistence", "ridge", "boosted"),
    ("persistence", "ridge", "boosted", "chain"),
)


class KnownLoads:
    """The chain with the loads that came."""

    def __init__(self, fitted: Fitted, loads: Batch) -> None:
        """`loads` holds the future of every origin."""
        self._fitted, self._loads = fitted, loads

    def predict(self, batch: Batch, steps: int) -> Floats:
        """Return [S, steps]."""
        now = int(np.searchsorted(self._loads.ts, batch.ts[-1]))
        ahead = self._loads.values[:, now + 1 : now + 1 + steps]
        past = replace(self._loads, ts=self._loads.ts[: now + 1], values=self._loads.values[:, : now + 1])
        return self._fitted.predict(with_loads(replace(batch, covariates={}), past, ahead), steps)


def ratios(power: Batch, loads: Batch) -> dict[str, list[float]]:
    """Return model -> mean absolute error over persistence's at STEPS."""
    batch = with_loads(power, loads)
    cut = int(len(batch.ts) * LEARNT)
    past = restricted(batch, cut - 1)
    origins = list(range(cut, len(batch.ts) - STEPS[-1], EVERY))
    models: dict[str, Forecaster] = {
        n: load(FORECASTERS, n)() for n in ("persistence", "ridge", "boosted") if n in installed(FORECASTERS)
    }
    fitted = {name: model.fit(past) for name, model in (models | {"chain": Chain()}).items()}
    found: dict[str, Residuals] = {name: roll(name, one, batch, origins, STEPS) for name, one in fitted.items()}
    found["known loads"] = roll("known loads", KnownLoads(fitted["chain"], loads), batch, origins, STEPS)
    for names in TOGETHER:
        if all(name in found for name in names):
            path = np.median([found[name].paths for name in names], axis=0)
            found["+".join(names)] = residuals("", path, batch, origins, STEPS)
    base = np.nanmean(np.abs(found["persistence"].errors), axis=(0, 2))
    return {name: (np.nanmean(np.abs(one.errors), axis=(0, 2)) / base).round(3).tolist() for name, one in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the histories are kept")
    parser.add_argument("--data", type=Path, help="reference data; without it the load is generated")
    parser.add_argument("--kinds", default="mixed,serving")
    parser.add_argument("--seeds", default="12,13,14", help="11 was used to choose constants")
    parser.add_argument("--target", default="power", choices=("power", "server_power"))
    options = parser.parse_args(arguments)
    for kind in options.kinds.split(","):
        for seed in options.seeds.split(","):
            seen = history(kind, int(seed), options.folder, options.data)
            print(
                json.dumps({"kind": kind, "seed": int(seed), **ratios(seen.batch(options.target), seen.batch("load"))}),
                flush=True,
            )


if __name__ == "__main__":
    main()
