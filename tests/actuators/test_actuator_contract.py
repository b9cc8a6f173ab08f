"""What every actuator must do: idempotent, reversible, refuses what is out of bounds, says what it saw."""

from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from actuators.alertmanager import Alertmanager, AlertmanagerSettings
from actuators.dry_run import DryRun, DryRunSettings
from actuators.haproxy import HaproxySettings, HaproxyWeights
from actuators.node_file import NodeFile
from actuators.nvml import NvmlClocks, NvmlSettings
from contracts.control import Bounds, ClockCap, Outcome, Raise, Value, Weights
from contracts.errors import ActuationError
from tests.actuators.conftest import Haproxy
from tests.actuators.standins import Alerts, RuntimeApi, serving
from tests.actuators.targets import Target, make_action
from tests.nvml_standin.standin import Standin

NARROW = Bounds(low=800, high=1980)
CHAT = Weights(endpoint="chat", shares={"r0s0": 0.75, "r0s2": 0.25})
BACK = Weights(endpoint="chat", shares={"r0s0": 0.2, "r0s2": 0.2, "r1s0": 0.6})
HOT = Raise(
    alertname="RowPowerAhead", severity="warning", labels={"row": "row-1"}, annotations={"summary": "row-1 will exceed 286 kW"}
)
HOTTER = Raise(alertname="RowPowerAhead", severity="critical", labels={"row": "row-1"}, annotations={"summary": "now"})


def clock_target(cards: Standin) -> Target:
    for index in range(2):
        cards.gpu(index).load = 1.0
    actuator = NvmlClocks(NvmlSettings(sample_s=0.1))
    actuator.allow(NodeFile(gpus=(cards.uuid(0), cards.uuid(1))))
    return Target(
        actuator=actuator,
        target="clock_cap/r0s0",
        value=ClockCap(max_mhz=1200),
        other=ClockCap(max_mhz=1000, gpus=(1,)),
        look=lambda: [(cards.gpu(i).lock_min_mhz, cards.gpu(i).lock_max_mhz) for i in range(2)],
        writes=lambda: sum(cards.gpu(i).locks for i in range(2)),
        beyond=(ClockCap(max_mhz=400), NARROW),
    )


def weights_target(address: str, look: object, writes: object) -> Target:
    assert callable(look)
    assert callable(writes)
    return Target(
        actuator=HaproxyWeights(HaproxySettings(address=address)),
        target="weights/chat",
        value=CHAT,
        other=BACK,
        look=look,
        writes=writes,
        beyond=(CHAT, Bounds(low=0.0, high=0.7)),
    )


def alert_target(url: str, look: object, writes: object) -> Target:
    assert callable(look)
    assert callable(writes)
    actuator = Alertmanager(AlertmanagerSettings(url=url, labels={"site": "test"}))
    return Target(actuator=actuator, target='alert/RowPowerAhead/"row-1"', value=HOT, other=HOTTER, look=look, writes=writes)


@pytest.fixture(
    params=[
        "dry_run",
        "nvml",
        "haproxy_standin",
        "alertmanager_standin",
        pytest.param("haproxy", marks=pytest.mark.real),
        pytest.param("alertmanager", marks=pytest.mark.real),
    ]
)
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    match request.param:
        case "dry_run":
            dry = DryRun(DryRunSettings(kind="clock_cap"))
            action = make_action(ClockCap(max_mhz=1200))
            value, other = ClockCap(max_mhz=1200), ClockCap(max_mhz=900)
            beyond: tuple[Value, Bounds] = (ClockCap(max_mhz=400), NARROW)
            yield Target(
                actuator=dry,
                target=action.target,
                value=value,
                other=other,
                look=lambda: dry.read(action),
                writes=lambda: 0,
                beyond=beyond,
            )
        case "nvml":
            yield clock_target(request.getfixturevalue("cards"))
        case "haproxy_standin":
            api = RuntimeApi()
            with serving(api):
                yield weights_target(api.address, lambda: dict(api.weights), lambda: api.writes)
        case "alertmanager_standin":
            alerts = Alerts()
            with serving(alerts):
                yield alert_target(alerts.url, lambda: labels_of(alerts.firing()), lambda: 0)
        case "haproxy":
            real: Haproxy = request.getfixturevalue("haproxy")
            yield weights_target(real.admin, real.weights, lambda: 0)
        case "alertmanager":
            url = request.getfixturevalue("alertmanager_url")

            def firing() -> list[dict[str, str]]:
                return labels_of(httpx.get(f"{url}/api/v2/alerts", trust_env=False).json())

            yield alert_target(url, firing, lambda: 0)


