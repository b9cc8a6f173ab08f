from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from contracts.control import Action, ClockCap, Revert
from control.fold import Fold
from tests.factories import NOW, make_topology

AT = NOW.replace(tzinfo=None)


def server_rows(*rows: tuple[int, str, float | None, float | None]) -> pl.DataFrame:
    """Rows (seconds before NOW, node, inlet, power)."""
    return pl.DataFrame(
        {
            "ts": [AT - timedelta(seconds=r[0]) for r in rows],
            "node": [r[1] for r in rows],
            "inlet_c": [r[2] for r in rows],
            "power_w": [r[3] for r in rows],
        },
        schema={"ts": pl.Datetime("us"), "node": pl.String, "inlet_c": pl.Float32, "power_w": pl.Float32},
    )


def facility(**columns: Any) -> pl.DataFrame:
    base: dict[str, Any] = {"ts": [AT], "state": [None], "source": [None], "power_w": [None], "power_max_w": [None]}
    return pl.DataFrame({**base, **columns}, schema_overrides={"power_w": pl.Float64, "state": pl.String, "source": pl.String})


def test_newest_wins_whatever_the_order_of_arrival() -> None:
    fold = Fold(make_topology())
    fold.observe("server", server_rows((5, "r0s1", 30.0, 5000.0)))
    fold.observe("server", server_rows((60, "r0s1", 20.0, 4000.0), (70, "r0s1", 19.0, 3000.0)))
    view = fold.view(NOW, NOW)
    i = view.index.server["r0s1"]
    assert view.inlet_c[i] == 30.0
    assert view.server_age_s[i] == 5.0
    assert np.isnan(view.inlet_c[0])
    assert view.server_age_s[0] == np.inf


def test_null_tells_nothing() -> None:
    fold = Fold(make_topology())
    fold.observe("server", server_rows((5, "r0s1", 30.0, None)))
    fold.observe("server", server_rows((1, "r0s1", None, 5000.0)))
    view = fold.view(NOW, NOW)
    i = view.index.server["r0s1"]
    assert (view.inlet_c[i], view.server_power_w[i], view.server_age_s[i]) == (30.0, 5000.0, 5.0)


def test_names_outside_the_topology_are_passed_over() -> None:
    fold = Fold(make_topology())
    fold.observe("server", server_rows((5, "elsewhere", 30.0, 1.0)))
    assert np.isnan(fold.view(NOW, NOW).inlet_c).all()


def test_backfilled_rows_are_history_not_present() -> None:
    fold = Fold(make_topology())
    fold.observe("server", server_rows((5, "r0s1", 30.0, 1.0)).with_columns(backfilled=True))
    assert np.isnan(fold.view(NOW, NOW).inlet_c).all()


def test_a_silent_meter_is_replaced_by_the_sum_of_its_servers() -> None:
    fold = Fold(make_topology(servers_per_row=2, rows=1))
    fold.observe("facility", facility(kind=["row"], unit=["row-0"], power_w=[9000.0], ts=[AT - timedelta(seconds=90)]))
    assert fold.view(NOW, NOW).row_power_w[0] == 9000.0
    fold.observe("server", server_rows((1, "r0s0", 25.0, 4000.0), (2, "r0s1", 25.0, 4500.0)))
    view = fold.view(NOW, NOW)
    assert (view.row_power_w[0], view.row_age_s[0], bool(view.row_measured[0])) == (8500.0, 2.0, False)


def test_a_lost_gpu_is_unknown_and_an_older_row_does_not_bring_it_back() -> None:
    fold = Fold(make_topology())
    row = {
        "node": ["r0s0"],
        "gpu": [3],
        "power_w": [500.0],
        "temp_c": [60.0],
        "sm_clock_mhz": [1980.0],
        "clock_event_reasons": [0],
    }
    ok = pl.DataFrame({"ts": [AT - timedelta(seconds=9)], "state": ["ok"], **row})
    lost = pl.DataFrame({"ts": [AT], "state": ["lost"], **{k: v if k in ("node", "gpu") else [None] for k, v in row.items()}})
    fold.observe("gpu", ok)
    assert fold.view(NOW, NOW).gpu_power_w[3] == 500.0
    fold.observe("gpu", lost)
    fold.observe("gpu", ok)
    assert np.isnan(fold.view(NOW, NOW).gpu_power_w[3])


def test_ahu_and_ups_states() -> None:
    fold = Fold(make_topology())
    fold.observe("facility", facility(kind=["ahu"], unit=["ahu-0b"], state=["lost"]))
    view = fold.view(NOW, NOW)
    assert list(view.ahu_lost) == [False, True]
    assert not view.ups_lost.any()


def test_an_expired_or_reverted_action_is_not_in_force() -> None:
    fold = Fold(make_topology())
    cap = Action(
        action_id="a1",
        at=NOW,
        created_wall=NOW,
        node="r0s0",
        target="clock_cap/r0s0",
        value=ClockCap(max_mhz=1200),
        lease_s=30,
        epoch=1,
    )
    fold.action(cap)
    assert "clock_cap/r0s0" in fold.view(NOW, NOW + timedelta(seconds=29)).actions
    assert "clock_cap/r0s0" not in fold.view(NOW, NOW + timedelta(seconds=31)).actions
    revert = Action(
        action_id="a2",
        at=NOW,
        created_wall=NOW + timedelta(seconds=1),
        node="r0s0",
        target="clock_cap/r0s0",
        value=Revert(),
        lease_s=30,
        epoch=1,
    )
    fold.action(revert)
    fold.action(cap)  # a late copy
    assert not fold.view(NOW, NOW + timedelta(seconds=2)).actions


@given(st.permutations(range(6)), st.integers(1, 5))
def test_any_cut_and_order_of_batches_gives_one_view(order: list[int], cut: int) -> None:
    rows = [(10 * k, "r0s0", 20.0 + k, 1000.0 * k) for k in range(6)]
    whole = Fold(make_topology())
    whole.observe("server", server_rows(*rows))
    pieces = Fold(make_topology())
    shuffled = [rows[k] for k in order]
    pieces.observe("server", server_rows(*shuffled[:cut]))
    pieces.observe("server", server_rows(*shuffled[cut:]))
    a, b = whole.view(NOW, NOW), pieces.view(NOW, NOW)
    assert np.array_equal(a.inlet_c, b.inlet_c, equal_nan=True)
    assert np.array_equal(a.server_power_w, b.server_power_w, equal_nan=True)
    assert np.array_equal(a.server_age_s, b.server_age_s)


def test_it_says_when_a_rows_power_was_told() -> None:
    fold = Fold(make_topology())
    assert fold.observe("facility", facility(kind=["row"], unit=["row-0"], power_w=[9000.0]))
    assert not fold.observe("facility", facility(kind=["ahu"], unit=["ahu-0b"], state=["lost"]))
    assert not fold.observe("server", server_rows((5, "r0s1", 30.0, 5000.0)))
