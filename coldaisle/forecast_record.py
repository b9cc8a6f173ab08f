"""The forecaster's own record, as rows of topics that SREs query: what ran, who was chosen and why, how good it was."""

import logging
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from coldaisle.forecast_worker import OverBudgetError, StoppedError
from contracts.errors import ColdaisleError
from contracts.ports import Clock
from forecast.champion import Choice
from forecast.tally import Score
from ingest.codec import frame_of
from ingest.publisher import Publisher

ALL = "pool"
"""the kind of all series together"""
LOG = logging.getLogger("coldaisle.forecaster")


@dataclass
class Told:
    """What a job says of itself before it ends."""

    series: int = 0
    detail: str = ""
    cpu_s: float | None = None
    """set where another process did the work"""


class Record:
    """Publishes the record. Thread-safe as the publisher is, but `absent`, which the ticks alone call."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        """Nothing told yet."""
        self._publisher, self._clock = publisher, clock
        self._absent: dict[tuple[str, str | None], str] = {}

    @contextmanager
    def job(self, name: str, budget_s: float) -> Iterator[Told]:
        """Record a run of a job: how it ended, what it took. An error in one's own words is recorded and logged, and passes."""
        told, began, cpu = Told(), time.monotonic(), _thread_s()
        status = "ok"
        try:
            yield told
        except ColdaisleError as error:
            status = {OverBudgetError: "over budget", StoppedError: "stopped"}.get(type(error), "failed")
            told.detail = str(error)
            LOG.log(logging.INFO if status == "stopped" else logging.ERROR, "job %s %s: %s", name, status, error)
        finally:
            took_s = time.monotonic() - began
            if status == "ok" and took_s > budget_s:
                status = "over budget"
            self.rows(
                "forecast_jobs",
                [
                    {
                        "job": name,
                        "status": status,
                        "took_s": took_s,
                        "cpu_s": _thread_s() - cpu if told.cpu_s is None else told.cpu_s,
                        "budget_s": budget_s,
                        "series": told.series,
                        "detail": told.detail,
                    }
                ],
            )

    def choices(self, choices: Sequence[Choice]) -> None:
        """Record who speaks from now on, and against whom."""
        rows = [
            {
                "target": choice.target,
                "kind": choice.kind or ALL,
                "band": choice.band,
                "model": choice.model,
                "previous": choice.previous or None,
                "reason": choice.reason,
                "models": list(choice.errors),
                "ratios": [min(max(ratio, 0.0), 1e9) for ratio in choice.errors.values()],
            }
            for choice in choices
        ]
        self.rows("forecast_choices", rows)

    def scores(self, scores: Sequence[Score]) -> None:
        """Record how good what was issued has been."""
        rows = []
        for score in scores:
            day = None if score.worst_day is None else datetime.fromtimestamp(score.worst_day, UTC)
            own = {"ts": datetime.fromtimestamp(score.ts, UTC), "kind": score.kind or ALL, "worst_day": day}
            rows.append(asdict(score) | own)
        self.rows("forecast_scores", rows)

    def absent(self, without: Sequence[tuple[str, str]]) -> None:
        """Record what is not forecast and why, where that has changed; `without`: (target/series or target, reason)."""
        now = {(name.partition("/")[0], name.partition("/")[2] or None): reason for name, reason in without}
        changed = [key for key in now.keys() | self._absent.keys() if now.get(key) != self._absent.get(key)]
        self._absent = now
        self.rows("forecast_absent", [{"target": of, "series": name, "reason": now.get((of, name))} for of, name in changed])

    def rows(self, topic: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Publish rows of a topic, with the present as their time where they name none."""
        if not rows:
            return
        at = self._clock.now()
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        self._publisher.frame(topic, "forecaster", frame_of(topic, {"ts": [at] * len(rows)} | columns))


def _thread_s() -> float:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime
