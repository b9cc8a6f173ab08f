"""`coldaisle place` and `coldaisle actions`: ranking servers for a machine, and what is in force, why, until when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coldaisle.options import STATE
from contracts.errors import HistoryError, InputError

if TYPE_CHECKING:
    from contracts.topology import Topology
    from contracts.view import View
    from ingest.history.client import HttpHistory


@click.command()
@click.argument("vm")
@click.option("--tenant", type=click.Choice(["saas", "iaas"]), required=True, help="saas = our own instance, iaas = opaque.")
@click.option("--endpoint", help="Of a saas instance.")
@click.option("--customer", help="Whose machine it is; its others tell what it will draw.")
@click.option("--gpu-power-w", type=click.FloatRange(min=1), help="Summed GPU power at its peak, where known.")
@click.option("--free", "freed", multiple=True, metavar="NODE", help="Rank as if this server were free; may be repeated.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many servers to name.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole ranking as JSON.")
@STATE
def place(
    vm: str,
    tenant: str,
    endpoint: str | None,
    customer: str | None,
    gpu_power_w: float | None,
    freed: tuple[str, ...],
    top: int,
    as_json: bool,
    state: Path | None,
) -> None:
    """Rank servers for a machine by TAPAS's rules: no row or aisle over its limit at the peak, opaque tenants in the cold.

    Exit status 1 when no server may take it.

    \b
    Examples: coldaisle place vm-17 --tenant iaas --customer acme
              coldaisle place vm-17 --tenant saas --endpoint chat-1 --free n012 --free n040
    """
    import msgspec

    from ingest.history.client import HttpHistory, find_owner
    from policies.placement import PlacementSettings, VmRequest, rank

    if tenant == "saas" and endpoint is None:
        raise InputError("--tenant saas: name its --endpoint")
    request = VmRequest(
        name=vm, tenant="saas" if tenant == "saas" else "iaas", endpoint=endpoint, customer=customer, gpu_power_w=gpu_power_w
    )
    ranking = rank(present_view(HttpHistory(*find_owner(state)), freed), request, PlacementSettings())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(ranking)).decode())
    else:
        click.echo(f"{vm}: {ranking.gpu_power_w:.0f} W of GPU power at its peak ({ranking.estimate})")
        for candidate in ranking.candidates[:top]:
            click.echo(f"{candidate.node:<12} {candidate.group:<7} {candidate.why}")
        if not ranking.candidates:
            for rejected in ranking.rejected[:top]:
                click.echo(f"{rejected.node:<12} no: {rejected.reason}")
    if not ranking.candidates:
        raise SystemExit(1)


@click.command()
@click.option("--json", "form", flag_value="json", help="Print one JSON object a row.")
@STATE
def actions(form: str | None, state: Path | None) -> None:
    """What is in force: target, value, by which policy, why, and until when.

    \b
    Example: coldaisle actions
    """
    import sql
    from coldaisle.commands_sql import show
    from ingest.history.client import HttpHistory, find_owner

    wall = datetime.now(UTC).replace(tzinfo=None)
    show(HttpHistory(*find_owner(state)).query(sql.query("in_force").text, {"wall": wall}), form, None)


def present_view(history: "HttpHistory", freed: Sequence[str] = ()) -> "View":
    """Return the View of the running system, folded from its history, as if the servers `freed` had no tenant."""
    import msgspec
    import polars as pl

    from contracts.topology import Topology
    from control.fold import Fold
    from control.replay import fold_history
    from forecast.plant import Plant

    newest = history.query("SELECT key, last(body ORDER BY k_offset) AS body FROM state GROUP BY key")
    values = dict(newest.select(pl.col("key"), pl.col("body")).iter_rows())
    if "topology" not in values:
        raise HistoryError("the history knows no topology yet: is the twin or `topology = FILE` of the config running?")
    fold = Fold(without_tenants(msgspec.json.decode(values["topology"], type=Topology), freed))
    if "plant" in values:
        fold.plant = Plant.from_json(values["plant"].encode())
    now: datetime = history.query("SELECT max(arrived_at) AS now FROM server")["now"][0].replace(tzinfo=UTC)
    fold_history(fold, history, now)
    return fold.view(now, datetime.now(UTC))


def without_tenants(topology: "Topology", freed: Sequence[str]) -> "Topology":
    """Return the topology with the servers `freed` empty; InputError names one that it does not have."""
    from msgspec.structs import replace

    if unknown := sorted(set(freed) - {server.name for server in topology.servers}):
        raise InputError(f"--free {unknown[0]}: no such server; the table topology names them")
    empty = {"tenant": "free", "endpoint": None, "customer": None}
    servers = tuple(replace(s, **empty) if s.name in freed else s for s in topology.servers)
    return replace(topology, servers=servers)


ALL: tuple[click.Command, ...] = (place, actions)
