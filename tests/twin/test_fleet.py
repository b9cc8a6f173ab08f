"""The site: where things stand, whose they are, how units differ, and what cannot be."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from control.index import build as index
from twin import fleet, hardware
from twin.scenario import Scenario, load
from twin.services import spread

CHAT = {"name": "chat", "model": "llama2-70b"}
BIG: dict[str, Any] = {"rows": 25, "servers_per_row": 40}


def small(**overrides: Any) -> Scenario:
    return load("normal", **({"servers_per_row": 8, "row_limit_w": 6e4, "tp": 8} | overrides))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(["h100", "a100"]))
def test_units_are_drawn_with_the_published_spreads(seed: int, name: str) -> None:
    built = fleet.build(load("normal", hardware=name, **BIG), seed)
    profile = hardware.load(name)
    heat, units = profile.heat, fleet.units(built)
    whole = units.r_die + units.r_sink / (0.25 + 0.75 * 0.8)
    assert whole.mean() == pytest.approx(heat.resistance_mean, rel=0.02)
    assert whole.std() == pytest.approx(heat.resistance_sd, rel=0.1)
    assert whole.mean(axis=1).var() / whole.var() == pytest.approx(0.8 + 0.2 / 8, abs=0.03)  # most of it is the server's
    assert built.power_factor.std() == pytest.approx(np.hypot(0.03, 0.02), rel=0.1)
    assert built.memory_offset_c.mean() == pytest.approx(profile.sensors.memory_offset_c, abs=0.3)
    assert built.inlet_bias_share.std() == pytest.approx(0.02, rel=0.12)
    assert built.leakage.std() == pytest.approx(0.15, rel=0.12)
    assert units.cfm_full.mean() == pytest.approx(profile.fans.cfm_full, rel=0.005)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_inlets_differ_by_row_rack_and_server_as_published(seed: int) -> None:
    built = fleet.build(load("normal", rows=40, servers_per_row=40), seed)
    offset = built.inlet_offset_c.reshape(40, 40)
    assert offset.mean() == pytest.approx(0.0, abs=0.3)
    # Rows are uniform in 0 to 1 K, sd .29; the mean of 40 servers has an error of its own of .12.
    assert offset.mean(axis=1).std() == pytest.approx(0.31, abs=0.12)
    by_rack = offset.reshape(40, 10, 4).mean(axis=(0, 2))
    assert by_rack[[0, -1]].mean() - by_rack[4:6].mean() == pytest.approx(2.0 - 2.0 / 9, abs=0.35)  # rising to the ends


def test_the_same_seed_gives_the_same_units_and_another_does_not() -> None:
    one, same, other = (fleet.build(small(), seed) for seed in (7, 7, 8))
    assert np.array_equal(one.leakage, same.leakage)
    assert np.array_equal(one.resistance, same.resistance)
    assert not np.array_equal(one.resistance, other.resistance)


def test_the_plant_gets_what_the_profile_says() -> None:
    built = fleet.build(small(hardware=("h100", "a100")), 7)
    u = fleet.units(built)
    first, second = built.row == 0, built.row == 1
    assert (set(u.tdp_w[first]), set(u.tdp_w[second])) == ({700.0}, {400.0})
    assert set(u.slowdown_c[second]) == {89.0}
    # Fig. 9's pattern in full when all eight GPUs draw the power that it was read at
    assert u.position_k_per_w[0] * 8 * 640.0 == pytest.approx(hardware.load("h100").heat.position_c)
    assert u.r_die[second].mean() == pytest.approx(hardware.load("a100").heat.die_k_per_w, rel=0.1)  # eight servers
    assert all(array.flags.c_contiguous for array in u)
    assert all(len(array) == 16 for array in u)


def test_hardware_takes_turns_row_by_row() -> None:
    topology = fleet.build(load("normal", hardware=("h100", "a100"), rows=5), 7).topology
    by_row = [{s.hardware for s in topology.servers if s.row == f"row-{r}"} for r in range(1, 6)]
    assert by_row == [{"dgx-h100"}, {"dgx-a100"}] * 2 + [{"dgx-h100"}]
    assert index(topology).max_clock_mhz[[0, 40]].tolist() == [1980.0, 1410.0]


def test_all_hardware_of_a_site_has_as_many_gpus(tmp_path: Path) -> None:
    text = (hardware.FOLDER / "a100.toml").read_text(encoding="utf-8").replace("\ngpus = 8", "\ngpus = 4")
    text = re.sub(r"position_c = \[.*?\]", "position_c = [1.0, 2.0, 3.0, 4.0]", text)
    (tmp_path / "four.toml").write_text(text)
    with pytest.raises(ConfigError, match="dgx-h100 has 8 GPUs and dgx-a100 4; all servers of a site need the same number"):
        fleet.build(load("normal", hardware=("h100", str(tmp_path / "four.toml"))), 7)


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_servers_carry_instances_side_by_side(tp: int) -> None:
    built = fleet.build(small(services=[CHAT | {"tp": tp}]), 7)
    per = 8 // tp
    saas = np.flatnonzero(built.endpoint >= 0)
    assert np.array_equal(built.instance_server, np.repeat(saas, per))
    assert np.array_equal(built.instance[saas], np.arange(len(saas)) * per)
    assert built.instance_first_gpu[:per].tolist() == [k * tp for k in range(per)]
    assert set(built.instance_gpus.tolist()) == {tp}
    assert (built.instance_endpoint == built.endpoint[built.instance_server]).all()


@given(parts=st.lists(st.integers(1, 9), min_size=1, max_size=8), count=st.integers(1, 200))
def test_any_stretch_of_servers_has_the_services_shares(parts: list[int], count: int) -> None:
    shares = [part / sum(parts) for part in parts]
    sequence = spread(shares, count)
    for upto in (count // 3, count):
        found = np.bincount(sequence[:upto], minlength=len(parts))
        assert (np.abs(found - np.array(shares) * upto) <= len(parts)).all()
    if len(set(parts)) == 1:
        assert np.array_equal(sequence, np.arange(count) % len(parts))


def test_services_have_endpoints_models_objectives_and_priorities() -> None:
    built = fleet.build(
        load(
            "normal",
            services=[
                CHAT | {"tp": 4, "endpoints": 2, "high_endpoints": 1, "share": 0.5},
                {"name": "small", "model": "llama2-70b", "tp": 2, "share": 0.5, "priority": "low", "ttft_slo_s": 9.0},
            ],
        ),
        7,
    )
    assert [(e.name, e.priority) for e in built.topology.endpoints] == [("chat-1", "high"), ("chat-2", "low"), ("small", "low")]
    assert built.topology.endpoints[2].ttft_slo_s == 9.0
    assert 0 < built.topology.endpoints[0].tbt_slo_s < built.topology.endpoints[2].tbt_slo_s * 2
    assert np.bincount(built.instance_service).tolist() == [20 * 2, 20 * 4]
    assert {s.priority for s in built.topology.servers if s.endpoint == "small"} == {"low"}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"hardware": "b300"}, "no hardware profile b300"),
        ({"calibration": "nobody"}, "no calibration nobody"),
        ({"model": "llama9"}, "no llama9 h100 TP8 fp16"),
        (
            {"hardware": "a100", "calibration": "modern", "model": "llama3.1-70b"},
            "scenario normal: service chat: modern: no llama3.1-70b a100 TP8",
        ),
        ({"tp": 16}, "tp = 16: a dgx-h100 has 8 GPUs"),
        (
            {"row_limit_w": 20_000.0},
            "scenario normal: row_limit_w = 20000: below the 25600 W that the servers of row-1 draw idle",
        ),
        ({"topology": "none.toml"}, "topology = 'none.toml': no such file"),
        ({"services": [CHAT | {"share": 0.99}, CHAT | {"name": "rare", "share": 0.01}]}, "none of 8 SaaS servers for rare"),
    ],
)
def test_what_a_site_cannot_run_is_named(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        fleet.build(small(**overrides), 7)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def site_file(tmp_path: Path, change: dict[str, Any], *, tenants: bool = True) -> Scenario:
    """A scenario whose site is a file: that of the counts with some keys changed (path "servers.3.rack")."""
    topology = fleet.build(small(), 7).topology
    values = msgspec.to_builtins(topology)
    if not tenants:
        values["endpoints"] = []
        for server in values["servers"]:
            server |= {"tenant": "free", "endpoint": None, "customer": None, "priority": "low"}
    for path, value in change.items():
        *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
        at = values
        for step in steps:
            at = at[step]
        at[last] = value
    (tmp_path / "site.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in values.items()))
    return small(topology=str(tmp_path / "site.toml"))


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(one)}' for key, one in value.items() if one is not None)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def test_a_site_file_gives_the_site_that_was_written(tmp_path: Path) -> None:
    from_counts, from_file = fleet.build(small(), 7), fleet.build(site_file(tmp_path, {}), 7)
    assert from_file.topology == from_counts.topology
    for name in ("endpoint", "customer", "instance", "row", "aisle", "resistance", "inlet_offset_c", "recirculation"):
        assert np.array_equal(getattr(from_file, name), getattr(from_counts, name))


def test_a_site_file_may_name_profiles_a_matrix_and_leave_tenants_to_the_scenario(tmp_path: Path) -> None:
    change = {"hardware": ["h100"], "recirculation": [[7.0]]}
    built = fleet.build(site_file(tmp_path, change, tenants=False), 7)
    assert built.recirculation.tolist() == [[7.0]]
    assert np.array_equal(built.endpoint, fleet.build(small(), 7).endpoint)


def test_heat_goes_round_to_the_next_aisles_ever_less() -> None:
    matrix = fleet.build(load("normal", rows=6), 7).recirculation
    assert matrix == pytest.approx(np.array([[10, 1, 0.1], [1, 10, 1], [0.1, 1, 10]]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"servers.3.name": "n001"}, "servers[3].name = 'n001': stands twice, in rack r1k01"),
        ({"servers.6.name": "n001"}, "servers[6].name = 'n001': stands twice, in racks r1k01 and r1k02"),
        ({"servers.9.rack": "r1k01"}, "servers[9].rack = 'r1k01': stands in row row-1 and in row row-2"),
        ({"servers.1.slot": 0}, "servers[1].slot = 0: n001 stands there in rack r1k01"),
        ({"servers.1.slot": -1}, "servers[1].slot = -1: must be at least 0"),
        ({"servers.1.row": "row-9"}, "servers[1].row = 'row-9': there are row-1, row-2"),
        ({"servers.1.hardware": "dgx-z"}, "servers[1].hardware = 'dgx-z': there are dgx-h100"),
        ({"servers.0.endpoint": "x", "servers.0.tenant": "saas"}, "servers[0].endpoint = 'x': there are chat-1"),
        ({"servers.0.endpoint": None, "servers.0.tenant": "saas"}, "servers[0].endpoint: a saas server needs one"),
        ({"servers.0.customer": None, "servers.0.tenant": "iaas"}, "servers[0].customer: an iaas server needs one"),
        ({"rows.0.aisle": "aisle-7"}, "rows[0].aisle = 'aisle-7': there are aisle-1"),
        ({"rows.1.upses": ["ups-7"]}, "rows[1].upses = 'ups-7': there are ups-1, ups-2"),
        ({"rows.1.pdus": ["pdu-7"]}, "rows[1].pdus = 'pdu-7': there are pdu-1"),
        ({"rows.1.name": "row-1"}, "rows[1] = 'row-1': stands twice"),
        ({"rows.0.power_limit_w": 20000.0}, "rows[0].power_limit_w = 20000: below the 25600 W"),
        ({"rows.0.power_limit_w": 0.0}, "rows[0].power_limit_w = 0.0: expected `float` > 0.0"),
        ({"aisles.0.airflow_limit_cfm": -5.0}, "aisles[0].airflow_limit_cfm = -5.0"),
        ({"aisles.0.ahus": ["ahu-1", "ahu-1"]}, "aisles: ahus[1] = 'ahu-1': stands twice"),
        ({"chillers": ["a", "a"]}, "chillers[1] = 'a': stands twice"),
        ({"ahu_lost_share": 1.5}, "ahu_lost_share = 1.5: must be above 0"),
        ({"recirculation": [[1.0, 2.0]]}, "recirculation: needs 1 rows of 1 numbers"),
        ({"recirculation": [[-1.0]]}, "recirculation[0][0] = -1.0: must be a number of kelvin"),
        ({"hardware": []}, "hardware: needs a list of profiles"),
        ({"hardware": ["b300"]}, "no hardware profile b300"),
        ({"hardware.0.name": "dgx-z"}, "hardware[0].name = 'dgx-z': its physics is not known"),
        ({"hardware.0.slowdown_c": -1.0}, "hardware[0]: slowdown_c = -1.0"),
        ({"servers": []}, "servers: there are none"),
        ({"colour": 3}, "Object contains unknown field `colour`"),
    ],
)
def test_a_site_that_cannot_be_is_named_with_file_and_key(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        fleet.build(site_file(tmp_path, change), 7)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    if "no hardware profile" not in words:
        assert str(error.value).startswith("site.toml: ")


def test_endpoints_of_a_site_file_need_their_service(tmp_path: Path) -> None:
    scenario = msgspec.structs.replace(site_file(tmp_path, {}), services=load("polca-weeks").services)
    with pytest.raises(ConfigError, match="services: none for the endpoint 'chat-1'"):
        fleet.build(scenario, 7)


def test_cooling_carries_the_rows_with_one_device_lost() -> None:
    built = fleet.build(load("normal"), 7)
    assert built.cooling_capacity_w * 3 / 4 == pytest.approx(2 * load("normal").row_limit_w)
    assert fleet.build(load("normal", cooling_capacity_w=5e5), 7).cooling_capacity_w == 5e5
