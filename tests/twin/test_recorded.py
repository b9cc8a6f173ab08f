"""A recorded history as the input."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InputError
from twin import fleet as fleets
from twin import hardware, recorded
from twin.scenario import load

SCENARIO = load("normal")
FLEET = fleets.build(SCENARIO, 3)
START = SCENARIO.start
NAIVE = START.replace(tzinfo=None)
IAAS = int(np.flatnonzero(FLEET.customer >= 0)[0])
SAAS = int(np.flatnonzero(FLEET.endpoint >= 0)[0])
Write = Callable[[dict[str, list[Any]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(columns: dict[str, list[Any]]) -> Path:
        path = tmp_path / "past.parquet"
        pl.DataFrame(columns).write_parquet(path)
        return path

    return to_file


def requests(at_s: list[float], **columns: list[Any]) -> dict[str, list[Any]]:
    n = len(at_s)
    plain: dict[str, list[Any]] = {
        "received_at": [NAIVE + timedelta(seconds=s) for s in at_s],
        "endpoint": ["chat-1"] * n,
        "prompt_tokens": [100] * n,
        "output_tokens": [20] * n,
    }
    return plain | columns


def test_a_history_comes_back_block_by_block(write: Write) -> None:
    rng = np.random.default_rng(3)
    at_s = np.sort(np.round(rng.uniform(-60.0, 240.0, 500), 6))
    endpoint, prompt, output = rng.integers(0, 4, 500), rng.integers(1, 9000, 500), rng.integers(1, 900, 500)
    names = [FLEET.topology.endpoints[e].name for e in endpoint]
    history = requests(at_s.tolist(), endpoint=names, prompt_tokens=prompt.tolist(), output_tokens=output.tolist())
    past = recorded.Requests(write(history), FLEET, START)
    assert len(past) == 500
    for number in range(-1, 4):
        mine = np.floor(at_s / 60) == number
        found = past.arrivals(number)
        assert np.allclose(found.at_s, at_s[mine], atol=2e-6)
        assert np.array_equal(found.endpoint, endpoint[mine])
        assert np.array_equal(found.prompt, prompt[mine])
        assert np.array_equal(found.output, output[mine])
    assert len(past.arrivals(99).at_s) == 0


def test_rates_are_ten_minute_means(write: Write) -> None:
    history = requests([float(s) for s in range(0, 1200, 2)], endpoint=["chat-1", "chat-3"] * 300)
    rates = recorded.Requests(write(history), FLEET, START).rates(np.array([30.0, 700.0, 5000.0]))
    assert rates.tolist() == [[0.25, 0, 0.25, 0], [0.25, 0, 0.25, 0], [0, 0, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(weights=st.lists(st.floats(0, 20), min_size=2, max_size=40))
def test_weighted_rows_stand_for_as_many_requests_between_their_neighbours(weights: list[float]) -> None:
    at_s = np.arange(len(weights), dtype=np.float64) * 8.0
    times, picked = recorded._spread(at_s, np.zeros(len(weights), dtype=np.int64), np.array(weights))
    assert len(times) == int(np.floor(sum(weights) + 1e-6))
    assert (np.diff(times) >= 0).all()
    assert ((times >= at_s[picked]) & (times < at_s[picked] + 8.0)).all()
    assert (np.abs(np.bincount(picked, minlength=len(weights)) - weights) <= 1.0 + 1e-5).all()


def test_weights_spread_each_endpoint_by_itself(write: Write) -> None:
    history = requests([0.0, 1.0, 8.0, 9.0], endpoint=["chat-1", "chat-2"] * 2, weight=[4.0, 2.0, None, 1.0])
    found = recorded.Requests(write(history), FLEET, START).arrivals(0)
    assert found.at_s.tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert found.endpoint.tolist() == [0, 1, 0, 0, 1, 0, 0, 1]


def test_requests_that_failed_tell_no_lengths(write: Write) -> None:
    history = requests([0.0, 1.0, 2.0], status=["ok", "rejected", None], output_tokens=[5, None, 6])
    past = recorded.Requests(write(history), FLEET, START)
    assert (past.left_out, past.arrivals(0).output.tolist()) == (1, [5, 6])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (requests([0.0, 5.0, 3.0]), "past.parquet: received_at, row 2: is earlier than the row before"),
        (requests([0.0, 5.0], endpoint=["chat-1", "chat-9"]), "endpoint, row 1: 'chat-9': the site has chat-1, chat-2"),
        (requests([0.0, 5.0], prompt_tokens=[1, 0]), "prompt_tokens, row 1: 0: must be 1 to 1e+08"),
        (requests([0.0, 5.0], output_tokens=[None, 7]), "output_tokens, row 0: has no value"),
        (requests([0.0, 5.0], weight=[1.0, -1.0]), "weight, row 1: -1: must be 0 to 1e+09"),
        (requests([0.0, 5.0], weight=[1.0, float("nan")]), "weight, row 1: nan"),
        (requests([7200.0, 7300.0]), "does not hold the scenario's start"),
        (requests([0.0], prompt_tokens=["many"]), "prompt_tokens: is String, must be a number"),
        (requests([0.0], received_at=[3.0]), "received_at: is Float64, must be a time"),
        ({"endpoint": ["chat-1"]}, "received_at: missing; there are endpoint"),
        (requests([]), "past.parquet: "),
    ],
)
def test_a_bad_history_is_named_with_file_column_and_row(write: Write, columns: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(InputError) as error:
        recorded.Requests(write(columns), FLEET, START)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_parquet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        recorded.Requests(tmp_path / "none.parquet", FLEET, START)
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"text\.parquet: not a Parquet file"):
        recorded.Requests(tmp_path / "text.parquet", FLEET, START)


def power(node: str, at_s: list[float], watts: list[float]) -> dict[str, list[Any]]:
    return {"node": [node] * len(at_s), "ts": [NAIVE + timedelta(seconds=s) for s in at_s], "power_w": watts}


def test_power_becomes_levels_of_the_opaque_tenants(write: Write) -> None:
    names = [s.name for s in FLEET.topology.servers]
    columns = power(names[IAAS], [0.0, 60.0, 120.0], [0.0, 5500.0, 9e4])
    columns = {k: v + power(names[SAAS], [0.0], [8000.0])[k] for k, v in columns.items()}
    past = recorded.Power(write(columns), FLEET, START)
    seconds = np.array([0.0, 1.0, 60.0, 61.0, 999.0])
    levels = past.levels(seconds, np.full((5, 80), 0.5))
    middle = recorded.level_of(np.array([5500.0]), FLEET.profiles[0])[0]
    assert levels[:, IAAS] == pytest.approx([0.0, middle, middle, 1.0, 1.0])
    assert np.delete(levels, IAAS, axis=1).tolist() == np.full((5, 79), 0.5).tolist()


@given(level=st.floats(0, 1), name=st.sampled_from(hardware.names()))
def test_levels_are_those_that_draw_the_power(level: float, name: str) -> None:
    profile = hardware.load(name)
    p, fans = profile.power, profile.fans
    duty = fans.idle_duty + (fans.hot_duty - fans.idle_duty) * level
    gpu_w = p.loaded_w + (profile.sheet.gpu_tdp_w - p.loaded_w) * level
    watts = (profile.sheet.gpus * gpu_w + p.overhead_w + p.fans_w * duty**3) / p.psu_share
    assert recorded.level_of(np.array([watts]), profile)[0] == pytest.approx(level, abs=1e-4)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (power("n999", [0.0], [1.0]), "node, row 0: 'n999': the site has no such server"),
        (power(f"n{SAAS + 1:03d}", [0.0], [1.0]), "none of them is an opaque tenant's"),
        (power(f"n{IAAS + 1:03d}", [0.0, -60.0], [1.0, 1.0]), "ts, row 1: is earlier"),
        (power(f"n{IAAS + 1:03d}", [0.0, 60.0], [1.0, -1.0]), "power_w, row 1: -1: must be 0 to 100000"),
    ],
)
def test_bad_power_is_named(write: Write, columns: dict[str, list[Any]], words: str) -> None:
    with pytest.raises(InputError) as error:
        recorded.Power(write(columns), FLEET, START)
    assert words in str(error.value)


def test_outside_temperature_is_linear_between_rows(write: Write) -> None:
    times = [START + timedelta(hours=h) for h in (0, 1, 2)]
    path = write({"ts": times, "outside_c": [10.0, None, 30.0]})
    assert recorded.Outside(path, START).at(np.array([-5.0, 3600.0, 9e9])).tolist() == [10.0, 20.0, 30.0]
    with pytest.raises(InputError, match="outside_c, row 0: 99: must be -60 to 70"):
        recorded.Outside(write({"ts": times[:1], "outside_c": [99.0]}), START)
