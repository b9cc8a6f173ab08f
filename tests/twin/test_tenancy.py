"""Virtual machines that come and go."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.index import build as index
from twin import fleet as fleets
from twin import tenancy
from twin.fleet import Fleet
from twin.scenario import Scenario, load
from twin.tenancy import DAY_S, WEEK_S, Arrive, Depart

PUBLISHED = 0.07


def site(**overrides: object) -> tuple[Scenario, Fleet]:
    scenario = load("churn", **overrides)
    return scenario, fleets.build(scenario, 3)


def test_without_churn_nobody_moves() -> None:
    scenario, fleet = site(churn_per_week=0.0)
    assert tenancy.timeline(scenario, fleet, 3, 52 * WEEK_S) == ()


def test_lifetimes_are_as_published() -> None:
    scenario = load("churn", churn_per_week=PUBLISHED)
    lives_s = tenancy.lifetimes(scenario, 200_000, np.random.default_rng(1))
    assert (lives_s > 2 * WEEK_S).mean() > 0.60  # TAPAS A2
    assert lives_s.mean() == pytest.approx(WEEK_S / PUBLISHED, rel=0.02)


def test_three_servers_in_four_keep_their_machine_for_a_month() -> None:
    scenario = load("churn", churn_per_week=PUBLISHED)
    left_s = tenancy.remaining(scenario, 200_000, np.random.default_rng(1))
    assert (left_s > 30 * DAY_S).mean() == pytest.approx(0.75, abs=0.08)  # TAPAS A2; nobody's rate is given there


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), churn=st.floats(0.01, 0.5))
def test_as_many_come_as_leave_and_a_longer_look_only_adds(seed: int, churn: float) -> None:
    scenario, fleet = site(churn_per_week=churn, rows=10)
    weeks = 8
    moves = tenancy.timeline(scenario, fleet, seed, weeks * WEEK_S)
    short = tenancy.timeline(scenario, fleet, seed, 2 * WEEK_S)
    assert moves[: len(short)] == short
    assert all(a.at_s <= b.at_s for a, b in pairwise(moves))
    arrivals = [m for m in moves if isinstance(m, Arrive)]
    expected = 0.9 * 400 * churn * weeks
    assert abs(len(arrivals) - expected) < 5 * np.sqrt(expected) + 1
    assert abs(sum(isinstance(m, Depart) for m in moves) - expected) < 6 * np.sqrt(expected) + 1
    assert len({a.vm for a in arrivals}) == len(arrivals)
    came = {a.vm: a.at_s for a in arrivals}
    assert all(m.at_s >= came.get(m.vm, 0.0) for m in moves if isinstance(m, Depart))


def test_arrivals_are_of_the_scenarios_mix_and_customers_keep_several_machines() -> None:
    scenario, fleet = site(churn_per_week=2.0, rows=20)
    arrivals = [m for m in tenancy.timeline(scenario, fleet, 5, 8 * WEEK_S) if isinstance(m, Arrive)]
    saas = [a for a in arrivals if a.kind == "saas"]
    iaas = [a for a in arrivals if a.kind == "iaas"]
    assert len(saas) / len(arrivals) == pytest.approx(scenario.saas_share, abs=0.03)
    assert np.bincount([a.owner for a in saas]) / len(saas) == pytest.approx(0.25, abs=0.03)
    assert {a.high for a in saas if a.owner < 2} == {True}
    new = {a.owner for a in iaas if a.owner > fleet.customer.max()}
    assert len(new) / len(iaas) == pytest.approx(1 / scenario.iaas_group, abs=0.03)
    assert {a.peak_level for a in iaas} == {scenario.iaas_hot_level, scenario.iaas_cold_level}
    by_owner: dict[int, set[float]] = {}
    for a in iaas:
        by_owner.setdefault(a.owner, set()).add(a.peak_level)
    assert max(map(len, by_owner.values())) == 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_week_of_moves_leaves_a_fleet_that_holds_together(seed: int) -> None:
    scenario, fleet = site(churn_per_week=1.0, services=({"name": "chat", "model": "llama2-70b", "tp": 4},))
    at = {int(s): int(s) for s in np.flatnonzero((fleet.endpoint >= 0) | (fleet.customer >= 0))}
    for move in tenancy.timeline(scenario, fleet, seed, WEEK_S):
        if isinstance(move, Depart):
            if move.vm in at:
                fleet = tenancy.moved_out(fleet, at.pop(move.vm))
            continue
        free = np.flatnonzero((fleet.endpoint < 0) & (fleet.customer < 0))
        if (server := tenancy.first_fit(move, free)) >= 0:
            fleet = tenancy.moved_in(fleet, server, move)
            at[move.vm] = server
    positions = index(fleet.topology)
    here = tenancy.present(fleet)
    assert len(at) == (positions.saas | positions.iaas).sum()
    assert np.array_equal(positions.saas, fleet.endpoint >= 0)
    assert np.array_equal(np.bincount(fleet.instance_server[here], minlength=80) == 2, positions.saas)
    assert (fleet.instance_endpoint[here] == fleet.endpoint[fleet.instance_server[here]]).all()
    assert set(zip(fleet.instance_first_gpu.tolist(), fleet.instance_gpus.tolist(), strict=True)) == {(0, 4), (4, 4)}


def test_moving_in_and_out_again_leaves_servers_as_they_were_and_a_taken_one_refuses() -> None:
    scenario, fleet = site()
    free = int(np.flatnonzero((fleet.endpoint < 0) & (fleet.customer < 0))[0])
    arrival = Arrive(1.0, 99, "saas", 1, 1.0, True)
    moved = tenancy.moved_in(fleet, free, arrival)
    with pytest.raises(ValueError, match="is taken"):
        tenancy.moved_in(moved, free, arrival)
    back = tenancy.moved_out(moved, free)
    assert not tenancy.present(back)[-1]
    assert back.topology == fleet.topology
    kept = [f.name for f in fields(Fleet) if not f.name.startswith(("instance_", "topology", "profiles", "services"))]
    assert all(np.array_equal(getattr(back, name), getattr(fleet, name)) for name in kept)
    assert scenario.occupancy == 0.9


def test_a_full_site_turns_arrivals_away() -> None:
    assert tenancy.first_fit(Arrive(0.0, 1, "iaas", 0, 1.0, True), np.zeros(0, dtype=np.int64)) == -1


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_starting_elsewhere_takes_six_to_eight_minutes(seed: int) -> None:
    parts = tenancy.recreate_s(np.random.default_rng(seed))
    assert 360 <= sum(parts.values()) <= 480
    assert len(parts) == 5
