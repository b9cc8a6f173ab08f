import math
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies import crossing, pool, sensitivity
from studies.claims import Claim
from studies.parameters import Parameter
from studies.sensitivity import StudyError, flips
from studies.verdict import Verdict, markdown
from tests.studies import functions
from tests.studies.ranges import uniform


def claim(evaluate: Callable[[functions.Point], float]) -> Claim:
    return Claim(name="test", text="x is small", unit="K", evaluate=evaluate, reads=("x",))


def test_share_effects_and_flip_of_a_linear_claim() -> None:
    found = flips(claim(functions.below_seven_tenths), (uniform("x"), uniform("dead")), draws=10, trajectories=4)
    assert (found.holds, found.evaluated, found.draws) == (7, 10, 10)  # a Latin hypercube's, so exactly
    assert found.share == pytest.approx(0.7)
    assert (found.share_low, found.share_high) == pytest.approx((0.3968, 0.8922), abs=1e-4)  # Wilson's by hand
    assert found.default_margin == pytest.approx(0.2)
    assert [(e.name, round(e.mu, 9)) for e in found.effects] == [("x", -1.0), ("dead", 0.0)]
    (flip,) = found.flips  # a dead parameter is not walked
    assert (flip.name, flip.below) == ("x", None)
    assert flip.above == pytest.approx(0.7, abs=1e-4)
    assert (flip.margin_low, flip.margin_high) == pytest.approx((0.7, -0.3))
    assert found.failures == ()


@settings(max_examples=40)
@given(st.floats(0.011, 9.9), st.floats(0.011, 9.9), st.booleans())
def test_a_threshold_is_found_on_its_side_of_the_default(threshold: float, default: float, log: bool) -> None:
    p = msgspec.structs.replace(uniform("x", 0.01, 10.0, default), distribution="log_uniform" if log else "uniform")
    (flip,) = flips(claim(lambda at: at["x"] - threshold), (p,), draws=2, trajectories=1).flips
    near, far = (flip.above, flip.below) if default <= threshold else (flip.below, flip.above)
    assert near == pytest.approx(threshold, rel=1e-3, abs=1e-3)
    assert far is None


def test_a_claim_may_flip_on_both_sides_and_the_nearest_flip_counts() -> None:
    (flip,) = flips(claim(lambda at: 0.04 - (at["x"] - 0.5) ** 2), (uniform("x"),), draws=2, trajectories=2).flips
    assert (flip.below, flip.above) == pytest.approx((0.3, 0.7), abs=1e-3)
    wave = claim(lambda at: math.cos(3 * math.pi * at["x"]))
    (flip,) = flips(wave, (uniform("x", 0.0, 1.0, 0.0),), draws=2, trajectories=2).flips
    assert flip.above == pytest.approx(1 / 6, abs=1e-3)
    assert flip.below is None


def test_only_the_strongest_are_walked() -> None:
    varied = tuple(uniform(name) for name in "abcd")
    found = flips(claim(lambda p: p["c"] + 10 * p["b"] - 4 * p["d"]), varied, draws=2, trajectories=2, top=2)
    assert [e.name for e in found.effects] == ["b", "d", "c", "a"]
    assert [flip.name for flip in found.flips] == ["b", "d"]


def test_failures_are_reported_by_draw_and_leave_the_rest() -> None:
    found = flips(claim(functions.fails_above_nine_tenths), (uniform("x"),), draws=20, trajectories=8)
    assert (found.draws, found.evaluated, found.holds) == (20, 18, 10)
    drawn = [f for f in found.failures if f.where.startswith("draw ")]
    assert len(drawn) == 2
    for failure in drawn:
        assert failure.parameters["x"] > 0.9
        assert failure.error == f"ArithmeticError: x = {failure.parameters['x']:.3f} is too much"
    assert any(f.where.startswith("trajectory ") for f in found.failures)
    assert [f.where for f in found.failures if f.parameters == {"x": 1.0}] == ["line of x"]
    assert found.flips[0].margin_high is None
    text = markdown(found)
    assert drawn[0].error in text
    assert f"{len(found.failures)} points could not be evaluated" in text


def test_a_result_that_is_no_number_is_a_failure() -> None:
    found = flips(claim(lambda p: math.nan if p["x"] > 0.75 else 1.0), (uniform("x"),), draws=4, trajectories=1)
    assert [f.error for f in found.failures if f.where.startswith("draw")] == ["the result is nan"]
    assert found.evaluated == 3
    wrong = flips(claim(lambda p: None if p["x"] > 0.75 else 1.0), (uniform("x"),), draws=4, trajectories=1)  # type: ignore[arg-type, return-value]
    assert "TypeError" in wrong.failures[0].error


def test_a_bracket_whose_middle_fails_is_given_up() -> None:
    def holey(p: functions.Point) -> float:
        if 0.6 < p["x"] < 0.7:
            raise ArithmeticError("hole")
        return 0.65 - p["x"]

    (flip,) = flips(claim(holey), (uniform("x"),), draws=2, trajectories=2).flips
    assert (flip.below, flip.above) == (None, None)
    assert flip.margin_high == pytest.approx(-0.35)


