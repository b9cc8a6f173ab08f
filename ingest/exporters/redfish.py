"""Redfish: intake air temperature and node power of many servers, read from their BMCs, in the new schema and the old."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

import msgspec

from contracts.errors import ConfigError
from contracts.ports import Collected, Problem
from ingest.exporters.http_targets import Crowd, TargetError, check_url, make_client, read_secret
from ingest.exporters.redfish_schema import Sources, Walk, inlet_c, power_w, probe

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Bmc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server's management controller."""

    node: Annotated[str, msgspec.Meta(min_length=1)]
    """name of the server in the topology"""
    url: str
    """e.g. https://10.0.7.31"""
    chassis: str = ""
    """Id of the chassis to read; empty = the first that has the sensors"""


class RedfishSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which BMCs, and how to ask them."""

    bmcs: Annotated[tuple[Bmc, ...], msgspec.Meta(min_length=1)]
    username: str = ""
    password_file: str = ""
    """its first line is the password"""
    verify_tls: bool = True
    ca_file: str = ""
    """PEM certificates to trust instead of the system's"""
    period_s: Seconds = 10.0
    timeout_s: Seconds = 5.0
    """per BMC: all requests of one reading together"""
    parallel: Annotated[int, msgspec.Meta(ge=1, le=256)] = 32
    refused_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 300.0
    """pause after refused credentials, lest repeated tries lock the account"""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one BMC said; `lacking` names what it does not offer at all (told once, after the probe)."""

    inlet_c: float | None
    power_w: float | None
    lacking: str = ""


class RedfishExporter:
    """Reads every BMC once per `collect`, in parallel. A dead one becomes a Problem, the rest goes on."""

    Settings = RedfishSettings
    name = "redfish"

    def __init__(self, settings: RedfishSettings) -> None:
        _check(settings)
        self.period_s = settings.period_s
        self._settings = settings
        password = read_secret("password_file", settings.password_file)
        self._auth = (settings.username, password) if settings.username else None
        self._client = make_client(parallel=settings.parallel, verify_tls=settings.verify_tls, ca_file=settings.ca_file)
        self._crowd: Crowd[Reading] = Crowd(parallel=settings.parallel, timeout_s=settings.timeout_s)
        self._sources: dict[str, Sources] = {}
        self._held_until: dict[str, datetime] = {}

    def collect(self, now: datetime) -> Sequence[Collected]:
        """Return one `server` row a BMC that answered, with ts = `now`."""
        due = {bmc.node: bmc for bmc in self._settings.bmcs if self._held_until.get(bmc.node, now) <= now}
        answers = self._crowd.ask({node: partial(self._read, bmc) for node, bmc in due.items()})
        read: dict[str, Reading] = {}
        problems = []
        for node, answer in answers.items():
            if isinstance(answer, TargetError):
                reason = self._refused(node, answer, now)
            else:
                read[node] = answer
                reason = f"offers {answer.lacking}; that stays NULL" if answer.lacking else ""
            if reason:
                problems.append(Problem(source=f"redfish:{node}", reason=f"{due[node].url} {reason}"))
        columns: dict[str, Sequence[Any]] = {
            "ts": [now] * len(read),
            "node": list(read),
            "inlet_c": [reading.inlet_c for reading in read.values()],
            "power_w": [reading.power_w for reading in read.values()],
        }
        return [Collected(topic="server", columns=columns, problems=tuple(problems))]

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._crowd.close()
        self._client.close()

    def _refused(self, node: str, error: TargetError, now: datetime) -> str:
        if error.status not in (401, 403):
            return str(error)
        self._held_until[node] = now + timedelta(seconds=self._settings.refused_wait_s)
        return f"{error}: check username and password_file; next try in {self._settings.refused_wait_s:g} s"

    def _read(self, bmc: Bmc) -> Reading:
        walk = Walk(client=self._client, base_url=bmc.url, auth=self._auth, timeout_s=self._settings.timeout_s)
        known = self._sources.get(bmc.node)
        sources = known or probe(walk, bmc.chassis)
        try:
            reading = Reading(
                inlet_c=inlet_c(sources.inlet[0], walk.get(sources.inlet[1])) if sources.inlet else None,
                power_w=power_w(sources.power[0], walk.get(sources.power[1])) if sources.power else None,
                lacking="" if known else _lacking(sources),
            )
        except TargetError as error:
            if error.status == 404:  # firmware that was changed may keep them elsewhere: probe anew
                self._sources.pop(bmc.node, None)
            raise
        self._sources[bmc.node] = sources
        return reading


def _lacking(sources: Sources) -> str:
    absent = [what for what, at in (("intake temperature", sources.inlet), ("power reading", sources.power)) if at is None]
    return " and ".join(f"no {what}" for what in absent)


def _check(settings: RedfishSettings) -> None:
    seen: set[str] = set()
    for bmc in settings.bmcs:
        check_url(f"redfish BMC of {bmc.node}: url", bmc.url)
        if bmc.node in seen:
            raise ConfigError(f"redfish: node {bmc.node!r} stands twice; one BMC a node")
        seen.add(bmc.node)
    if settings.username and not settings.password_file:
        raise ConfigError("redfish: username without password_file; name a file that holds the password as its first line")
    if settings.password_file and not settings.username:
        raise ConfigError("redfish: password_file without username; set username")
