from pathlib import Path

import pytest

from contracts.errors import ConfigError
from control.index import build
from twin import fleet
from twin.scenario import FOLDER, load


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_scenario_loads_and_its_topology_holds_together(path: Path) -> None:
    scenario = load(path.stem)
    topology = fleet.build(scenario, 7).topology
    index = build(topology)
    assert scenario.name == path.stem
    assert len(topology.servers) == scenario.rows * scenario.servers_per_row
    assert index.saas.sum() == pytest.approx(scenario.saas_share * len(topology.servers))
    assert {s.rack for s in topology.servers if s.row == "row-2"} >= {"r2k01", "r2k03"}
    assert (topology.servers[0].name, topology.aisles[0].ahus) == ("n001", ("ahu-1", "ahu-2"))


def test_the_two_scenarios_differ_in_the_failure_only() -> None:
    assert load("normal", name="x", ahu_lost_after_s=300.0) == load("ahu-lost", name="x")


def test_upses_carry_the_rows_when_one_is_lost() -> None:
    scenario = load("demo")
    topology = fleet.build(scenario, 7).topology
    assert sum(u.power_limit_w for u in topology.upses[1:]) == pytest.approx(scenario.rows * scenario.row_limit_w)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"peak_rps": -1.0}, ["demo.toml", "peak_rps"]),
        ({"saas_share": 1.5}, ["demo.toml", "saas_share"]),
        ({"color": "red"}, ["demo.toml", "color"]),
        ({"endpoints": 100}, ["demo.toml", "endpoints = 100", "40 instances"]),
        ({"high_priority_endpoints": 9}, ["demo.toml", "high_priority_endpoints = 9"]),
    ],
)
def test_a_bad_value_is_named_with_file_and_key(overrides: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load("demo", **overrides)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_an_unknown_scenario_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"ahu-lost, demo, normal"):
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
