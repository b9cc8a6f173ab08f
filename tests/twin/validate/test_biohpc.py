"""BioHPC's hosts: the law, what the past day tells, and the real table where it is at hand."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.validate import biohpc
from twin.validate.biohpc import Host, Law, fitted, hosts, left_out, past_mean, second_half, settled_c

HOUR_S = 3600.0
LAW = Law(air_c=27.0, resistance=0.12, idle_duty=0.5)


def made(law: Law, *, seed: int = 1, hours: int = 2000, wander_c: float = 1.0, name: str = "made", step_c: float = 0.0) -> Host:
    """A host that obeys `law` in a room that wanders over days; `step_c` warms its second half."""
    rng = np.random.default_rng(seed)
    at_s = np.arange(hours, dtype=np.float64) * HOUR_S
    power_w = np.where(rng.random(hours) < 0.6, 30.0, rng.uniform(30.0, 300.0, hours))
    room_c = wander_c * np.sin(2 * np.pi * at_s / (20 * 86_400.0)) + np.where(np.arange(hours) >= hours // 2, step_c, 0.0)
    temp_c = settled_c(law, power_w) + room_c + rng.normal(0.0, 0.5, hours)
    return Host(name=name, gpu="2x Made", cards=2, at_s=at_s, power_w=power_w, temp_c=temp_c)


@given(air_c=st.floats(10.0, 45.0), resistance=st.floats(0.02, 0.3), rest=st.floats(0.1, 1.0), power_w=st.floats(0.0, 500.0))
def test_fans_and_heat_agree_where_the_law_settles(air_c: float, resistance: float, rest: float, power_w: float) -> None:
    law = Law(air_c, resistance, rest)
    temp_c = float(settled_c(law, np.array([power_w]))[0])
    fans, heat = biohpc.TWIN.fans, biohpc.TWIN.heat
    duty = min(1.0, max(rest, fans.hot_duty + fans.per_k * (temp_c - fans.hot_c)))
    k_per_w = resistance / heat.resistance_mean * (heat.die_k_per_w + heat.sink_k_per_w / (0.25 + 0.75 * duty))
    assert temp_c == pytest.approx(air_c + k_per_w * power_w, abs=1e-6)


def test_a_law_is_found_again() -> None:
    host = made(LAW, wander_c=0.0)
    found = fitted(host.power_w, host.temp_c)
    assert found.air_c == pytest.approx(LAW.air_c, abs=0.2)
    assert settled_c(found, np.array([50.0, 300.0])) == pytest.approx(settled_c(LAW, np.array([50.0, 300.0])), abs=0.3)


@given(st.lists(st.tuples(st.floats(1.0, 200_000.0), st.floats(-10.0, 10.0)), min_size=1, max_size=40))
def test_the_past_day_holds_neither_this_hour_nor_the_future(steps: list[tuple[float, float]]) -> None:
    at_s, values = np.cumsum([gap for gap, _ in steps]), np.array([value for _, value in steps])
    mean = past_mean(at_s, values)
    for k, moment in enumerate(at_s):
        before = values[(at_s < moment) & (at_s >= moment - biohpc.PAST_S)]
        assert mean[k] == pytest.approx(before.mean() if len(before) else 0.0, abs=1e-6)


def test_a_room_that_became_warmer_is_off_until_it_is_learnt() -> None:
    still, learnt = second_half(made(LAW, step_c=5.0))
    assert (still.outcome, learnt.outcome) == ("off", "ok")
    assert all(each.ok for each in second_half(made(LAW)))


def test_a_host_with_another_heatsink_is_outside_what_is_drawn() -> None:
    known = [made(LAW, seed=2, name="known")]
    assert all(each.ok for each in left_out(made(LAW._replace(resistance=0.13)), known))
    slope, air, _ = left_out(made(LAW._replace(resistance=0.2)), known)
    assert (slope.outcome, air.outcome) == ("off", "ok")
    _, air, hours = left_out(made(LAW._replace(air_c=40.0)), known)
    assert (air.outcome, hours.outcome) == ("off", "off")


def test_the_table_is_read_by_host(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "name": ["b", "a", "a"],
            "gpu": ["1x X", "2x Y", "2x Y"],
            "timestamp": [0, 2, 1],
            "power_avg_w": [1.0, 3.0, 2.0],
            "temp_avg_c": [30.0, 33.0, 32.0],
        }
    ).with_columns(pl.from_epoch(pl.col("timestamp") * 3600)).write_parquet(tmp_path / biohpc.FILE)
    first, second = hosts(tmp_path / biohpc.FILE)
    assert (first.name, first.cards, second.name, second.cards) == ("a", 2, "b", 1)
    assert first.power_w.tolist() == [2.0, 3.0]
    assert np.diff(first.at_s).tolist() == [3600.0]


def test_the_real_hosts_agree() -> None:
    folder = os.environ.get("COLDAISLE_DATA")
    if not folder:
        pytest.skip("COLDAISLE_DATA names no folder of reference data; set it to check against BioHPC's hosts")
    found = biohpc.biohpc(Path(folder))
    assert [each.name for each in found if each.outcome == "off"] == []
    assert sum(each.name.endswith(".learnt") for each in found) == 4
    assert sum(".left_out." in each.name for each in found) == 6
