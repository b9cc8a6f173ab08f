"""Serving gauges: scrapes the /metrics of many inference servers and front ends into `endpoints` rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec

from contracts.errors import ConfigError
from contracts.ports import Collected, Problem
from ingest.exporters.http_targets import Crowd, TargetError, check_url, fetch, make_client
from ingest.exporters.prometheus_text import Scrape, parse
from ingest.exporters.serving_names import PREFIXES, SYSTEMS, Gauges, gauges, system_of

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Name = Annotated[str, msgspec.Meta(min_length=1)]
FORGET_PERIODS = 12
"""A scrape older than this many periods is no base for rates: they would describe a time long gone."""


class ServingTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One /metrics page."""

    url: str
    """e.g. http://10.0.1.7:8000/metrics"""
    endpoint: Name
    """the service that it belongs to"""
    node: str = ""
    """server of the instance; empty = the scraped host:port (a front end before many)"""
    model: str = ""
    """count only series of this model_name or model; empty = all"""


class ServingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to scrape, and how."""

    targets: Annotated[tuple[ServingTarget, ...], msgspec.Meta(min_length=1)]
    period_s: Seconds = 5.0
    timeout_s: Seconds = 2.0
    parallel: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    verify_tls: bool = True
    ca_file: str = ""


@dataclass(frozen=True, kw_only=True)
class _Last:
    at: datetime
    scrape: Scrape


class ServingExporter:
    """Scrapes every target once per `collect`; rates and P99s are those between two scrapes. A dead target is a Problem."""

    Settings = ServingSettings
    name = "serving"

    def __init__(self, settings: ServingSettings) -> None:
        seen: set[str] = set()
        for target in settings.targets:
            key = f"{target.url} {target.model}"
            check_url(f"serving target {target.endpoint}: url", target.url)
            if key in seen:
                raise ConfigError(f"serving target {target.url} stands twice; name it once a model")
            seen.add(key)
        self.period_s = settings.period_s
        self._settings = settings
        self._client = make_client(parallel=settings.parallel, verify_tls=settings.verify_tls, ca_file=settings.ca_file)
        self._crowd: Crowd[Scrape] = Crowd(parallel=settings.parallel, timeout_s=settings.timeout_s)
        self._last: dict[str, _Last] = {}

    def collect(self, now: datetime) -> Sequence[Collected]:
        """Return one `endpoints` row a target that answered, with ts = `now`."""
        targets = {f"{target.url} {target.model}": target for target in self._settings.targets}
        answers = self._crowd.ask({key: partial(self._scrape, target) for key, target in targets.items()})
        rows: list[tuple[ServingTarget, Gauges]] = []
        problems: list[Problem] = []
        for key, answer in answers.items():
            found = answer if isinstance(answer, TargetError) else self._gauges(key, answer, now)
            if isinstance(found, TargetError):
                problems.append(Problem(source=f"serving:{targets[key].endpoint}", reason=f"{targets[key].url} {found}"))
            else:
                rows.append((targets[key], found))
        columns: dict[str, Sequence[Any]] = {
            "ts": [now] * len(rows),
            "endpoint": [target.endpoint for target, _ in rows],
            "node": [target.node or _address(target.url) for target, _ in rows],
        }
        for field in Gauges.__dataclass_fields__:
            columns[field] = [getattr(numbers, field) for _, numbers in rows]
        return [Collected(topic="endpoints", columns=columns, problems=tuple(problems))]

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._crowd.close()
        self._client.close()

    def _scrape(self, target: ServingTarget) -> Scrape:
        body = fetch(self._client, target.url, timeout_s=self._settings.timeout_s)
        only = {"model_name": target.model, "model": target.model} if target.model else None
        try:
            return parse(body.decode(), PREFIXES, only)
        except ValueError as error:
            raise TargetError(f"sent no Prometheus text: {str(error)[:120]}") from error

    def _gauges(self, key: str, scrape: Scrape, now: datetime) -> Gauges | TargetError:
        system = system_of(scrape)
        if system is None:
            known = ", ".join(system.running for system in SYSTEMS)
            return TargetError(f"shows none of the metrics {known}; is it an inference server, and does it serve that model?")
        last = self._last.get(key)
        self._last[key] = _Last(at=now, scrape=scrape)
        elapsed_s = (now - last.at).total_seconds() if last else 0.0
        fresh = last is not None and elapsed_s <= FORGET_PERIODS * self.period_s
        return gauges(system, last.scrape if last and fresh else None, scrape, elapsed_s)


def _address(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
