from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from contracts.view import View
from policies.datasheet import DataSheet
from policies.placement import PlacementSettings, VmRequest, rank
from tests.factories import make_topology, make_view

SAAS = VmRequest(name="vm-1", tenant="saas", endpoint="chat")
IAAS = VmRequest(name="vm-2", tenant="iaas", customer="acme")


class Warmer(DataSheet):
    """Servers get warmer along the row, as at the ends of rows."""

    def inlet_c(self, outside_c: float, load_share: float) -> Any:
        base = super().inlet_c(outside_c, load_share)
        return base + 0.1 * np.arange(len(base))


def site(free: list[str], row_limit_w: float = 200_000.0, **changes: Any) -> View:
    """16 servers in two rows; the named ones are free."""
    topology = make_topology(servers_per_row=8, row_limit_w=row_limit_w)
    servers = tuple(
        msgspec.structs.replace(s, tenant="free", endpoint=None, customer=None) if s.name in free else s
        for s in topology.servers
    )
    view = make_view(msgspec.structs.replace(topology, servers=servers))
    return replace(view, plant=Warmer(view), **changes)


FREE = ["r0s1", "r0s3", "r0s5", "r1s1", "r1s3", "r1s5"]


def test_iaas_goes_to_the_cold_third_and_saas_to_the_warm() -> None:
    view = site(FREE)
    assert [c.group for c in rank(view, IAAS).candidates] == ["cold"] * 2 + ["medium"] * 2 + ["warm"] * 2
    assert [c.group for c in rank(view, SAAS).candidates] == ["warm"] * 2 + ["medium"] * 2 + ["cold"] * 2
    assert rank(view, IAAS).candidates[0].node == "r0s1"


def test_balance_decides_within_a_third() -> None:
    view = site(["r0s1", "r1s1", "r1s3", "r1s5"])  # row 0 holds more IaaS
    thirds = [c for c in rank(view, IAAS).candidates if c.group == "cold"]
    assert [c.balance for c in thirds] == sorted(c.balance for c in thirds)


def test_every_other_server_is_rejected_with_its_reason() -> None:
    view = site(FREE)
    ranking = rank(view, IAAS)
    assert len(ranking.candidates) + len(ranking.rejected) == 16
    said = {r.node: r.reason for r in ranking.rejected}
    assert said["r0s0"] == "occupied by saas chat"
    assert said["r0s7"] == "occupied by iaas acme"


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({"row_limit_w": 64_000.0}, {}, "of its power limit"),
        ({"ahu_lost": np.array([True, True])}, {}, "of its airflow"),
        ({}, {"outside_c": 60.0, "margin_k": 20.0}, "its hottest GPU would reach"),
    ],
)
def test_validator_refuses_what_would_not_hold_at_the_peak(
    changes: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    ranking = rank(site(FREE, **changes), IAAS, PlacementSettings(**settings))
    assert not ranking.candidates
    assert all(words in r.reason for r in ranking.rejected if r.node in FREE)


def test_estimate_comes_from_kin_then_from_the_server() -> None:
    view = site(FREE)
    assert rank(view, SAAS).estimate == "highest peak of 8 machines of its endpoint chat"
    assert rank(view, VmRequest(name="x", tenant="iaas", customer="new")).estimate.startswith("no machine of its kind")
    assert rank(view, VmRequest(name="x", tenant="iaas", gpu_power_w=3000.0)).gpu_power_w == 3000.0


def test_smaller_machine_fits_where_the_peak_does_not() -> None:
    view = site(FREE, row_limit_w=64_000.0)
    assert not rank(view, IAAS).candidates
    assert rank(view, VmRequest(name="x", tenant="iaas", gpu_power_w=1000.0)).candidates
