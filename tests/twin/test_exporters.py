from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from tests.twin.exported import by_unit, collect, go
from twin.exporters import ExporterSettings, exporters
from twin.world import World

Maker = Callable[..., World]
ROWS = {"gpu": 128, "server": 16, "facility": 2 + 4 + 4 + 2 + 1 + 4 + 3 + 1, "endpoints": 8}


@pytest.fixture
def world(make_world: Maker) -> World:
    return make_world(aisle_limit_cfm=12e3)


def test_frames_are_whole_and_in_range(world: World) -> None:
    made = exporters(world)
    assert collect(world, made) == {}
    go(world, 10)
    frames = collect(world, made)
    assert list(frames) == [e.topic for e in made] == ["gpu", "server", "facility", "requests", "endpoints"]
    assert {topic: len(frames[topic]["ts"]) for topic in ROWS} == ROWS
    assert all(set(f["ts"]) == {world.now.replace(tzinfo=None)} for t, f in frames.items() if t != "requests")
    assert frames["server"]["node"] == [s.name for s in world.topology.servers]
    assert frames["gpu"]["uuid"][8] == f"GPU-{world.topology.servers[1].name}-0"
    assert collect(world, made) == {}, "nothing new, nothing said"


def test_facility_tells_power_air_and_what_is_lost(make_world: Maker) -> None:
    lost = {"ahu_lost": "ahu-1", "ups_lost": "ups-1", "chiller_restart": "chiller-2", "cooling_device_lost": "cooling-3"}
    world = make_world(
        aisle_limit_cfm=12e3, events=[{"kind": kind, "unit": unit, "at_s": 20, "for_s": 400} for kind, unit in lost.items()]
    )
    made = exporters(world)
    for _ in range(2):
        go(world, 15)
        facility = collect(world, made)["facility"]
    power = world.row_power(15)
    assert power.shape == (15, 2)
    mean_w, max_w, state = (by_unit(facility, name) for name in ("power_w", "power_max_w", "state"))
    assert mean_w["row", "row-1"] == pytest.approx(power[:, 0].mean())
    assert max_w["row", "row-2"] == power[:, 1].max()
    assert {unit for (_, unit), s in state.items() if s == "lost"} == set(lost.values())
    assert {kind for (kind, _), s in state.items() if s is None} == {"row", "aisle", "site"}
    assert mean_w["ups", "ups-1"] == 0.0
    for kind in ("pdu", "ups"):
        assert sum(w for (k, _), w in mean_w.items() if k == kind) == pytest.approx(power.mean(axis=0).sum())
    assert mean_w["ahu", "ahu-1"] is mean_w["chiller", "chiller-1"] is None
    assert by_unit(facility, "airflow_cfm")["aisle", "aisle-1"] == world.state.airflow_cfm[0]
    assert by_unit(facility, "outside_c")["site", "normal"] == pytest.approx(35.0, abs=0.5)


def test_a_lost_pdu_leaves_its_row_to_its_partner(make_world: Maker) -> None:
    world = make_world()
    pdu, other = world.topology.rows[0].pdus
    world = make_world(events=[{"kind": "pdu_lost", "at_s": 0, "unit": pdu}])
    made = exporters(world)
    go(world, 5)
    mean_w = by_unit(collect(world, made)["facility"], "power_w")
    assert (mean_w["pdu", pdu], mean_w["pdu", other]) == (0.0, pytest.approx(mean_w["row", "row-1"]))


def test_sampled_requests_weigh_as_much_as_all(world: World) -> None:
    made = exporters(world, ExporterSettings(request_sample=7))
    weight, ids = 0.0, []
    for _ in range(20):
        go(world, 3)
        requests = collect(world, made)["requests"]
        weight += sum(requests["weight"])
        ids += requests["request_id"]
    assert len(set(ids)) == len(ids)
    assert ids[1] == "normal-3-000000000007"
    assert 0 <= weight - world.score().requests < 7