def labels_of(alerts: list[dict[str, dict[str, str]]]) -> list[dict[str, str]]:
    return sorted((alert["labels"] for alert in alerts), key=lambda labels: sorted(labels.items()))


def applied(found: Outcome) -> None:
    assert found.status in {"applied", "would_apply"}, found


def test_applying_twice_is_applying_once(target: Target) -> None:
    action = make_action(target.value, target.target)
    applied(target.actuator.apply(action))
    seen, writes = target.look(), target.writes()
    applied(target.actuator.apply(action))
    assert target.look() == seen
    assert target.writes() == writes, "an unchanged value is verified, not written again"


def test_reverting_restores_what_was_there(target: Target) -> None:
    declared = target.look()
    action = make_action(target.value, target.target)
    applied(target.actuator.apply(action))
    assert target.look() != declared
    for _ in range(2):
        found = target.actuator.revert(action)
        assert found.status == "reverted", found
        assert target.look() == declared


def test_the_last_value_wins_whatever_came_before(target: Target) -> None:
    applied(target.actuator.apply(make_action(target.value, target.target)))
    alone = target.look()
    applied(target.actuator.apply(make_action(target.other, target.target)))
    assert target.look() != alone
    applied(target.actuator.apply(make_action(target.value, target.target)))
    assert target.look() == alone


def test_what_is_out_of_bounds_is_refused_and_changes_nothing(target: Target) -> None:
    if target.beyond is None:
        assert isinstance(target.value, Raise), "only alerts have no bounds"
        return
    value, bounds = target.beyond
    declared = target.look()
    found = target.actuator.apply(make_action(value, target.target, bounds=bounds))
    assert found.status == "refused"
    assert "outside" in found.reason
    assert target.look() == declared


def test_outcomes_bear_the_evidence(target: Target) -> None:
    action = make_action(target.value, target.target)
    found = target.actuator.apply(action)
    assert (found.action_id, found.target, found.node, found.epoch) == ("7-1", target.target, "r0s0", 7)
    assert found.before
    assert found.after
    assert found.before != found.after


def test_a_value_of_another_kind_is_refused(target: Target) -> None:
    if isinstance(target.actuator, DryRun):
        return  # takes them all
    wrong: Value = HOT if not isinstance(target.value, Raise) else ClockCap(max_mhz=1000)
    assert target.actuator.apply(make_action(wrong, target.target)).status == "refused"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "/nowhere/admin.sock"])
def test_an_absent_haproxy_is_a_clear_failure(address: str) -> None:
    actuator = HaproxyWeights(HaproxySettings(address=address))
    with pytest.raises(ActuationError, match=f"haproxy at {address}: .*stats socket"):
        actuator.apply(make_action(CHAT, "weights/chat"))


def test_an_absent_alertmanager_is_a_clear_failure() -> None:
    actuator = Alertmanager(AlertmanagerSettings(url="http://127.0.0.1:1"))
    with pytest.raises(ActuationError, match=r"alertmanager at http://127.0.0.1:1: .*is it up"):
        actuator.apply(make_action(HOT, "alert/RowPowerAhead/row-1"))


def test_times_of_an_alert_end_with_its_lease() -> None:
    alerts = Alerts()
    with serving(alerts):
        actuator = Alertmanager(AlertmanagerSettings(url=alerts.url))
        action = make_action(HOT, "alert/RowPowerAhead/row-1", lease_s=12.0)
        actuator.apply(action)
        (alert,) = alerts.firing()
        lease = datetime.fromisoformat(alert["endsAt"]) - datetime.fromisoformat(alert["startsAt"])
        assert lease.total_seconds() == 12.0
        assert alert["annotations"]["summary"] == "row-1 will exceed 286 kW"


def test_an_alertmanager_that_errs_is_quoted() -> None:
    alerts = Alerts()
    alerts.broken = True
    with serving(alerts), pytest.raises(ActuationError, match=r"500 .*out of order"):
        Alertmanager(AlertmanagerSettings(url=alerts.url)).apply(make_action(HOT, "alert/RowPowerAhead/row-1"))
