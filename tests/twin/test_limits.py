import numpy as np
import pytest

from contracts.workload import Workload
from twin import limits, warmup
from twin.scenario import load


def test_the_demos_limits_are_those_of_its_baseline(workload: Workload) -> None:
    scenario = load("demo")
    found = limits.design(scenario, workload)
    assert found.row_limit_w == pytest.approx(scenario.row_limit_w, rel=0.01)
    assert found.aisle_limit_cfm == pytest.approx(scenario.aisle_limit_cfm, rel=0.01)
    # TAPAS: half of 100 rows draw 28 % less than the hungriest, nine tenths 10 %
    assert found.row_share_p50 == pytest.approx(0.72, abs=0.05)
    assert found.row_share_p90 == pytest.approx(0.90, abs=0.05)


def test_limits_do_not_depend_on_the_limits_in_the_file_and_scale_with_servers(workload: Workload) -> None:
    scenario = load("demo")
    found = limits.design(scenario, workload, rows=10)
    assert limits.design(load("demo", row_limit_w=1e6, aisle_limit_cfm=1e6), workload, rows=10) == found
    without = limits.design(load("demo", oversubscription=0.0), workload, rows=10)
    assert without.row_limit_w == pytest.approx(1.4 * found.row_limit_w, rel=0.01)


def test_tenants_fill_rows_as_they_come() -> None:
    saas, group = limits.fill(load("demo", rows=50), 1)
    assert (np.diff(group) >= 0).all()
    assert saas.mean() == pytest.approx(0.5, abs=0.15)
    assert all(len(set(saas[group == g].tolist())) == 1 for g in np.unique(group))


def test_the_command_prints_what_a_scenario_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    assert limits.main(["demo", "--rows=4"]) == 0
    assert "\naisle_limit_cfm = " in capsys.readouterr().out
    assert limits.main(["nowhere"]) == 2


def test_the_warm_up_names_as_many_steps_as_it_has() -> None:
    assert len(list(warmup.steps())) == warmup.COUNT
