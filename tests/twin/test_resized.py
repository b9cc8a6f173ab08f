"""Scenarios at another size, start or calibration."""

from datetime import UTC, datetime

import pytest

from contracts.errors import ConfigError
from twin.fleet import build
from twin.resized import resized
from twin.scenario import Scenario, load


@pytest.mark.parametrize(("servers", "rows", "per_row"), [(1000, 25, 40), (80, 2, 40), (96, 2, 48), (100, 2, 50), (8, 1, 8)])
def test_rows_are_as_near_to_the_scenarios_as_the_number_allows(servers: int, rows: int, per_row: int) -> None:
    s, own = resized("azure-week", servers=servers), load("azure-week")
    assert (s.rows, s.servers_per_row) == (rows, per_row)
    assert s.row_limit_w / s.servers_per_row == pytest.approx(own.row_limit_w / own.servers_per_row)


def air_per_server(s: Scenario) -> float:
    return s.aisle_limit_cfm / (s.servers_per_row * min(2, s.rows))


@pytest.mark.parametrize("servers", [8, 80, 100])
def test_a_server_keeps_its_share_of_the_aisles_air(servers: int) -> None:
    assert air_per_server(resized("normal", servers=servers)) == pytest.approx(air_per_server(load("normal")))


@pytest.mark.parametrize("servers", [1, 3, 8, 24])
@pytest.mark.parametrize("scenario", ["azure-week", "normal"])
def test_a_small_site_can_be_built(scenario: str, servers: int) -> None:
    fleet = build(resized(scenario, servers=servers, saas=1.0), 1)
    assert len(fleet.row) == servers
    assert set(fleet.endpoint.tolist()) == set(range(len(fleet.topology.endpoints)))


def test_a_number_that_makes_no_rows_is_refused_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match="97 servers do not make rows of 20 to 80; 80 do"):
        resized("azure-week", servers=97)


def test_a_calibration_that_lacks_the_model_serves_its_own_of_the_same_parallelism() -> None:
    (service,) = resized("azure-week", calibration="llama2-70b-2023").services
    assert (service.model, service.tp, service.peak_rps) == ("llama2-70b", 4, 1.4)
    plain = resized("normal", calibration="modern")
    assert (plain.model, plain.tp, plain.quantisation) == ("llama3.1-70b", load("normal").tp, "fp16")


def test_a_calibration_that_has_the_model_changes_nothing_else() -> None:
    assert resized("azure-week", calibration="modern") == load("azure-week")


def test_a_calibration_without_the_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="modern: nothing for a100; it has h100"):
        resized("polca-weeks", calibration="modern")


def test_start() -> None:
    assert resized("azure-week", start="peak").start_at_peak
    s = resized("normal", start="2026-01-02T03:04")
    assert (s.start, s.start_at_peak) == (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), False)
    assert resized("normal", start="2026-01-02T03:04+02:00").start == datetime(2026, 1, 2, 1, 4, tzinfo=UTC)
    with pytest.raises(ConfigError, match="noon"):
        resized("normal", start="noon")


def test_share_of_saas() -> None:
    assert resized("azure-week", saas=0.25).saas_share == 0.25
    with pytest.raises(ConfigError, match="saas_share"):
        resized("azure-week", saas=1.25)
