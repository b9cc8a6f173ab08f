import httpx
import pytest

from actuators.alertmanager import Alertmanager, AlertmanagerSettings
from contracts.control import Action, Raise
from contracts.errors import ConfigError
from tests.actuators.conftest import wait_until
from tests.actuators.targets import make_action

TARGET = "alert/RowPowerAhead/row-1"


def alert(lease_s: float, severity: str = "warning") -> Action:
    value = Raise(
        alertname="RowPowerAhead",
        severity="critical" if severity == "critical" else "warning",
        labels={"row": "row-1"},
        annotations={"summary": "row-1 will exceed 286 kW in 4 min", "probability": "0.31", "lead_s": "240"},
    )
    return make_action(value, TARGET, node="alerting", lease_s=lease_s)


def firing(url: str) -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return found


def test_a_url_is_a_url() -> None:
    for url in ("localhost:9093", "ftp://alerts", ""):
        with pytest.raises(ConfigError, match="give http://host:port"):
            Alertmanager(AlertmanagerSettings(url=url))


@pytest.mark.real
def test_an_alert_lives_while_it_is_renewed_and_resolves_by_itself(alertmanager_url: str) -> None:
    actuator = Alertmanager(AlertmanagerSettings(url=alertmanager_url, labels={"site": "north"}))
    found = actuator.apply(alert(2.0))
    assert found.status == "applied", found
    (seen,) = firing(alertmanager_url)
    assert seen["labels"] == {
        "alertname": "RowPowerAhead",
        "severity": "warning",
        "row": "row-1",
        "site": "north",
        "target": TARGET,
    }
    assert seen["annotations"]["lead_s"] == "240"
    started = seen["startsAt"]
    found = actuator.apply(alert(3.0))
    assert found.status == "applied", "a renewal prolongs"
    (seen,) = firing(alertmanager_url)
    assert seen["startsAt"] == started, "and it is still the same alert"
    wait_until(lambda: not firing(alertmanager_url), "an alert that is not renewed resolves by itself", 15.0)


@pytest.mark.real
def test_a_graver_alert_takes_the_place_of_the_first_and_a_revert_ends_it(alertmanager_url: str) -> None:
    actuator = Alertmanager(AlertmanagerSettings(url=alertmanager_url))
    actuator.apply(alert(60.0))
    assert actuator.apply(alert(60.0, "critical")).status == "applied"
    assert [seen["labels"]["severity"] for seen in firing(alertmanager_url)] == ["critical"]
    assert actuator.revert(alert(60.0)).status == "reverted", "whatever fires for the target is resolved"
    assert firing(alertmanager_url) == []
