from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from contracts.topology import Topology
from contracts.view import View
from policies.decisions import BRAKE, MEASURED
from policies.guard import GuardSettings, guard
from tests.factories import NOW, make_topology, make_view
from tests.policies.values import capped, clocks, kinds, make_outcome, reasons

SETTINGS = GuardSettings()
T1, T2, T2_HIGH = 0.904 * 1980, 0.787 * 1980, 0.925 * 1980


def low_saas(topology: Topology | None = None) -> Topology:
    """SaaS with low priority, IaaS with high: the other way round than `make_topology`."""
    topology = topology or make_topology()
    servers = tuple(msgspec.structs.replace(s, priority="low" if s.tenant == "saas" else "high") for s in topology.servers)
    return msgspec.structs.replace(topology, servers=servers)


def at(share: float, topology: Topology | None = None, **changes: object) -> View:
    """Row 0 at `share` of its limit, row 1 at half."""
    view = make_view(topology or low_saas())
    power = view.index.row_limit_w * np.array([share, 0.5])
    each = (power / np.bincount(view.index.server_row))[view.index.server_row]
    return replace(view, row_power_w=power, row_power_max_w=power, server_power_w=each, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, set()), (0.79, set()), (0.81, {T1}), (0.88, {T1}), (0.90, {T2}), (0.99, {T2})],
)
def test_thresholds_lower_low_priority_saas(share: float, expected: set[float]) -> None:
    view = at(share)
    wanted = clocks(guard(view, SETTINGS))
    assert sorted(set(wanted.values())) == pytest.approx(sorted(expected))
    assert kinds(view, wanted) <= {"saas"}
    assert all(node.startswith("r0") for node in wanted)


@pytest.mark.parametrize(
    ("share", "in_force", "expected"), [(0.76, T1, {T1}), (0.74, T1, set()), (0.85, T2, {T2}), (0.83, T2, {T1})]
)
def test_hysteresis_comes_from_the_caps_in_force(share: float, in_force: float, expected: set[float]) -> None:
    view = at(share)
    view = replace(view, actions=capped(view, in_force, policy="guard"))
    assert sorted(set(clocks(guard(view, SETTINGS)).values())) == pytest.approx(sorted(expected))


def test_high_priority_follows_only_when_still_above_after_the_low() -> None:
    topology = make_topology()
    servers = tuple(
        msgspec.structs.replace(s, priority="low" if i % 4 == 0 else "high") for i, s in enumerate(topology.servers)
    )
    view = at(0.92, msgspec.structs.replace(topology, servers=servers))
    assert set(clocks(guard(view, SETTINGS))) == {"r0s0"}
    actions = {k: a for k, a in capped(view, T2, policy="guard").items() if k.endswith(("r0s0", "r1s0"))}
    fresh = {t: make_outcome(t, "applied", NOW - timedelta(seconds=2)) for t in actions}
    old = {t: make_outcome(t, "applied", NOW - timedelta(seconds=20)) for t in actions}
    assert set(clocks(guard(replace(view, actions=actions, outcomes=fresh), SETTINGS))) == {"r0s0"}
    wanted = clocks(guard(replace(view, actions=actions, outcomes=old), SETTINGS))
    assert wanted == pytest.approx({"r0s0": T2, "r0s2": T2_HIGH})


def test_rows_without_saas_use_the_thresholds_as_polca_did() -> None:
    topology = make_topology()
    servers = tuple(msgspec.structs.replace(s, tenant="iaas", endpoint=None, priority="low") for s in topology.servers)
    wanted = clocks(guard(at(0.9, msgspec.structs.replace(topology, servers=servers)), SETTINGS))
    assert wanted == pytest.approx({f"r0s{i}": T2 for i in range(4)})


def test_small_overload_is_shed_by_saas_in_band_without_brake() -> None:
    view = at(1.02)
    decisions = guard(view, SETTINGS)
    assert kinds(view, clocks(decisions)) == {"saas"}
    assert {d.priority for d in decisions} == {MEASURED}


def test_overload_beyond_what_clocks_can_shed_brakes_saas_first() -> None:
    view = at(1.25)
    decisions = guard(view, SETTINGS)
    braked = {node: mhz for node, mhz in clocks(decisions).items() if mhz < 800}
    assert set(braked.values()) == {288.0}
    assert {d.priority for d in decisions if d.target.split("/")[1] in braked} == {BRAKE}
    assert {"r0s0", "r0s2"} <= set(braked)


def test_lost_ups_lowers_the_limit() -> None:
    assert clocks(guard(at(0.7), SETTINGS)) == {}
    assert clocks(guard(at(0.7, ups_lost=np.array([True, False])), SETTINGS)) == pytest.approx({"r0s0": T2, "r0s2": T2})


def test_stale_row_power_is_said_once_per_row() -> None:
    view = at(0.95, row_age_s=np.array([100.0, 1.0]))
    assert reasons(guard(view, SETTINGS)) == ["row-0: row power is stale: thresholds cannot be watched"]


def test_nothing_seen_yet_wants_nothing() -> None:
    view = at(0.95, row_age_s=np.array([np.inf, np.inf]))
    assert guard(view, SETTINGS) == []
