"""Splitwise's and ML.ENERGY's tables: the fitters on made tables, the checks on the real ones where they are at hand."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.models import load
from twin.validate import mlenergy, splitwise
from twin.validate.fitting import mape, relative_least_squares


def reference_data() -> Path:
    folder = os.environ.get("COLDAISLE_DATA")
    if not folder:
        pytest.skip("COLDAISLE_DATA names no folder of reference data; set it to check against the real tables")
    return Path(folder)


coefficient = st.floats(1e-6, 1e3)


@given(coefficient, coefficient, st.floats(0, 1e3))
def test_the_fitter_finds_coefficients_again(a: float, b: float, c: float) -> None:
    x = np.linspace(1.0, 50.0, 12)
    terms = np.column_stack([np.ones(12), x, x**2])
    measured = terms @ np.array([a, b, c])
    assert terms @ relative_least_squares(terms, measured) == pytest.approx(measured, rel=1e-6)


def test_the_fitter_gives_no_negative_times() -> None:
    x = np.linspace(1.0, 10.0, 10)
    found = relative_least_squares(np.column_stack([np.ones(10), x]), 10.0 - 0.5 * x)
    assert (found >= 0).all()
    assert mape(np.array([1.1, 0.9]), np.ones(2)) == pytest.approx(10.0)


def made_table(folder: Path) -> None:
    """A table that follows the shipped points exactly, with the broken runs of TP2 and the capped cards."""
    groups = [(n, 1) for n in (128, 256, 512, 1024, 2048, 4096, 8192)] + [(512, b) for b in (2, 4, 8, 16, 32, 64)]
    rows = []
    for point in load("llama2-70b-2023").points:
        for prompt, batch in groups if point.model in ("llama2-70b", "bloom-176b") else []:
            broken = 0.1 if (point.tp, batch) == (2, 64) else 1.0
            context = batch * (prompt + 64)
            rows.append(
                {
                    "model": point.model,
                    "hardware": f"{point.gpu}-80gb",
                    "tensor_parallel": point.tp,
                    "prompt_size": prompt,
                    "batch_size": batch,
                    "token_size": 128,
                    "prompt_time": 1e3 * point.prefill_s(prompt * batch) * broken,
                    "token_time": 1e3 * point.decode_s(batch, context) * broken,
                }
            )
    frame = pl.DataFrame(rows)
    capped = frame.with_columns(hardware=pl.lit("h100-80gb-pcap"), prompt_time=pl.lit(1.0))
    pl.concat([frame, capped]).write_parquet(folder / "splitwise_perf_model.parquet")


def test_a_table_made_from_the_points_agrees_fully(tmp_path: Path) -> None:
    made_table(tmp_path)
    found = {each.name: each for each in splitwise.splitwise(tmp_path)}
    for name in ("trained", "held_out", "in_turn", "refit"):
        for phase in splitwise.PHASES:
            one = found[f"splitwise.{phase}.{name}"]
            assert one.ok
            assert one.measured == pytest.approx(0.0, abs=1e-3)


def test_a_table_of_slower_runs_is_off(tmp_path: Path) -> None:
    made_table(tmp_path)
    path = tmp_path / "splitwise_perf_model.parquet"
    pl.read_parquet(path).with_columns(pl.col("prompt_time", "token_time") * 1.5).write_parquet(path)
    found = {each.name: each for each in splitwise.splitwise(tmp_path)}
    assert found["splitwise.prefill.held_out"].outcome == "off"
    assert found["splitwise.decode.refit"].outcome == "off"


def test_each_third_group_is_held_out(tmp_path: Path) -> None:
    made_table(tmp_path)
    rows = splitwise.read(tmp_path)[("llama2-70b", "h100", 8), "decode"]
    held = splitwise.held_out(rows)
    assert sorted(zip(rows.batch[held], rows.prompt[held], strict=True)) == [(1, 256), (1, 2048), (2, 512), (16, 512)]


@pytest.mark.parametrize("check", [splitwise.splitwise, mlenergy.mlenergy])
def test_without_data_a_check_is_skipped_by_name(check: object) -> None:
    assert callable(check)
    (only,) = check(None)
    assert only.outcome == "skipped"
    assert "parquet" in only.detail


def test_splitwise_agrees() -> None:
    found = splitwise.splitwise(reference_data())
    assert [each.name for each in found if each.outcome == "off"] == []
    assert len(found) == 11


def test_mlenergy_agrees() -> None:
    found = mlenergy.mlenergy(reference_data())
    assert [each.name for each in found if each.outcome == "off"] == []
    assert {each.name for each in found if each.ok} == {
        "mlenergy.itl.fitted",
        "mlenergy.itl.left_out",
        "mlenergy.power.fitted",
        "mlenergy.power.left_out",
    }


def test_the_modern_points_are_what_the_fitter_gives() -> None:
    for runs in mlenergy.read(reference_data()):
        if runs.model in mlenergy.FITTED:
            model, quantisation = mlenergy.FITTED[runs.model]
            point = load("modern").point(model, "h100", runs.tp, quantisation)
            d0, d1 = mlenergy.fit_itl(runs, point.d2)
            assert (point.d0, point.d1) == pytest.approx((d0, d1), rel=2e-3)
            assert (point.decode_base_w, point.decode_span_w, point.decode_half_batch) == pytest.approx(
                mlenergy.fit_power(runs), rel=0.02
            )
