"""Row power where no meter exists: the sum of the row's servers, marked as such. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contracts.ports import Collected, Problem


@dataclass(frozen=True, kw_only=True)
class ServerPower:
    """The newest power of one server that is known."""

    at: datetime
    power_w: float


def newest(known: Mapping[str, ServerPower], servers: Collected) -> dict[str, ServerPower]:
    """Return `known` with the rows of a `server` frame in it; rows without power and rows that are older change nothing."""
    merged = dict(known)
    columns = servers.columns
    for node, at, power_w in zip(columns["node"], columns["ts"], columns["power_w"], strict=True):
        if power_w is not None and (node not in merged or merged[node].at <= at):
            merged[node] = ServerPower(at=at, power_w=float(power_w))
    return merged


def row_power(
    known: Mapping[str, ServerPower],
    server_row: Mapping[str, str],
    now: datetime,
    *,
    max_age_s: float = 30.0,
    metered: Collection[str] = (),
    assumed_w: Mapping[str, float] | None = None,
) -> Collected:
    """Return one `facility` row (kind row, source sum, ts = `now`) for every row of `server_row` that has no meter.

    `known`: server -> newest power; `server_row`: server -> row, of all servers of the rows. A server that has been silent for
    more than `max_age_s` counts with its `assumed_w` (its nameplate power, say: never too low); without one its row gets no
    sum, since a sum that leaves servers out would be too low. Either way a Problem names the silent servers.
    """
    assumed = assumed_w or {}
    servers_of: dict[str, list[str]] = {}
    for server, row in server_row.items():
        if row not in metered:
            servers_of.setdefault(row, []).append(server)
    sums: dict[str, float] = {}
    problems: list[Problem] = []
    for row, servers in servers_of.items():
        fresh = {s: known[s].power_w for s in servers if s in known and (now - known[s].at).total_seconds() <= max_age_s}
        silent = [server for server in servers if server not in fresh]
        unknown = [server for server in silent if server not in assumed]
        if not unknown:
            sums[row] = sum(fresh.values()) + sum(assumed[server] for server in silent)
        if silent:
            problems.append(Problem(source=f"facility:{row}", reason=_reason(row, silent, summed=not unknown)))
    columns: dict[str, Sequence[Any]] = {
        "ts": [now] * len(sums),
        "kind": ["row"] * len(sums),
        "unit": list(sums),
        "power_w": list(sums.values()),
        "source": ["sum"] * len(sums),
    }
    return Collected(topic="facility", columns=columns, problems=tuple(problems))


def _reason(row: str, silent: Sequence[str], *, summed: bool) -> str:
    named = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
    if summed:
        return f"row {row}: {named} counted with assumed power, for want of a reading"
    return f"row {row}: no sum, for want of a reading of {named}"
