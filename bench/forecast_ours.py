"""Our forecaster on judged series, in two ways. Both refit once a day and see nothing after an origin.

`service`: the jobs' own code (`forecast.produce`): each refit holds the newest third of a short history back to judge on it,
and one look per origin. It is what runs. `backtest`: `coldaisle backtest`'s, which keeps the errors of all days before, as
a service has them that ran since the series began.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from bench.forecast_sets import Judged
from contracts.forecasts import LEVELS
from contracts.ports import Batch
from contracts.registry import FORECASTERS, installed
from forecast import produce
from forecast.backtest import join
from forecast.backtest_series import Table
from forecast.backtest_tasks import plan, run
from forecast.coarse import champion_at, coarse_paths
from forecast.grids import DAY_S, Floats, Ints, recent, restricted
from forecast.inputs import clean
from forecast.outlook import look
from forecast.refit import HOURLY, MOST_SERIES
from forecast.state import State, levels_of
from forecast.voices import CHAMPION

Way = Literal["service", "backtest"]
WINDOW_S = 8 * DAY_S
"""what a tick is given, as `forecast.produce` says"""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What was forecast for each scored moment. Columns count in the judged batch."""

    origins: Ints
    """[O]"""
    seconds: Ints
    """[H] ahead of the origin"""
    levels: tuple[float, ...]
    values: Floats
    """[O, S, H, L]; NaN = no forecast"""
    spoke: tuple[tuple[str, ...], ...]
    """who spoke: by service [days][H] after each day's refit, by backtest the last day's choices, per kind and band"""


def issued(
    given: Judged, seconds: Sequence[int], *, way: Way = "service", stride: int = 1, told: Callable[[str], None]
) -> Issued:
    """Return what we would have issued every `stride` steps of the scored part; `told` gets a line per day."""
    made = _service if way == "service" else _backtest
    return made(given, np.asarray(seconds, dtype=np.int64), stride, told)


def _service(given: Judged, ahead: Ints, stride: int, told: Callable[[str], None]) -> Issued:
    """The first refit is done twice, as a service that has just started does: some models stand from the second on."""
    batch = given.batch
    day = DAY_S // batch.step_s
    origins = np.arange(int(given.first.min()), len(batch.ts) - 1, stride, dtype=np.int64)
    levels = levels_of(batch.target)
    values = np.full((len(origins), len(batch.names), len(ahead), len(levels)), np.nan)
    state, spoke = State(), []
    for begin in range(int(origins[0]), len(batch.ts) - 1, day):
        known = restricted(batch, begin)
        now = datetime.fromtimestamp(int(known.ts[-1]), UTC)
        if not state.classes:
            state = produce.refit(state, [known], now)
        state = produce.refit_daily(state, [known], now)
        spoke.append(tuple(champion_at(state.classes[batch.target], float(s)) for s in ahead))
        for o in np.flatnonzero((origins >= begin) & (origins < begin + day)):
            values[o] = looked(state, restricted(batch, int(origins[o])), ahead)
        told(f"{given.name}: {now:%d %b %H:%M} {' '.join(spoke[-1])}")
    return Issued(origins=origins, seconds=ahead, levels=levels, values=values, spoke=tuple(spoke))


def looked(state: State, known: Batch, ahead: Ints) -> Floats:
    """Return [S, H, L] what a tick at the batch's newest moment says, without minutes (there are none)."""
    window = clean(recent(known, WINDOW_S // known.step_s)).batch
    klass = state.classes[known.target]
    if klass.voices is None:  # a tick is silent then, too
        return np.full((len(known.names), len(ahead), len(levels_of(known.target))), np.nan)
    now_s = int(known.ts[-1])
    paths = coarse_paths(klass, window, int(ahead[-1]) // known.step_s + 1, [champion_at(klass, float(s)) for s in (0, *ahead)])
    return look(klass, window, None, now_s, ahead, paths).values


def _backtest(given: Judged, ahead: Ints, stride: int, told: Callable[[str], None]) -> Issued:
    """The service's line-up; origins before the scored part too, for their errors."""
    batch = given.batch
    wanted = [m for m in installed(FORECASTERS) if m in (*HOURLY, "prophet")]
    models = [m for m in wanted if len(batch.names) <= MOST_SERIES.get(m, len(batch.names))]
    first, steps = int(given.first.min()), ahead // batch.step_s
    planned = plan(
        Table(batch=batch, left_out=(), notes=()),
        {str(step): int(step) * batch.step_s for step in steps},
        models=models,
        origins_per_day=DAY_S // batch.step_s // stride,
        test=(len(batch.ts) - first) / len(batch.ts),
    )
    result = join(planned, [run(task, batch) for task in planned.tasks])
    past = result.rolled.pasts[CHAMPION]
    kept = past.origins >= first
    values = result.quantiles[CHAMPION][kept][:, np.searchsorted(past.knots, steps)].transpose(0, 2, 1, 3)
    last = [choice for choice in result.rolled.choices if choice.at == result.rolled.choices[-1].at]
    told(f"{given.name}: {' '.join(f'{c.kind} {c.band} {c.model}' for c in last)}")
    spoke = (tuple(f"{c.kind} {c.band} {c.model}".strip() for c in last),)
    return Issued(origins=past.origins[kept], seconds=ahead, levels=LEVELS, values=values, spoke=spoke)
