"""A scenario at another size, start or serving calibration, as the command line asks for it."""

from datetime import UTC, datetime
from math import inf, log
from typing import Any

import msgspec

from contracts.errors import ConfigError
from twin import hardware, models
from twin.scenario import Scenario, load
from twin.services import Service

WIDEST = 2.0
"""a row may have so many times more or fewer servers than the scenario's"""
PEAK = "peak"


def resized(
    name: str,
    *,
    servers: int | None = None,
    saas: float | None = None,
    calibration: str | None = None,
    start: str | None = None,
) -> Scenario:
    """Return the scenario `name` with what is given changed; limits grow with the row.

    `servers`: rows of about the scenario's size, as many as it takes. `start`: "peak" or an ISO time, UTC where it says none.
    `calibration`: what it does not have of the scenario's models is served by its own of the same tensor parallelism.
    ConfigError says what cannot be.
    """
    scenario = load(name)
    changed: dict[str, Any] = {} if saas is None else {"saas_share": saas}
    if start is not None:
        changed |= {"start_at_peak": True} if start == PEAK else {"start": _time(start), "start_at_peak": False}
    if servers is not None:
        changed |= _size(scenario, servers)
    if calibration is not None:
        changed |= {"calibration": calibration} | _served(scenario, calibration)
    if servers is not None and scenario.topology == "":
        changed |= _endpoints(msgspec.structs.replace(scenario, **changed), servers)
    if "services" in changed:
        changed["services"] = msgspec.to_builtins(changed["services"])
    return load(name, **changed)


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"start {text!r}: must be {PEAK} or a time such as 2026-07-15T14:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _size(s: Scenario, servers: int) -> dict[str, Any]:
    """Return rows and servers per row, nearest to the scenario's in their ratio, and limits for them."""
    if s.topology:
        raise ConfigError(f"scenario {s.name}: its site file says how many servers there are; leave the number away")
    one = s.servers_per_row
    least = min(one / WIDEST, servers)
    fitting = [n for n in range(1, servers + 1) if servers % n == 0 and least <= n <= one * WIDEST]
    if not fitting:
        other = max(1, servers // one) * one
        raise ConfigError(f"{servers} servers do not make rows of {one / WIDEST:.0f} to {one * WIDEST:.0f}; {other} do")
    per_row = min(fitting, key=lambda n: abs(log(n / one)))
    scale = per_row / one
    changed: dict[str, Any] = {"rows": servers // per_row, "servers_per_row": per_row}
    in_aisle = min(2, servers // per_row) / min(2, s.rows)  # an aisle has two rows where there are two
    changed |= {"row_limit_w": s.row_limit_w * scale, "aisle_limit_cfm": s.aisle_limit_cfm * scale * in_aisle}
    if s.cooling_capacity_w < inf:
        changed["cooling_capacity_w"] = s.cooling_capacity_w * servers / (s.rows * one)
    return changed


def _endpoints(s: Scenario, servers: int) -> dict[str, Any]:
    """Return fewer endpoints where there would be none of the SaaS servers for some of them."""
    saas = round(servers * s.occupancy * s.saas_share)
    if not s.services:
        most = max(1, min(s.endpoints, saas))
        return {"endpoints": most, "high_priority_endpoints": min(s.high_priority_endpoints, most)}
    return {"services": tuple(_fewer(one, saas) for one in s.services)}


def _fewer(one: Service, saas: int) -> Service:
    most = max(1, min(one.endpoints, int(saas * one.share)))
    high = None if one.high_endpoints is None else min(one.high_endpoints, most)
    return msgspec.structs.replace(one, endpoints=most, high_endpoints=high)


def _served(s: Scenario, name: str) -> dict[str, Any]:
    """Return model, tensor parallelism and quantisation of the services where the calibration `name` lacks theirs."""
    found = models.load(name)
    gpu = hardware.load(s.hardware if isinstance(s.hardware, str) else s.hardware[0]).gpu
    if s.services:
        return {"services": tuple(_run_by(found, gpu, one) for one in s.services)}
    plain = _run_by(found, gpu, Service(name="chat", model=s.model, tp=s.tp, quantisation=s.quantisation))
    return {"model": plain.model, "tp": plain.tp, "quantisation": plain.quantisation}


def _run_by(found: models.Calibration, gpu: str, one: Service) -> Service:
    mine = [p for p in found.points if p.gpu == gpu]
    if not mine:
        raise ConfigError(
            f"calibration {found.name}: nothing for {gpu}; it has {', '.join(sorted({p.gpu for p in found.points}))}"
        )
    wanted = (one.model, one.tp, one.quantisation)
    if any((p.model, p.tp, p.quantisation) == wanted for p in mine):
        return one
    best = min(mine, key=lambda p: (p.model != one.model, abs(log(p.tp / one.tp)), p.quantisation != one.quantisation))
    return msgspec.structs.replace(one, model=best.model, tp=best.tp, quantisation=best.quantisation)
