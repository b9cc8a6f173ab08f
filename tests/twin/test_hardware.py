"""Server models and the mistakes that their files may hold."""

import re
from pathlib import Path

import pytest

from contracts.errors import ConfigError
from twin import hardware

H100 = (hardware.FOLDER / "h100.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", hardware.names())
def test_a_shipped_server_draws_what_its_data_sheet_says(name: str) -> None:
    p = hardware.load(name)
    sheet, power, fans = p.sheet, p.power, p.fans

    def wall_w(gpu_w: float, duty: float) -> float:
        return (sheet.gpus * gpu_w + power.overhead_w + power.fans_w * duty**3) / power.psu_share

    assert wall_w(power.idle_w, fans.idle_duty) == pytest.approx(sheet.idle_power_w, rel=0.15)
    assert wall_w(sheet.gpu_tdp_w, 1.0) <= sheet.max_power_w
    assert fans.cfm_full * 0.8 == pytest.approx(sheet.airflow_max_cfm)
    assert fans.cfm_full * fans.idle_duty == pytest.approx(sheet.airflow_idle_cfm, rel=0.02)
    even, odd = p.heat.position_c[1::2], p.heat.position_c[::2]
    assert max(even) < min(odd)  # GPU2, 4, ... stand nearer to the inlet (TAPAS Fig. 9)


def test_an_a100_can_overheat_as_in_tapas_figure_16() -> None:
    p = hardware.load("a100")
    # At 31 degC inlet and full power; a GPU behind others is warmer.
    mean_c = p.heat.air_offset_c + p.heat.air_slope * 31.0 + p.heat.resistance_mean * 400.0
    assert mean_c == pytest.approx(71.0, abs=4.0)
    assert (p.sheet.slowdown_c, p.sheet.shutdown_c, p.sheet.brake_clock_mhz) == (89.0, 92.0, 288.0)


def changed(tmp_path: Path, key: str, value: str) -> Path:
    """A copy of the H100's file in which the line of `key` has another value."""
    text, found = re.subn(rf"^{key} = [^#\n]*", f"{key} = {value} ", H100, count=1, flags=re.MULTILINE)
    assert found == 1
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_users_own_file_is_read(tmp_path: Path) -> None:
    assert hardware.load(changed(tmp_path, "resistance_sd", "0.004")).heat.resistance_sd == 0.004
    assert hardware.load(str(changed(tmp_path, "name", "'my-box'"))).sheet.name == "my-box"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("die_j_per_k", "-180.0", "heat.die_j_per_k = -180.0: expected `float` > 0.0"),
        ("sink_k_per_w", "0.0", "heat.sink_k_per_w = 0.0"),
        ("cfm_full", "nan", "fans.cfm_full = nan"),
        ("cfm_full", "inf", "fans.cfm_full = inf: expected `float` <="),
        ("max_power_w", "3000.0", "sheet.idle_power_w = 3200.0: must be below sheet.max_power_w = 3000.0"),
        ("slowdown_c", "95.0", "sheet.slowdown_c = 95.0: must be below sheet.shutdown_c = 92.0"),
        ("min_clock_mhz", "1500.0", "sheet.min_clock_mhz = 1500.0: must be below sheet.base_clock_mhz = 1410.0"),
        ("brake_clock_mhz", "1500.0", "sheet.brake_clock_mhz = 1500.0: must be below"),
        ("loaded_w", "800.0", "power.loaded_w = 800.0: must be below sheet.gpu_tdp_w = 700.0"),
        ("idle_duty", "0.9", "fans.idle_duty = 0.9: must be below fans.hot_duty"),
        ("psu_share", "1.2", "power.psu_share = 1.2: expected `float` <= 1.0"),
        ("gpu_sd", "0.5", "power.gpu_sd = 0.5"),
        ("gpus", "4", "needs sheet.gpus = 4 values"),
        ("resistance_mean", "0.09", "heat.resistance_mean = 0.09: die_k_per_w and sink_k_per_w make 0.0530 K/W"),
        ("position_at_w", "'hot'", "heat.position_at_w = 'hot': expected `float`, got `str`"),
        ("step_c", "1.0\ncolour = 3", "sensors: Object contains unknown field `colour`"),
    ],
)
def test_what_cannot_be_is_named_with_file_key_and_value(tmp_path: Path, key: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        hardware.load(changed(tmp_path, key, value))
    assert str(error.value).startswith("mine.toml: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_gpu_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no hardware profile b300: name a TOML file or one of a100, h100"):
        hardware.load("b300")
    with pytest.raises(ConfigError, match="no hardware profile"):
        hardware.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("gpu = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML"):
        hardware.load(tmp_path / "bad.toml")
