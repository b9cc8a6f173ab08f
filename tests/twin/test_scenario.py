"""Scenario files: all that are shipped, and the mistakes that one's own may hold."""

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from control.index import build
from twin import fleet, tenancy
from twin.scenario import FOLDER, load
from twin.services import endpoints

NAMES = sorted(p.stem for p in FOLDER.glob("*.toml"))
FAILURES = (
    *("heat-wave", "ahu-lost", "ups-lost", "cooling-device-lost", "chiller-restart", "load-spike", "flash-crowd"),
    *("sensor-stuck", "sensor-drift", "sensor-silent", "exporter-outage"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_scenario_loads_and_its_topology_holds_together(name: str) -> None:
    scenario = load(name)
    built = fleet.build(scenario, 7)
    topology = built.topology
    index = build(topology)
    assert scenario.name == name
    assert len(topology.servers) == scenario.rows * scenario.servers_per_row
    assert (index.saas | index.iaas).sum() == round(scenario.occupancy * len(topology.servers))
    assert index.saas.sum() == pytest.approx(scenario.saas_share * scenario.occupancy * len(topology.servers))
    assert {s.rack for s in topology.servers if s.row == "row-1"} >= {"r1k01", "r1k03"}
    assert (topology.servers[0].name, topology.aisles[0].ahus) == ("n001", ("ahu-1", "ahu-2"))
    assert [e.name for e in topology.endpoints] == [e.name for e in endpoints(scenario.offered())]
    assert fleet.units(built).r_die.shape == built.resistance.shape


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_scenario_says_what_happens_and_why(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 60


def test_each_failure_has_a_scenario_and_something_happens_in_it() -> None:
    for name in FAILURES:
        scenario = load(name)
        assert scenario.happenings()
        assert all(event.at_s <= 900 for event in scenario.happenings())


def test_the_two_scenarios_differ_in_the_failure_only() -> None:
    assert load("normal", name="x", ahu_lost_after_s=300.0) == load("ahu-lost", name="x")


def test_upses_carry_the_rows_when_one_is_lost() -> None:
    scenario = load("demo")
    topology = fleet.build(scenario, 7).topology
    assert sum(u.power_limit_w for u in topology.upses[1:]) == pytest.approx(scenario.rows * scenario.row_limit_w)


def test_the_azure_week_is_a_thousand_servers_of_two_instances() -> None:
    scenario = load("azure-week")
    built = fleet.build(scenario, 7)
    assert (len(built.row), len(built.instance_server), set(built.instance_gpus.tolist())) == (1000, 2000, {4})
    assert {s.tenant for s in built.topology.servers} == {"saas"}
    # Mean over a week of 1 / 1.666 of Monday's highest hour (Azure 2024, conversation): at least 1e9 requests.
    assert scenario.offered()[0].peak_rps == pytest.approx(1.4)
    assert 2000 * 1.4 / 1.666 * 7 * 86_400 > 1e9


def test_polcas_row_is_forty_a100_with_the_shares_and_priorities_of_its_services() -> None:
    built = fleet.build(load("polca-weeks"), 7)
    count = {e.name: sum(s.endpoint == e.name for s in built.topology.servers) for e in built.topology.endpoints}
    assert count == {"summarize": 10, "search": 10, "chat-high": 10, "chat-low": 10}
    assert [e.priority for e in built.topology.endpoints] == ["low", "high", "high", "low"]
    assert {h.name for h in built.topology.hardware} == {"dgx-a100"}
    assert built.services[0].prompt_tokens == (2048, 8192)


def test_a_fleet_with_churn_has_free_servers_and_moves() -> None:
    scenario = load("churn")
    built = fleet.build(scenario, 7)
    assert sum(s.tenant == "free" for s in built.topology.servers) == 8
    assert tenancy.timeline(scenario, built, 7, 4 * tenancy.WEEK_S)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"peak_rps": -1.0}, ["demo.toml", "peak_rps = -1.0", "> 0"]),
        ({"saas_share": 1.5}, ["demo.toml", "saas_share = 1.5"]),
        ({"color": "red"}, ["demo.toml", "color"]),
        ({"endpoints": 100}, ["demo.toml", "endpoints = 100", "40 instances"]),
        ({"high_priority_endpoints": 9}, ["demo.toml", "high_priority_endpoints = 9"]),
        ({"occupancy": 0.0}, ["demo.toml", "occupancy = 0.0"]),
        ({"churn_per_week": 3.0}, ["demo.toml", "churn_per_week = 3.0"]),
        ({"quantisation": "int3"}, ["demo.toml", "quantisation = 'int3'"]),
        ({"services": [{"name": "a", "model": "m", "share": 0.5}]}, ["demo.toml", "services", "0.5 together; must be 1"]),
        ({"services": [{"name": "a", "model": "m", "prompt_tokens": [9, 3]}]}, ["services[0].prompt_tokens = [9, 3]"]),
        ({"services": [{"name": "a", "model": "m", "high_endpoints": 2}]}, ["services[0].high_endpoints = 2", "0 to 1"]),
        ({"services": [{"name": "a", "model": "m", "share": 0.5}] * 2}, ["services", "'a' stands twice"]),
        ({"services": [{"name": "a", "model": "m", "tp": 0}]}, ["services[0].tp = 0"]),
        ({"services": [{"name": "a", "model": "m", "output_tokens": [0, 9]}]}, ["services[0].output_tokens[0] = 0"]),
    ],
)
def test_a_bad_value_is_named_with_file_and_key(overrides: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load("demo", **overrides)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_an_unknown_scenario_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"ahu-lost, azure-week, .*demo, .*normal"):
        load("nowhere")


def test_files_build_on_each_other_and_circles_are_found(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('base = "demo"\nname = "own"\noutside_c = 20.0\n')
    assert (load(own).outside_c, load(own).peak_rps) == (20.0, load("demo").peak_rps)
    own.write_text("name = ")
    with pytest.raises(ConfigError, match=r"own\.toml: not TOML"):
        load(own)
    own.write_text("base = 3\n")
    with pytest.raises(ConfigError, match="base = 3"):
        load(own)
    own.write_text('base = "demo"\nstart = 2026-07-15T14:00:00\n')
    with pytest.raises(ConfigError, match="needs an offset"):
        load(own)


def test_limits_are_needed_unless_a_topology_says_them(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\nstart = 2026-07-15T14:00:00Z\nrow_limit_w = 1e5\n')
    with pytest.raises(ConfigError, match=r"own\.toml: aisle_limit_cfm: missing"):
        load(own)
    own.write_text('name = "own"\nstart = 2026-07-15T14:00:00Z\ntopology = "site.toml"\n')
    assert load(own).topology == str(tmp_path / "site.toml")


def test_paths_in_a_file_are_relative_to_its_folder(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('base = "demo"\nname = "own"\nhardware = ["h100", "mine.toml"]\nrecorded_requests = "past.parquet"\n')
    scenario = load(own)
    assert scenario.hardware == ("h100", str(tmp_path / "mine.toml"))
    assert scenario.recorded_requests == str(tmp_path / "past.parquet")
