from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.control import Raise
from contracts.view import View
from policies.alerts import Alerts
from tests.factories import make_view
from tests.policies.values import forecasts, make_action, make_forecast, reasons


def fired(view: View) -> dict[str, Raise]:
    return {d.target: d.value for d in Alerts().decide(view) if isinstance(d.value, Raise)}


def heat(view: View, nodes: list[str], temp_c: float, spread: float = 0.5) -> View:
    made = [make_forecast("gpu_temp", node, [80.0, temp_c, temp_c], spread=spread) for node in nodes]
    return replace(view, forecasts=forecasts(*made, among=view.forecasts))


def test_quiet_site_is_one_reason() -> None:
    assert reasons(list(Alerts().decide(make_view()))) == ["no violation is likely"]


def test_row_is_told_with_probability_lead_and_cause() -> None:
    rising = make_forecast("power", "row-0", [25_000, 27_000, 29_000, 31_000, 33_000, 35_000], spread=300.0)
    (target, alert), *more = fired(make_view(forecasts=forecasts(rising))).items()
    assert not more
    assert target == "alert/RowPowerAboveLimit/row-0"
    assert alert.severity == "critical"
    assert alert.labels == {
        "alertname": "RowPowerAboveLimit",
        "severity": "critical",
        "row": "row-0",
        "cause": "load",
    }
    assert float(alert.annotations["lead_s"]) == 240.0
    assert alert.annotations["summary"] == "P(power of row-0 > 30 kW within 15 min) = 1.00, lead 4 min, because load rises"


def test_one_hot_server_is_named() -> None:
    alerts = fired(heat(make_view(), ["r0s1"], 90.0))
    assert list(alerts) == ["alert/GpuAboveSlowdown/r0s1"]
    assert alerts["alert/GpuAboveSlowdown/r0s1"].labels["node"] == "r0s1"


def test_many_hot_servers_of_one_aisle_are_one_alert_with_its_cause() -> None:
    nodes = ["r0s0", "r0s1", "r1s0", "r1s1"]
    alerts = fired(replace(heat(make_view(), nodes, 90.0), ahu_lost=np.array([True, False])))
    alert = alerts["alert/GpuAboveSlowdown/aisle-0"]
    assert len([t for t in alerts if "GpuAboveSlowdown" in t]) == 1
    assert alert.labels["cause"] == "ahu-0a lost"
    assert alert.annotations["servers"] == "4"
    assert "and 3 more servers" in alert.annotations["summary"]
    assert "because ahu-0a lost" in alert.annotations["summary"]


def test_measured_violation_needs_no_forecast() -> None:
    view = make_view()
    alerts = fired(replace(view, row_power_w=view.index.row_limit_w * np.array([1.02, 0.5])))
    assert alerts["alert/RowPowerAboveLimit/row-0"].annotations["lead_s"] == "0"


@pytest.mark.parametrize(
    ("standing", "power", "fires"), [(False, 29_700.0, False), (True, 29_700.0, True), (True, 29_000.0, False)]
)
def test_alert_rises_and_clears_at_different_probabilities(standing: bool, power: float, fires: bool) -> None:
    forecast = make_forecast("power", "row-0", [power] * 5, spread=300.0)  # 30 kW is the 75 % quantile, or far above
    view = make_view(forecasts=forecasts(forecast))
    if standing:
        view = replace(
            view, actions=actions_of(fired(make_view(forecasts=forecasts(make_forecast("power", "row-0", [31e3] * 5)))))
        )
    assert bool(fired(view)) == fires


def actions_of(alerts: dict[str, Raise]) -> dict[str, Any]:
    return {target: make_action(target, value, policy="alerts") for target, value in alerts.items()}


def test_alert_stays_word_for_word_until_there_is_news() -> None:
    first = fired(make_view(forecasts=forecasts(make_forecast("power", "row-0", [30_200.0] * 5, spread=300.0))))
    later = make_view(
        forecasts=forecasts(make_forecast("power", "row-0", [30_250.0] * 5, spread=300.0)), actions=actions_of(first)
    )
    assert fired(later) == first
    worse = replace(later, forecasts=forecasts(make_forecast("power", "row-0", [33_000.0] * 5, spread=300.0)))
    assert fired(worse) != first
    failed = replace(later, ups_lost=np.array([True, False]))
    assert fired(failed)["alert/RowPowerAboveLimit/row-0"].labels["cause"] == "ups-0 lost"


def test_short_air_is_told_by_aisle() -> None:
    view = make_view()
    alerts = fired(replace(view, aisle_airflow_cfm=view.index.aisle_limit_cfm * 0.95, ahu_lost=np.array([True, False])))
    assert alerts["alert/AirflowAboveSupply/aisle-0"].labels["cause"] == "ahu-0a lost"