def test_a_claim_that_fails_everywhere_or_at_the_defaults_is_an_error() -> None:
    with pytest.raises(StudyError, match=r"at the defaults: ArithmeticError: never for \['x'\]"):
        flips(claim(functions.fails), (uniform("x"),), draws=3)
    only_default = claim(lambda p: 1.0 / (p["x"] == 0.5))
    with pytest.raises(StudyError, match="all 3 draws failed, the first: ZeroDivisionError"):
        flips(only_default, (uniform("x", 0.0, 1.0),), draws=3, seed=2)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"trajectories": 0}, {"top": -1}, {"workers": 0}])
def test_counts_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=" = "):
        flips(claim(functions.below_seven_tenths), (uniform("x"),), **wrong)  # type: ignore[arg-type]


def test_any_number_of_workers_gives_the_same_and_the_verdict_survives_json() -> None:
    names = ("x1", "x2", "x3")
    varied = tuple(uniform(name, -math.pi, math.pi, 0.3) for name in names)
    study = claim(functions.ishigami)
    seen: list[tuple[str, int, int]] = []
    one = flips(study, varied, draws=12, trajectories=3, workers=1)
    two = flips(study, varied, draws=12, trajectories=3, workers=2, progress=lambda *at: seen.append(at))
    assert one == two
    assert msgspec.json.decode(msgspec.json.encode(two), type=Verdict) == two
    assert flips(study, varied, draws=12, trajectories=3, seed=2) != one
    assert [at for at in seen if at[0] == "draws"] == [("draws", n, 12) for n in range(1, 13)]
    assert {at[0] for at in seen} == {"default", "draws", "effects", "flips"}


def test_workers_are_spawned_with_one_thread_and_the_environment_is_put_back() -> None:
    before = dict(os.environ)
    with pool.workers(2) as executor:
        outcomes = pool.run(executor, functions.says_where_it_runs, [{"x": 0.0}] * 4)
    assert [outcome.value for outcome in outcomes] == [1.0] * 4
    assert dict(os.environ) == before


def test_a_worker_that_dies_ends_the_study() -> None:
    with pool.workers(2) as executor, pytest.raises(BrokenExecutor):
        pool.run(executor, functions.dies, [{"x": 0.0}, {"x": 1.0}])


def test_what_the_progress_raises_comes_through() -> None:
    def stop(_what: str, done: int, _of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flips(claim(functions.below_seven_tenths), (uniform("x"),), draws=5, progress=stop)


def test_the_table_has_a_row_per_parameter_with_flips_where_sought() -> None:
    varied: tuple[Parameter, ...] = (uniform("x"), uniform("dead"))
    text = markdown(flips(claim(functions.below_seven_tenths), varied, draws=10, trajectories=4))
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert list(rows) == ["parameter", "x", "dead"]
    assert rows["x"].endswith("| - | 0.7 |")
    assert rows["dead"].endswith("|  |  |")
    assert "It holds with all parameters as taken (margin 0.2 K)." in text
    assert "7 of 10 draws: 70.0 % (95 % interval 39.7 % to 89.2 %)" in text


def test_the_walk_spends_no_more_than_it_says() -> None:
    calls: list[int] = []

    def margins(points: list[functions.Point], names: list[str]) -> list[float]:
        assert len(points) == len(names)
        calls.append(len(points))
        return [0.04 - (p["x"] - 0.5) ** 2 for p in points]

    crossing.crossings([uniform("x")], {"x": 0.5}, 0.04, margins)
    assert sum(calls) == 2 * (crossing.STEPS + crossing.ROUNDS) == 32


def test_the_command_studies_a_real_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "demo-1000mhz-fits-row"
    base = ["--claim", name, "--draws", "6", "--trajectories", "1", "--top", "1", "--workers", "1", "--report"]
    assert sensitivity.main([*base, str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert sensitivity.main([*base, str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text() == printed
    verdict = msgspec.json.decode((tmp_path / "a.json").read_bytes(), type=Verdict)
    assert (verdict.claim, verdict.draws) == (name, 6)
    assert markdown(verdict) == printed


@pytest.mark.parametrize("text", ["--draws 0", "--claim nothing", "--report nowhere/at/all.json", "--top -1"])
def test_a_wrong_option_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = text.split()
    with pytest.raises(SystemExit):
        sensitivity.main(["--claim", "demo-1000mhz-fits-row", *wrong])
    assert wrong[0] in capsys.readouterr().err


def test_a_file_without_the_claims_parameters_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "few.toml"
    file.write_text("")
    assert sensitivity.main(["--claim", "demo-1000mhz-fits-row", "--parameters", str(file)]) == 2
    assert "unknown parameters" in capsys.readouterr().err
