"""From alert actions to the alerts' own record: one row when it starts, when it changes, when it ends."""

from collections.abc import Mapping, Sequence

from contracts.control import Action, Alert, Decision, Raise, Revert


def alerts_of(actions: Sequence[Action], decisions: Sequence[Decision], in_force: Mapping[str, Action]) -> list[Alert]:
    """Return the alert records that follow from this tick's actions.

    `in_force`: what stood before them (target -> action); renewals are no news.
    """
    causes = {decision.decision_id: decision for decision in decisions}
    alerts = []
    for action in actions:
        if action.renews:
            continue
        if isinstance(action.value, Raise):
            cause = next((causes[i] for i in action.decision_ids if i in causes), None)
            alerts.append(_record(action, action.value, "firing", cause))
        elif isinstance(action.value, Revert) and action.target in in_force:
            before = in_force[action.target].value
            if isinstance(before, Raise):
                alerts.append(_record(action, before, "resolved", None))
    return alerts


def _record(action: Action, value: Raise, status: str, cause: Decision | None) -> Alert:
    lead = value.annotations.get("lead_s")
    return Alert(
        alert_id=action.target,
        at=action.at,
        status="firing" if status == "firing" else "resolved",
        alertname=value.alertname,
        severity=value.severity,
        series=action.target.split("/", 2)[-1],
        probability=0.0 if cause is None or cause.probability is None else cause.probability,
        lead_s=None if lead is None else float(lead),
        summary=value.annotations.get("summary", ""),
        labels=value.labels,
        forecast_ids=() if cause is None else cause.forecast_ids,
    )
