"""Inference services: what they are asked, how they answer, and by which weights they are spread."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dashboard.model import EndpointLoad, InForce
from dashboard.moment import LOAD_BUCKET_S, Asker, seconds
from dashboard.paths import Paths
from dashboard.power import by

Row = Mapping[str, Any]


def endpoints(ask: Asker, paths: Paths, in_force: Sequence[InForce]) -> tuple[EndpointLoad, ...]:
    """Return every endpoint that is declared or has gauges; one without gauges is counted from its request log."""
    known = ask.rows("page_endpoints")
    past = by(ask.rows("page_load_past", bucket_s=LOAD_BUCKET_S), "endpoint")
    counted: dict[Any, list[Row]] = {}
    if not known or any(row["endpoint"] not in past for row in known):
        counted = by(ask.rows("page_load_requests", bucket_s=LOAD_BUCKET_S), "endpoint")
    names = {row["endpoint"]: row for row in known}
    shares = {a.target.partition("/")[2]: a.shares for a in in_force if a.kind == "weights" and a.mode == "enforce"}
    return tuple(
        _endpoint(
            name,
            names.get(name, {}),
            past.get(name, []),
            counted.get(name, []),
            paths,
            shares.get(name, {}),
            ask,
        )
        for name in sorted({*names, *counted})
    )


def _endpoint(
    name: str, row: Row, gauges: Sequence[Row], requests: Sequence[Row], paths: Paths, shares: Mapping[str, float], ask: Asker
) -> EndpointLoad:
    past = gauges or requests
    source: Literal["gauges", "requests", "none"] = "gauges" if gauges else "requests" if requests else "none"
    ts = row.get("ts") or (past[-1]["ts"] if source == "requests" else None)
    return EndpointLoad(
        endpoint=name,
        model=row.get("model"),
        priority=row.get("priority"),
        seen=ask.at.seen(row.get("created_wall"), ts),
        source=source,
        instances=row.get("instances") or 0,
        requests_rps=past[-1]["requests_rps"] if source == "requests" else row.get("requests_rps"),
        running=row.get("running"),
        waiting=row.get("waiting"),
        ttft_p99_s=row.get("ttft_p99_s"),
        ttft_slo_s=row.get("ttft_slo_s"),
        slo_ok_pct=row.get("slo_ok_pct"),
        weights=tuple(sorted(shares.items())),
        past_t=tuple(seconds(p["ts"]) for p in past),
        past_rps=tuple(round(p["requests_rps"], 3) for p in past),
        path=paths.get(("load", name)),
    )
