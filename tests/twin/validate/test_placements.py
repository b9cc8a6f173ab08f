"""Random placements: what a placement may change, what it must keep, and the published figures."""

import numpy as np
import pytest

from twin import fleet as fleets
from twin.validate import placements as pl
from twin.validate.settled import servers

# The twin's machines and servers differ too little: its worst placement is some 7 K above the typical one, the paper's 13 K.
KNOWN_OFF = {"placements.worst"}
SOME = 2_000


@pytest.fixture(scope="module")
def found() -> pl.Found:
    return pl.run(1, SOME)


def test_the_same_seed_places_alike(found: pl.Found) -> None:
    again = pl.run(1, SOME)
    assert np.array_equal(found.peak_w, again.peak_w)
    assert np.array_equal(found.hottest_c, again.hottest_c)


def test_temperature_and_power_go_their_own_ways(found: pl.Found) -> None:
    assert abs(np.corrcoef(found.hottest_c, found.peak_w)[0, 1]) < 0.1
    assert np.ptp(found.hottest_c) > 2.0
    assert 0.1 < found.peak_w.max() / found.peak_w.min() - 1.0 < 0.32


def test_a_placement_is_looked_up_as_it_would_be_counted() -> None:
    one = np.arange(6)
    u = fleets.units(fleets.build(servers(pl.KIND, 2, 3), 3))
    many = pl.machines(one % 2 == 0, one, 3)
    table_c = pl.hottest(u, many.gpu_w)
    few = pl.place(u, many, table_c, u.row, 50, 3)
    rng = np.random.Generator(np.random.PCG64([3, 6]))
    server = rng.random((50, 6)).argsort(axis=1)
    for k in (0, 49):
        assert few.hottest_c[k] == max(table_c[v, server[k, v]] for v in range(6))
        rows_w = np.zeros((2, pl.BINS))
        for v in range(6):
            rows_w[u.row[server[k, v]]] += many.server_w[v] * u.power_factor[server[k, v]].mean()
        assert few.peak_w[k] == pytest.approx(rows_w.max())


def test_machines_stay_between_idle_and_tdp_and_services_follow_the_day() -> None:
    one = np.arange(80)
    saas = one % 2 == 0
    level = pl.levels(saas, one, np.random.default_rng(1))
    assert level.min() >= 0.0
    assert level.max() <= 1.0
    busy = level.max(axis=1) > 0.3
    assert busy.sum() == round(pl.BUSY_SHARE * 80)
    steady, daily = level[busy & ~saas], level[busy & saas]
    assert (steady.max(axis=1) / steady.min(axis=1)).max() < 1.3
    smooth = daily.reshape(len(daily), 24, 6).mean(axis=2)
    assert (smooth.max(axis=1) / smooth.min(axis=1)) == pytest.approx(pl.PEAK_TO_VALLEY, rel=0.15)


def test_neighbours_of_one_tenant_are_busy_together() -> None:
    group = np.repeat(np.arange(30), 4)
    level = pl.levels(np.zeros(120, dtype=np.bool_), group, np.random.default_rng(2)).mean(axis=1).reshape(30, 4)
    assert np.ptp(level, axis=1).max() < 0.02


def test_the_rows_differ_as_published() -> None:
    found = pl.rows(None)
    assert [each.name for each in found if not each.ok] == []
    assert len(found) == 3


def test_the_placements_agree_but_for_what_is_known_to_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl, "SITES", range(1, 3))
    found = {each.name: each for each in pl.placements(None)}
    assert {name for name, each in found.items() if each.outcome == "off"} <= KNOWN_OFF
    assert found["placements.correlation"].ok
    assert found["placements.peak_power"].ok
