from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from contracts.errors import ConfigError
from studies import parameters
from studies.parameters import Parameter
from tests.studies.ranges import uniform
from twin import calibration as c
from twin import hardware, models
from twin.actuators import OUT_OF_BAND_S
from twin.scenario import load

H100 = hardware.load("h100")
CHAT = models.load("llama2-70b-2023").point("llama2-70b", "h100", load("demo").tp)
TWIN = {
    "h100_resistance": H100.heat.resistance_mean,
    "h100_resistance_sd": H100.heat.resistance_sd,
    "a100_resistance": hardware.load("a100").heat.resistance_mean,
    "a100_resistance_sd": hardware.load("a100").heat.resistance_sd,
    "die_capacity": H100.heat.die_j_per_k,
    "sink_capacity": H100.heat.sink_j_per_k,
    "leakage": H100.power.leakage_per_k,
    "fan_idle_duty": H100.fans.idle_duty,
    "fan_hot": H100.fans.hot_c,
    "fan_gain": H100.fans.per_k,
    "recirculation": c.OVERDRAW_C,
    "overdraw_lag": c.OVERDRAW_LAG_S,
    "inlet_slope": c.INLET_PER_C,
    "inlet_load": c.INLET_LOAD_C,
    "power_floor": H100.power.clock_floor,
    "power_exponent": H100.power.clock_exponent,
    "decode_base": CHAT.decode_base_w,
    "decode_span": CHAT.decode_span_w,
    "prefill_power": CHAT.prefill_w,
    "server_overhead": H100.power.overhead_w,
    "psu_share": H100.power.psu_share,
    "gpu_power_sd": H100.power.gpu_sd,
    "sensor_bias_sd": H100.sensors.gpu_sd_c,
    "out_of_band": sum(OUT_OF_BAND_S) / 2,
}
ONE = '[x]\nunit = "K"\ndefault = 1.0\nlow = 0.5\nhigh = 2.0\ndistribution = "uniform"\nmark = "A"\nsource = "test"\n'


def shaped(distribution: str, low: float, default: float, high: float, sd: float | None = None) -> Parameter:
    return Parameter(
        name="x",
        unit="1",
        default=default,
        low=low,
        high=high,
        distribution=distribution,  # type: ignore[arg-type]
        sd=sd,
        mark="A",
        source="test",
    )


def test_the_shipped_parameters_are_about_twenty_with_their_sources() -> None:
    found = parameters.load()
    assert 20 <= len(found) <= 35
    assert all(len(p.source) > 20 for p in found)


def test_their_defaults_are_what_the_twin_takes() -> None:
    found = parameters.defaults(parameters.load())
    assert {name: found[name] for name in TWIN} == pytest.approx(TWIN)


@given(
    st.floats(-50, 50),
    st.floats(0.01, 100),
    st.floats(0, 1),
    st.floats(0.05, 5),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_values_at_quantiles_are_those_of_the_distribution(
    low: float, width: float, part: float, spread: float, quantiles: list[float]
) -> None:
    high, mode, sd = low + width, low + part * width, spread * width
    q = np.array(quantiles)
    peer = {
        "uniform": stats.uniform(low, width),
        "triangular": stats.triang(part, low, width),
        "normal": stats.truncnorm((low - mode) / sd, (high - mode) / sd, mode, sd),
    }
    for name, theirs in peer.items():
        p = shaped(name, low, min(max(mode, low), high), high, sd if name == "normal" else None)
        assert p.at(q) == pytest.approx(theirs.ppf(q), rel=1e-6, abs=1e-5 * width)
        assert p.at(np.array([0.0, 1.0])) == pytest.approx([low, high])
        assert ((p.at(q) >= low) & (p.at(q) <= high)).all()


@given(st.floats(1e-6, 1e3), st.floats(1.1, 1e4), st.floats(0, 1))
def test_a_log_uniform_one_is_even_in_its_logarithm(low: float, ratio: float, quantile: float) -> None:
    p = shaped("log_uniform", low, low, low * ratio)
    assert float(p.at(np.array(quantile))) == pytest.approx(stats.loguniform(low, low * ratio).ppf(quantile))


@pytest.mark.parametrize("count", [1, 7, 64])
def test_each_slice_of_equal_probability_has_one_draw(count: int) -> None:
    varied = (uniform("a", -3.0, 5.0), shaped("triangular", 0.0, 0.2, 1.0), uniform("b"))
    frame = parameters.draws(varied, count, 4)
    assert frame.columns == ["a", "x", "b"]
    shares = [(frame["a"].to_numpy() + 3) / 8, stats.triang(0.2).cdf(frame["x"].to_numpy()), frame["b"].to_numpy()]
    for share in shares:
        assert sorted(np.floor(share * count).astype(int).tolist()) == list(range(count))


def test_draws_depend_on_the_seed_alone() -> None:
    varied = parameters.load()
    first = parameters.draws(varied, 16, 1)
    assert first.equals(parameters.draws(varied, 16, 1))
    assert not first.equals(parameters.draws(varied, 16, 2))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x = 3", "x = 3: must be a table"),
        ("[x", "not TOML"),
        (ONE.replace("0.5", "1.5"), r"\[x\]: default = 1.0: must lie in"),
        (ONE.replace("2.0", "nan"), r"\[x\]: .*must be finite"),
        (ONE.replace("0.5", "1.0").replace("2.0", "1.0"), "low < high"),
        (ONE.replace("0.5", "-0.5").replace('"uniform"', '"log_uniform"'), "must be above 0"),
        (ONE.replace('"uniform"', '"normal"'), "a normal one needs it"),
        (ONE + "sd = 1.0\n", "no other has it"),
        (ONE.replace('"uniform"', '"bell"'), "bell"),
        (ONE.replace('mark = "A"', 'mark = "X"'), "X"),
        (ONE.replace('source = "test"\n', ""), "source"),
        (ONE + "unknown = 1\n", "unknown"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(tmp_path: Path, text: str, names: str) -> None:
    file = tmp_path / "ranges.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=names) as caught:
        parameters.load(file)
    assert "ranges.toml" in str(caught.value)


def test_a_missing_file_or_parameter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no parameters .*none\.toml"):
        parameters.load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="unknown parameters y, z: known are x"):
        parameters.select((uniform("x"),), ("z", "x", "y"))
