"""Alerts: a predicted violation with its probability, lead time and cause; one alert per cause, damped.

What is predicted is what will happen with the controls in force: an alert says that they do not suffice, or that the operator
should know why they work. It rises and clears at different probabilities, and changes only when there is news.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from contracts.control import Decision, Raise
from contracts.forecasts import Target
from contracts.view import Bools, Floats, Ints, View
from policies.decisions import FORECAST, Because, no_change, want
from policies.emergency import failures
from policies.present import Freshness, Present, present
from policies.probability import exceedance, fan

Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
Severity = Literal["warning", "critical"]


class AlertsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an alert rises, clears and changes."""

    horizon_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 900.0
    rise: Probability = 0.5
    clear: Probability = 0.2
    critical: Probability = 0.9
    news: Probability = 0.25
    """a change of the probability that is worth a new record"""
    group: Annotated[int, msgspec.Meta(ge=2)] = 3
    """servers of one aisle with the same trouble that become one alert"""
    inlet_limit_c: Annotated[float, msgspec.Meta(ge=10, le=60)] = 40.0
    """highest inlet that the servers are allowed (ASHRAE class A3) [MEM]"""
    freshness: Freshness = Freshness()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One predicted violation, before it is known whether it is worth an alert."""

    alertname: str
    series: str
    labels: dict[str, str]
    what: str
    """e.g. `GPU temperature of n17 > slowdown`"""
    because: str
    probability: float
    lead_s: float | None
    servers: int = 1
    forecast_ids: tuple[str, ...] = ()


class Alerts:
    """Tells the on-call engineer what will be violated, when and why."""

    name = "alerts"
    Settings: ClassVar[type[AlertsSettings]] = AlertsSettings

    def __init__(self, settings: AlertsSettings | None = None) -> None:
        """Take the settings; None = the defaults."""
        self.settings = settings or AlertsSettings()

    def decide(self, view: View) -> Sequence[Decision]:
        """Return the alerts that fire now, or one reason why none does."""
        now = present(view, self.settings.freshness)
        _, lost = failures(view)
        troubles = [*self._rows(view, now), *self._air(view, now, lost), *self._temperatures(view, now, lost)]
        decisions = [decision for trouble in troubles if (decision := self._alert(view, trouble)) is not None]
        return decisions or [no_change(self.name, "alert/site", "no violation is likely", at=view.now)]

    def _rows(self, view: View, now: Present) -> list[Trouble]:
        names = [row.name for row in view.topology.rows]
        rows = fan(view, "power", names, horizon_s=self.settings.horizon_s)
        expected = exceedance(rows, now.row_limit_w)
        measured = np.nan_to_num(now.row_w) > now.row_limit_w
        lost, _ = failures(view)
        return [
            Trouble(
                alertname="RowPowerAboveLimit",
                series=name,
                labels={"row": name, "cause": f"{' '.join(lost[r])} lost" if r in lost else "load"},
                what=f"power of {name} > {now.row_limit_w[r] / 1e3:.0f} kW",
                because=f"{' and '.join(lost[r])} lost" if r in lost else "load rises",
                probability=1.0 if measured[r] else float(expected.probability[r]),
                lead_s=0.0 if measured[r] else _finite(expected.lead_s[r]),
                forecast_ids=(rows.ids[r],) if rows.ids[r] else (),
            )
            for r, name in enumerate(names)
        ]

    def _air(self, view: View, now: Present, lost: dict[int, list[str]]) -> list[Trouble]:
        """Aisles that draw more air than they are supplied."""
        names = [aisle.name for aisle in view.topology.aisles]
        air = fan(view, "airflow", names, horizon_s=self.settings.horizon_s)
        expected = exceedance(air, now.aisle_supply_cfm)
        measured = np.nan_to_num(view.aisle_airflow_cfm) > now.aisle_supply_cfm
        return [
            Trouble(
                alertname="AirflowAboveSupply",
                series=name,
                labels={"aisle": name, "cause": f"{' '.join(lost[a])} lost" if a in lost else "load"},
                what=f"airflow of {name} > {now.aisle_supply_cfm[a]:.0f} CFM",
                because=f"{' and '.join(lost[a])} lost" if a in lost else "its servers draw more than its air handlers give",
                probability=1.0 if measured[a] else float(expected.probability[a]),
                lead_s=0.0 if measured[a] else _finite(expected.lead_s[a]),
                forecast_ids=(air.ids[a],) if air.ids[a] else (),
            )
            for a, name in enumerate(names)
        ]

    def _temperatures(self, view: View, now: Present, lost: dict[int, list[str]]) -> list[Trouble]:
        """GPUs above slowdown and inlets above their limit: by aisle where several share a cause, else by server."""
        hot = np.nan_to_num(now.hottest_c, nan=-np.inf) >= view.index.slowdown_c
        inlet_limit = np.full(len(hot), self.settings.inlet_limit_c)
        warm = np.nan_to_num(view.inlet_c, nan=-np.inf) > inlet_limit
        return [
            *self._by_aisle(view, "GpuAboveSlowdown", "gpu_temp", view.index.slowdown_c, hot, lost),
            *self._by_aisle(view, "InletAboveLimit", "inlet", inlet_limit, warm, lost),
        ]

    def _by_aisle(
        self, view: View, alertname: str, target: Target, limit: Floats, measured: Bools, lost: dict[int, list[str]]
    ) -> list[Trouble]:
        names = [server.name for server in view.topology.servers]
        series = fan(view, target, names, horizon_s=self.settings.horizon_s)
        expected = exceedance(series, limit)
        probability = np.where(measured, 1.0, expected.probability)
        lead_s = np.where(measured, 0.0, expected.lead_s)
        troubles: list[Trouble] = []
        for a, aisle in enumerate(view.topology.aisles):
            mine = np.flatnonzero((view.index.server_aisle == a) & (probability > self.settings.clear))
            likely = int((probability[mine] >= self.settings.rise).sum())
            one = len(mine) > 0 and (
                a in lost or likely >= self.settings.group or f"alert/{alertname}/{aisle.name}" in view.actions
            )
            groups = [mine] if one else [mine[i : i + 1] for i in range(len(mine))]
            troubles.extend(
                self._trouble(view, alertname, a, group, probability, lead_s, limit, lost, series.ids, shared=one)
                for group in groups
            )
        return troubles

    def _trouble(
        self,
        view: View,
        alertname: str,
        aisle: int,
        group: Ints,
        probability: Floats,
        lead_s: Floats,
        limit: Floats,
        lost: dict[int, list[str]],
        ids: Sequence[str],
        *,
        shared: bool,
    ) -> Trouble:
        worst = int(group[np.argmax(probability[group])])
        name, node = view.topology.aisles[aisle].name, view.topology.servers[worst].name
        cause = (
            f"{' and '.join(lost[aisle])} lost" if aisle in lost else ("the aisle's air" if shared else "its load and inlet")
        )
        quantity = "GPU temperature" if alertname == "GpuAboveSlowdown" else "inlet temperature"
        bound = "slowdown" if alertname == "GpuAboveSlowdown" else f"{limit[worst]:.0f} degC"
        first = lead_s[group][np.isfinite(lead_s[group])]
        return Trouble(
            alertname=alertname,
            series=name if shared else node,
            labels={"aisle": name, "cause": cause, **({} if shared else {"node": node})},
            what=f"{quantity} of {node} > {bound}",
            because=cause,
            probability=float(probability[worst]),
            lead_s=float(first.min()) if len(first) else None,
            servers=len(group),
            forecast_ids=tuple(ids[i] for i in group if ids[i])[:20],
        )

    def _alert(self, view: View, trouble: Trouble) -> Decision | None:
        """The alert of a trouble: None below the threshold; as it stands while there is no news."""
        target = f"alert/{trouble.alertname}/{trouble.series}"
        action = view.actions.get(target)
        standing = action.value if action is not None and isinstance(action.value, Raise) else None
        if trouble.probability < (self.settings.rise if standing is None else self.settings.clear):
            return None
        value = self._value(trouble)
        if standing is not None and not self._is_news(standing, value):
            value = standing
        because = Because(
            reason=value.annotations["summary"],
            constraint=trouble.what,
            probability=trouble.probability,
            forecast_ids=trouble.forecast_ids,
        )
        return want(self.name, target, value, because, at=view.now, priority=FORECAST)

    def _value(self, trouble: Trouble) -> Raise:
        minutes = self.settings.horizon_s / 60
        lead = "now" if trouble.lead_s == 0 else "" if trouble.lead_s is None else f"lead {trouble.lead_s / 60:.0f} min"
        others = f", and {trouble.servers - 1} more servers" if trouble.servers > 1 else ""
        parts = [
            f"P({trouble.what} within {minutes:.0f} min) = {trouble.probability:.2f}{others}",
            lead,
            f"because {trouble.because}",
        ]
        annotations = {
            "summary": ", ".join(part for part in parts if part),
            "probability": f"{trouble.probability:.2f}",
            "servers": str(trouble.servers),
        }
        if trouble.lead_s is not None:
            annotations["lead_s"] = f"{trouble.lead_s:.0f}"
        severity: Severity = "critical" if trouble.probability >= self.settings.critical else "warning"
        labels = {"alertname": trouble.alertname, "severity": severity, **trouble.labels}
        return Raise(alertname=trouble.alertname, severity=severity, labels=labels, annotations=annotations)

    def _is_news(self, standing: Raise, value: Raise) -> bool:
        """True when cause or probability changed; severity alone only with it, so that it does not flicker at its border."""
        before, after = float(standing.annotations["probability"]), float(value.annotations["probability"])
        begun = standing.annotations.get("lead_s") != "0" and value.annotations.get("lead_s") == "0"
        return standing.labels.get("cause") != value.labels.get("cause") or abs(after - before) >= self.settings.news or begun


def _finite(lead_s: float) -> float | None:
    return float(lead_s) if np.isfinite(lead_s) else None
