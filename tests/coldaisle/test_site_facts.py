"""Nothing is forecast above what its hardware can draw, unless it has been seen there; inlets know their aisles."""

from dataclasses import replace

import numpy as np

from coldaisle.site_facts import SiteFacts
from contracts.ports import Batch
from tests.factories import make_topology


def batch(target: str, *names: str) -> Batch:
    return Batch(target=target, step_s=300, ts=np.array([300]), names=names, values=np.full((len(names), 1), 10.0))


def test_bounds_are_sums_of_the_data_sheets() -> None:
    topology = make_topology(servers_per_row=3)
    facts = SiteFacts(topology)
    sheet = topology.hardware[0]
    server, row = topology.servers[0], topology.rows[0]
    assert facts.told(batch("server_power", server.name)).upper == sheet.max_power_w
    assert facts.told(batch("power", row.name)).upper == 3 * sheet.max_power_w
    fed = sum(ups in r.upses for r in topology.rows for ups in (row.upses[0],))
    assert facts.told(batch("ups_power", row.upses[0])).upper == fed * 3 * sheet.max_power_w
    in_aisle = sum(r.aisle == row.aisle for r in topology.rows)
    assert facts.told(batch("airflow", row.aisle)).upper == in_aisle * 3 * sheet.airflow_max_cfm


def test_what_was_seen_above_the_sheet_counts_and_the_unknown_is_unbounded() -> None:
    topology = make_topology(servers_per_row=3)
    facts = SiteFacts(topology)
    seen = batch("server_power", topology.servers[0].name, "stranger")
    high = replace(seen, values=np.array([[2e4], [np.nan]]))
    assert np.asarray(facts.told(high).upper).tolist() == [2e4, np.inf]
    assert facts.told(batch("load", "chat")).upper == np.inf


def test_inlets_know_their_aisles() -> None:
    topology = make_topology(servers_per_row=2)
    aisle_of = {row.name: row.aisle for row in topology.rows}
    names = [server.name for server in topology.servers]
    told = SiteFacts(topology).told(batch("inlet", *names, "stranger"))
    assert told.groups == (*(aisle_of[server.row] for server in topology.servers), "")