def test_a_requests_row_is_what_became_of_it(make_world: Maker) -> None:
    world = make_world(queue_limit=1, peak_rps=40.0, batch_limit=4)
    made = exporters(world, ExporterSettings(request_sample=1))
    go(world, 20)
    rows, truth = collect(world, made)["requests"], world.ended_after(0)
    assert len(rows["ts"]) == len(truth)
    served = np.isfinite(truth["first_s"])
    assert 0 < served.sum() < len(truth)
    assert rows["status"] == np.where(served, "ok", "rejected").tolist()
    assert [t is None for t in rows["ttft_s"]] == [t is None for t in rows["e2e_s"]] == (~served).tolist()
    assert [t is None for t in rows["tbt_s"]] == (~served | (truth["output"] == 1)).tolist()
    k = int(np.flatnonzero(served & (truth["output"] > 1))[0])
    t, server = truth[k], world.fleet.instance_server[truth["instance"][k]]
    assert rows["node"][k] == world.topology.servers[server].name
    assert rows["endpoint"][k] == world.topology.servers[server].endpoint
    assert rows["tbt_s"][k] == pytest.approx((t["end_s"] - t["first_s"]) / (t["output"] - 1), rel=1e-6)
    assert (rows["ts"][k] - rows["received_at"][k]).total_seconds() == pytest.approx(rows["e2e_s"][k], abs=1e-5)


def inside(world: World) -> int:
    """Requests that run or wait."""
    h = world.serving.s.inst
    return int(sum(h[name].sum() for name in ("decoding", "fresh", "waiting_low", "waiting_high", "coming")))


@pytest.mark.parametrize("tp", [8, 4])
def test_gauges_add_up_to_what_the_instances_did(make_world: Maker, tp: int) -> None:
    world = make_world(tp=tp)
    made = exporters(world)
    before, arrived, output, prompt = inside(world), 0.0, 0.0, 0.0
    for _ in range(6):
        go(world, 5)
        columns = collect(world, made)["endpoints"]
        arrived += 5 * sum(columns["requests_rps"])
        output += 5 * sum(columns["output_tok_s"])
        prompt += 5 * sum(columns["prompt_tok_s"])
    h = world.serving.s.inst
    assert len(columns["node"]) == len(set(columns["node"])) == 8
    assert len(h) == 8 * 8 // tp
    assert output == pytest.approx(h["made_tokens"].sum(), rel=1e-5)
    assert prompt == pytest.approx(h["prompt_tokens"].sum(), rel=1e-5)
    node = world.fleet.instance_server == world.fleet.instance_server[0]
    assert columns["running"][0] == (h["decoding"] + h["fresh"])[node].sum()
    assert sum(columns["running"]) + sum(columns["waiting"]) == inside(world)
    assert arrived == pytest.approx(inside(world) - before + (h["finished"] + h["rejected"]).sum(), abs=0.01)
    assert 0.0 < max(columns["kv_cache_pct"]) < 100.0


def test_latencies_are_over_all_of_a_nodes_requests_of_the_period(make_world: Maker) -> None:
    world = make_world(tp=2, peak_rps=6.0)
    made = exporters(world)
    go(world, 15)
    collect(world, made)
    go(world, 15)
    columns = collect(world, made)["endpoints"]
    truth = world.ended_after(15)
    names = np.array([world.topology.servers[i].name for i in world.fleet.instance_server])
    for k, name in enumerate(columns["node"]):
        mine = truth[names[truth["instance"]] == name]
        many = mine[mine["output"] > 1]
        assert columns["ttft_p99_s"][k] == pytest.approx(np.quantile(mine["first_s"] - mine["arrival_s"], 0.99))
        tbt_s = (many["end_s"] - many["first_s"]) / (many["output"] - 1)
        assert columns["tbt_p99_s"][k] == pytest.approx(np.quantile(tbt_s, 0.99))
        assert columns["slo_ok_pct"][k] == pytest.approx(100.0 * mine["ok"].mean())


def test_instances_that_have_left_are_not_told_of(make_world: Maker) -> None:
    world = make_world(tp=4)
    world.serving.present[:3] = False
    made = exporters(world)
    go(world, 5)
    columns = collect(world, made)["endpoints"]
    assert len(columns["node"]) == 7
    assert columns["running"][0] == (world.serving.s.inst["decoding"] + world.serving.s.inst["fresh"])[3]


def test_periods_are_checked() -> None:
    with pytest.raises(msgspec.ValidationError, match="gpu_period_s"):
        msgspec.convert({"gpu_period_s": 0}, ExporterSettings)
