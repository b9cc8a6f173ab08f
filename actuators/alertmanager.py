"""Alerts through Alertmanager's v2 API: an alert lives as long as its lease, and resolves by itself when it is not renewed."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import msgspec

from actuators.values import outcome
from contracts.control import Action, Outcome, Raise
from contracts.errors import ActuationError, ConfigError

Labels = Mapping[str, str]
POLL_S = 0.05


class AlertmanagerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Alertmanager listens, and what every alert bears."""

    url: str = "http://127.0.0.1:9093"
    labels: dict[str, str] = msgspec.field(default_factory=lambda: {"job": "coldaisle"})
    """static labels; an alert's own win"""
    generator_url: str = ""
    """where a person finds out why"""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """of one request, and of reading an alert back"""


class Alertmanager:
    """Fires, prolongs and resolves alerts. Labels: the alert's, the static ones, and `target` (what is leased)."""

    Settings = AlertmanagerSettings
    kind = "alert"

    def __init__(self, settings: AlertmanagerSettings, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`wall`: aware UTC wall time, asked when an alert is resolved. Raises ConfigError when the URL is none."""
        url = httpx.URL(settings.url)
        if url.scheme not in {"http", "https"} or not url.host:
            raise ConfigError(f"alertmanager: url = {settings.url!r}: give http://host:port")
        self._settings, self._wall = settings, wall
        no_idle = httpx.Limits(max_keepalive_connections=0)  # nobody closes an actuator: it may leave no connection open
        self._client = httpx.Client(base_url=url, timeout=settings.timeout_s, trust_env=False, limits=no_idle)

    def read(self, action: Action) -> str:
        """Return what fires for the target, as text."""
        return _text(self._alerts(action.target))

    def apply(self, action: Action) -> Outcome:
        """Post the alert with endsAt = the end of the lease, resolve the one that it replaces, and read both back."""
        value = action.value
        if not isinstance(value, Raise):
            return outcome(action, "refused", reason=f"takes alert, not {type(value).__name__}")
        ends_at = action.created_wall + timedelta(seconds=action.lease_s)
        labels = self._labels(action.target, value)
        before = self._alerts(action.target)
        stale = [alert["labels"] for alert in before if alert["labels"] != labels]
        posts = [self._alert(labels, value.annotations, action.created_wall, ends_at)]
        self._post([*posts, *(self._ended(old) for old in stale)])
        after = self._await(action.target, lambda found: [a["labels"] for a in found] == [labels] and _lasts(found, ends_at))
        if [alert["labels"] for alert in after] != [labels] or not _lasts(after, ends_at):
            reason = "posted, but not read back until " + ends_at.isoformat()
            return outcome(action, "failed", before=_text(before), after=_text(after), reason=reason)
        return outcome(action, "applied", before=_text(before), after=_text(after))

    def revert(self, action: Action) -> Outcome:
        """Resolve whatever fires for the target."""
        before = self._alerts(action.target)
        if before:
            self._post([self._ended(alert["labels"]) for alert in before])
        after = self._await(action.target, lambda found: not found)
        if after:
            return outcome(action, "failed", before=_text(before), after=_text(after), reason="still firing")
        return outcome(action, "reverted", before=_text(before), after=_text(after))

    def _labels(self, target: str, value: Raise) -> Labels:
        return {
            **self._settings.labels,
            **value.labels,
            "alertname": value.alertname,
            "severity": value.severity,
            "target": target,
        }

    def _alert(self, labels: Labels, annotations: Labels, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
        return {
            "labels": labels,
            "annotations": annotations,
            "startsAt": starts_at.isoformat(),
            "endsAt": ends_at.isoformat(),
            "generatorURL": self._settings.generator_url,
        }

    def _ended(self, labels: Labels) -> dict[str, Any]:
        now = self._wall()
        return self._alert(labels, {}, now, now)

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        self._request("POST", "/api/v2/alerts", content=msgspec.json.encode(alerts))

    def _alerts(self, target: str) -> list[dict[str, Any]]:
        """What fires for the target."""
        quoted = target.replace("\\", "\\\\").replace('"', '\\"')
        found = self._request("GET", "/api/v2/alerts", params={"filter": f'target="{quoted}"'}).json()
        return sorted(found, key=lambda alert: sorted(alert["labels"].items()))

    def _await(self, target: str, good: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Read until it is `good` or the time is over; return what was read last."""
        deadline = time.monotonic() + self._settings.timeout_s
        while not good(found := self._alerts(target)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return found

    def _request(self, method: str, path: str, **rest: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        try:
            response = self._client.request(method, path, headers=headers, **rest)
        except httpx.HTTPError as error:
            raise ActuationError(f"alertmanager at {self._settings.url}: {error or type(error).__name__}; is it up?") from None
        if response.status_code != httpx.codes.OK:
            said = " ".join(response.text.split())[:200]
            raise ActuationError(f"alertmanager at {self._settings.url}: {method} {path}: {response.status_code} {said}")
        return response


def _lasts(alerts: list[dict[str, Any]], ends_at: datetime) -> bool:
    """Whether every alert lives until `ends_at` at least (Alertmanager keeps milliseconds)."""
    return all((datetime.fromisoformat(alert["endsAt"]) - ends_at).total_seconds() > -0.01 for alert in alerts)


def _text(alerts: list[dict[str, Any]]) -> str:
    if not alerts:
        return "nothing fires"
    return ", ".join(f"{a['labels']['alertname']} {a['labels'].get('severity', '')} until {a['endsAt']}" for a in alerts)
