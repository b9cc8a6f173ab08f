"""What is in force and why, what was decided lately and what became of it, and what is expected to go wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from dashboard.model import AlertNow, DecisionGroup, InForce, OutcomeCount
from dashboard.moment import Asker, aware, seconds

Row = Mapping[str, Any]
GROUPS = 24
MOST = 150
"""decisions of each policy that are looked at"""
QUIET_S = 300.0
TARGETS = 6


def in_force(ask: Asker) -> tuple[InForce, ...]:
    """Return the leases on caps and weights that hold now, or would in mode advise."""
    found = (_in_force(row) for row in ask.rows("page_in_force"))
    return tuple(lease for lease in found if lease.until_wall > ask.at.wall)


def _in_force(row: Row) -> InForce:
    return InForce(
        target=row["target"],
        node=row["node"],
        kind=row["kind"],
        row=row["row"],
        tenant=row["tenant"],
        endpoint=row["endpoint"],
        max_mhz=row["max_mhz"],
        shares=msgspec.json.decode(row["shares"], type=dict[str, float]) if row["shares"] else {},
        policy=row["policy"],
        reason=row["reason"],
        mode=row["mode"],
        since=aware(row["since"]) if row["since"] else None,
        until_wall=aware(row["until_wall"]),
        outcome=row["outcome"],
        evidence=row["evidence"] or row["outcome_reason"] or "",
        latency_s=row["latency_s"],
        counterfactual=row["counterfactual"] or "",
        constraint=row["binding_constraint"] or "",
        probability=row["probability"],
    )


def decisions(ask: Asker) -> tuple[DecisionGroup, ...]:
    """Return the newest decisions, newest first: those of one policy, moment and kind together.

    What nobody acted upon (another policy's wish won, or it was in force already) counts by five minutes instead of by moment.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in ask.rows("page_decisions", most=MOST):
        kind = "no_change" if row["no_change"] else row["kind"] or row["target"].partition("/")[0]
        moment = row["ts"] if row["mode"] else seconds(row["ts"]) // QUIET_S
        groups.setdefault((moment, row["policy"], kind), []).append(row)
    return tuple(_group(key[1], key[2], rows) for key, rows in list(groups.items())[:GROUPS])


def _group(policy: str, kind: str, rows: Sequence[Row]) -> DecisionGroup:
    worst = max(rows, key=lambda r: r["probability"] if r["probability"] is not None else -1.0)
    clocks = [r["max_mhz"] for r in rows if r["max_mhz"] is not None]
    return DecisionGroup(
        at=aware(rows[0]["ts"]),
        policy=policy,
        kind=kind,
        first_at=aware(rows[-1]["ts"]),
        n=len({r["target"] for r in rows}),
        times=len(rows),
        targets=tuple(sorted({r["target"] for r in rows})[:TARGETS]),
        min_mhz=min(clocks, default=None),
        max_mhz=max(clocks, default=None),
        reason=worst["no_change"] or worst["reason"],
        counterfactual=worst["counterfactual"],
        probability=worst["probability"],
        mode=next((r["mode"] for r in rows if r["mode"]), None),
        outcomes=dict(Counter(r["outcome"] for r in rows if r["outcome"])),
    )


def outcomes(ask: Asker) -> tuple[OutcomeCount, ...]:
    """Return how the actions of the last hour ended, the most frequent first."""
    return tuple(
        OutcomeCount(
            status=row["status"],
            n=row["n"],
            latency_p50_s=row["latency_p50_s"],
            latency_p99_s=row["latency_p99_s"],
            newest_target=row["newest_target"],
            newest_reason=row["newest_reason"],
            newest_at=aware(row["newest_at"]),
        )
        for row in ask.rows("page_outcomes")
    )


def alerts(ask: Asker) -> tuple[AlertNow, ...]:
    """Return the alerts that fire, soonest violation first, then those that ended within the hour."""
    return tuple(_alert(row) for row in ask.rows("page_alerts"))


def _alert(row: Row) -> AlertNow:
    at = aware(row["ts"])
    return AlertNow(
        alert_id=row["alert_id"],
        alertname=row["alertname"],
        severity=row["severity"],
        series=row["series"],
        probability=row["probability"],
        status=row["status"],
        summary=row["summary"],
        began_at=aware(row["began_at"]),
        at=at,
        lead_s=row["lead_s"],
        first_lead_s=row["first_lead_s"],
        due_at=None if row["lead_s"] is None else at + timedelta(seconds=row["lead_s"]),
    )
