"""What the forecast service keeps between two calls: values only, frozen, picklable."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from contracts.forecasts import LEVELS, ROW_POWER_LEVELS, Target
from contracts.ports import Batch, Fitted
from forecast.calibration import Calibrated, Table
from forecast.champion import Band, Choice
from forecast.grids import Floats, Ints
from forecast.models.kalman import KalmanFitted
from forecast.restless import Restless

TARGETS: tuple[Target, ...] = (
    "load",
    "prompt_tok",
    "output_tok",
    "inlet",
    "power",
    "server_power",
    "ups_power",
    "airflow",
)
"""forecast directly; headroom and gpu_temp follow from them"""
GPU_POWER = "gpu_power"
"""summed GPU power per server: only persistence's errors are learnt, for the GPU temperature's band"""
COMBINED: Mapping[str, tuple[str, ...]] = {
    "blend": ("persistence", "ets", "boosted"),
    "ensemble": ("persistence", "seasonal_mean", "ridge", "boosted", "autoreg"),
}
"""models that are the median of others: the first while a load jumps, the second a day ahead; members may be absent"""
INSTEAD: Mapping[str, tuple[str, ...]] = {"blend": ("persistence", "ridge")}
"""members where fewer than two of COMBINED's are there: halfway between the last value and a regression"""

KNOTS_S = (300, 600, 900, 1_800, 2_700, 3_600, 7_200, 14_400, 21_600, 43_200, 64_800, 86_400)
"""horizons at which errors are gathered"""


def levels_of(target: str) -> tuple[float, ...]:
    """Return the quantile levels of a target's forecasts: row power has a further one for the breaker."""
    return ROW_POWER_LEVELS if target == "power" else LEVELS


@dataclass(frozen=True, kw_only=True)
class Coarse:
    """The paths on the 300 s grid from its newest interval, made once per interval: the ticks between only interpolate."""

    last_ts: int
    names: tuple[str, ...]
    steps: int
    paths: Mapping[str, Floats]
    """model -> [S, steps]"""
    surprise: Floats
    """[S] size of the champions' errors over the last hour, in units of their usual ones"""
    row: Ints
    """[S] position of each series in `ClassState.voices`; -1 = new, the pool speaks"""
    restless: Restless
    newest_s: Ints
    """[S] time of the newest observation; -1 = none"""
    gap_share: Floats
    """[S] share of the last day that is missing"""


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Who speaks for each series, and how sure. Arrays have a row per series of the refit, and a last one for new series."""

    models: tuple[str, ...]
    speaker: Ints
    """[N + 1, BANDS] position in `models`"""
    bands: Calibrated
    """of what the speakers said together, per kind"""
    week: Floats
    """[N + 1] mean absolute step of the last week; NaN = not known"""


@dataclass(frozen=True, kw_only=True)
class ClassState:
    """All that was learnt about the series of one target."""

    target: str
    step_s: int
    fitted_at: datetime
    names: tuple[str, ...]
    fitted: Mapping[str, Fitted]
    """model -> fitted on everything known at fitted_at"""
    fast: KalmanFitted | None
    """follows the newest minutes"""
    tables: Mapping[str, Table]
    """model -> the band it would have alone, over all series"""
    choices: Mapping[Band, Choice]
    """of all series together"""
    points: Mapping[str, int]
    """series -> observed points at fitted_at"""
    left_out: tuple[tuple[str, str], ...] = ()
    """(model, why it was not tried)"""
    kind_choices: tuple[Choice, ...] = ()
    """the same by kind"""
    voices: Voices | None = None
    """None without choices or tables"""
    coarse: Coarse | None = None


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Prophet for one target: `now` fitted on everything, `past` on all but the newest week (to judge it honestly)."""

    now: Fitted
    past: Fitted
    past_until_s: int
    fitted_at: datetime


@dataclass(frozen=True, kw_only=True)
class State:
    """The service's memory. Start with `State()`; it holds no open things and pickles."""

    classes: Mapping[str, ClassState] = field(default_factory=dict)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    path_at: datetime | None = None
    """when the last full paths were issued"""
    without: tuple[tuple[str, str], ...] = ()
    """(target/series, why there is no forecast) at the last tick"""

    def choices(self) -> list[Choice]:
        """Return who won and why, of all classes, kinds and bands: data to record after a refit."""
        found = [self.classes[name] for name in sorted(self.classes)]
        return [choice for klass in found for choice in (*klass.choices.values(), *klass.kind_choices)]


def members_of(name: str, there: Collection[str]) -> tuple[str, ...]:
    """Return the models of which `name` is the median, of those that are there; fewer than two: it cannot be made."""
    members = tuple(member for member in COMBINED.get(name, ()) if member in there)
    return members if len(members) >= 2 else tuple(member for member in INSTEAD.get(name, ()) if member in there)


def combined(paths: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the combinations of `paths`: the median of their members where at least two have an opinion, NaN elsewhere.

    A combination with fewer than two members among the paths is left out.
    """
    out = {}
    for name in COMBINED:
        there = [paths[member] for member in members_of(name, paths)]
        if len(there) < 2:
            continue
        stack = np.sort(np.stack(there), axis=0)  # NaN sorts last
        count = (~np.isnan(stack)).sum(axis=0)
        low = np.take_along_axis(stack, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
        high = np.take_along_axis(stack, np.minimum(count // 2, len(there) - 1)[None], axis=0)[0]
        out[name] = np.where(count >= 2, 0.5 * (low + high), np.nan)
    return out


def by_target(batches: Sequence[Batch]) -> dict[str, Batch]:
    """Return the batches by target; of two with one target the later wins."""
    return {batch.target: batch for batch in batches}
