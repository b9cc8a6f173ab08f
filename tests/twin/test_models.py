"""Calibrations: what a file may say, points as the kernels see them, what changing an instance costs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from twin.models import DECODE, POINT, PREFILL, Point, load, relative_power, relative_time, table
from twin.reconfigure import LAYOUTS, TAU_S, new_instance_s, reshard_s

SHIPPED = ("llama2-70b-2023", "modern")
POINTS = [point for name in SHIPPED for point in load(name).points]
RECORDS = table(POINTS)
TEXT = (Path(__file__).parents[2] / "twin" / "calibrations" / "modern.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_calibration_loads_under_its_name(name: str) -> None:
    assert load(name).name == name


def test_a_calibration_of_ones_own_loads_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace('name = "modern"', 'name = "mine"'), encoding="utf-8")
    assert load(path).name == "mine"
    assert load(str(path)).point("llama3.1-8b", "h100", 1).tp == 1


def test_an_unknown_configuration_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no llama2-70b h100 TP16 fp16; there are .*llama2-70b h100 TP8 fp16"):
        load("llama2-70b-2023").point("llama2-70b", "h100", 16)


def test_an_unknown_calibration_is_told_what_is_shipped() -> None:
    with pytest.raises(ConfigError, match="llama2-70b-2023, modern"):
        load("newest")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('gpu = "h100"', 'gpu = "b200"', "gpu = 'b200': the file has h100"),
        ('model = "llama3.1-8b"', 'model = "gpt-2"', "model = 'gpt-2': the file has llama3.1-70b"),
        ("tp = 4", "tp = 0", "tp"),
        ("token_budget = 8192", "token_budjet = 8192", "token_bud"),
        ("clock_mhz = [800.0, 1000.0", "clock_mhz = [1000.0, 800.0", "rising clocks"),
        ("power = [0.55", "power = [0.65", "may not fall"),
        ("decode_time = [1.72, 1.39", "decode_time = [1.32, 1.39", "may not rise"),
        ("prefill_time = [1.94, ", "prefill_time = [", "one value per clock"),
        ("prefill_s = [0.01632, 6.490e-05", "prefill_s = [-0.01632, 6.490e-05", "p0"),
        ("weights_gb = { fp8 = 410.0 }", "weights_gb = { fp8 = 700.0 }", "no room for the KV cache"),
        ("weights_gb = { fp8 = 410.0 }", "weights_gb = { fp16 = 410.0 }", "nothing for 'fp8'"),
        ("tp = 8\nquantisation", 'tp = 4\n#', "no room|nothing for 'fp16'"),
        ("name = ", "name : ", "not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as error:
        load(path)
    assert "mine.toml" in str(error.value)


def test_a_configuration_stands_there_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT + TEXT[TEXT.index("[[points]]") :], encoding="utf-8")
    with pytest.raises(ConfigError, match="twice: llama2-13b h100 TP1"):
        load(path)


def test_points_go_into_a_table_and_come_back() -> None:
    assert RECORDS.dtype == POINT
    for record, point in zip(RECORDS, POINTS, strict=True):
        for name in POINT.names or ():
            if name == "clocks":
                assert record[name] == len(point.clock_mhz)
            elif name in ("clock_mhz", "decode_time", "prefill_time", "power"):
                assert tuple(record[name][: len(point.clock_mhz)]) == getattr(point, name)
            else:
                assert record[name] == getattr(point, name)


@pytest.mark.parametrize("k", range(len(POINTS)), ids=lambda k: POINTS[k].label)
def test_kernels_meet_the_clock_table(k: int) -> None:
    point, record = POINTS[k], RECORDS[k]
    for mhz, decode, prefill, power in zip(point.clock_mhz, point.decode_time, point.prefill_time, point.power, strict=True):
        assert relative_time(record, mhz, DECODE) == pytest.approx(decode)
        assert relative_time(record, mhz, PREFILL) == pytest.approx(prefill)
        assert relative_power(record, mhz) == pytest.approx(power)


some_point = st.integers(0, len(POINTS) - 1)
clock = st.floats(150.0, 2500.0)


@given(some_point, clock, clock, st.sampled_from([DECODE, PREFILL]))
def test_time_falls_and_power_rises_with_the_clock(k: int, one: float, other: float, phase: int) -> None:
    low, high = sorted((one, other))
    record = RECORDS[k]
    assert relative_time(record, low, phase) >= relative_time(record, high, phase) >= 1.0
    assert 0.0 < relative_power(record, low) <= relative_power(record, high) <= 1.0


@given(some_point, st.floats(1, 512), st.floats(1, 512), st.floats(1, 4096))
def test_a_step_takes_longer_and_draws_more_with_a_larger_batch(k: int, one: float, other: float, context: float) -> None:
    few, many = sorted((one, other))
    point = POINTS[k]
    assert point.decode_s(few, few * context) <= point.decode_s(many, many * context)
    assert point.decode_w(few) <= point.decode_w(many)
    assert point.prefill_s(few * context) <= point.prefill_s(many * context)


def test_more_gpus_decode_faster_and_keep_more_tokens() -> None:
    by: dict[tuple[str, str, str], list[Point]] = {}
    for point in load("modern").points:
        by.setdefault((point.model, point.gpu, point.quantisation), []).append(point)
    for points in by.values():
        points.sort(key=lambda each: each.tp)
        steps = [each.decode_s(32, 32 * 500) for each in points]
        assert steps == sorted(steps, reverse=True)
        assert np.all(np.diff([each.kv_blocks for each in points]) > 0)


def test_the_kv_cache_is_what_the_weights_leave() -> None:
    point = load("llama2-70b-2023").point("llama2-70b", "h100", 8)
    assert point.kv_blocks == int((0.9 * 8 * 80 * 2**30 - 138e9) / 327_680 / 16)


def test_weights_travel_as_published() -> None:
    assert reshard_s("TP2", "4TP2") == pytest.approx(4 * TAU_S)
    assert reshard_s("TP8", "2TP4") == pytest.approx(TAU_S)
    assert reshard_s("4TP2", "TP8") == 0.0
    assert all(reshard_s(layout, layout) == 0.0 for layout in LAYOUTS)
    assert reshard_s("TP4", "TP8", tau_s=2.0) == 2.0
    with pytest.raises(KeyError, match="TP16"):
        reshard_s("TP16", "TP8")


def test_a_new_instance_takes_six_to_eight_minutes() -> None:
    low, high = new_instance_s()
    assert 6 * 60 <= low < high <= 8 * 60
