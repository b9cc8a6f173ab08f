"""Decode steps and power against the ML.ENERGY benchmark v3 (vLLM on H100; SOURCES.md of the data folder).

Rows taken: the chat task (lm-arena-chat), dense transformers, batches up to 256. Mixtures of experts and hybrids are another
relation and no point of ours. The modern calibration is fitted to Llama 3.1 8B, 70B and 405B. A model that was left out is
predicted from parameters P (1e9), bytes a weight and TP alone:

    ITL = w P bytes/TP + l P^.35 + c b sqrt(P/TP)          reading the weights, the layers' overhead, the batch
    power = p + s b/(b + 80) + g P bytes/TP + t log2 TP     at most TDP

with the coefficients fitted to the other models.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.optimize import curve_fit

from twin.models import Point, load
from twin.validate.agreement import Agreement, bounded, check, data_file, reported
from twin.validate.fitting import Floats, mape, relative_least_squares

TASK, ARCHITECTURE, LARGEST_BATCH = "lm-arena-chat", "Dense Transformer", 256.5
TDP_W = 700.0
HALF_BATCH = 80.0
LAYERS_EXPONENT = 0.35  # [A] layers grow about so with parameters (8B 32, 70B 80, 405B 126)
PROMPT_TOKENS = 200.0  # [A] the benchmark's prompts are not in the data; context = this + half the output
FITTED = {
    "meta-llama/Llama-3.1-8B-Instruct": ("llama3.1-8b", "fp16"),
    "meta-llama/Llama-3.1-70B-Instruct": ("llama3.1-70b", "fp16"),
    "meta-llama/Llama-3.1-405B-Instruct-FP8": ("llama3.1-405b", "fp8"),
}
"""the benchmark's model -> ours"""


class Runs(NamedTuple):
    """One model on one number of GPUs, a value per batch."""

    model: str
    params_b: float
    weight_bytes: float
    tp: int
    batch: Floats
    itl_s: Floats
    power_w: Floats
    """per GPU"""
    context: Floats
    """tokens of one request, mean over its decoding"""

    @property
    def family(self) -> str:
        """What is left out together: Llama 3.1 and 3.3 70B are one architecture."""
        return self.model.replace("Llama-3.3-70B", "Llama-3.1-70B")

    @property
    def label(self) -> str:
        """Return the name for people."""
        return f"{self.model.split('/')[-1]} TP{self.tp}"


def read(data: Path | None) -> list[Runs]:
    """Return the runs that count; NoData without the file."""
    rows = pl.read_parquet(data_file(data, "mlenergy_v3_runs.parquet")).filter(
        (pl.col("task") == TASK) & (pl.col("arch") == ARCHITECTURE) & (pl.col("avg_batch_size") <= LARGEST_BATCH)
    )
    by = ["model", "total_params_b", "precision", "num_gpus"]
    return [
        Runs(
            model=str(key[0]),
            params_b=float(str(key[1])),
            weight_bytes=1.0 if key[2] == "fp8" else 2.0,
            tp=int(str(key[3])),
            batch=group["avg_batch_size"].to_numpy(),
            itl_s=group["median_itl_ms"].to_numpy() / 1e3,
            power_w=(group["avg_power_watts"] / group["num_gpus"]).to_numpy(),
            context=PROMPT_TOKENS + group["avg_output_len"].to_numpy() / 2,
        )
        for key, group in rows.sort([*by, "avg_batch_size"]).group_by(by, maintain_order=True)
    ]


def fit_itl(runs: Runs, d2: float) -> tuple[float, float]:
    """Return d0, d1 (s) with d2 given: here the context rises with the batch, so that the data cannot tell them apart."""
    terms = np.column_stack([np.ones(len(runs.batch)), runs.batch])
    d0, slope = relative_least_squares(terms, runs.itl_s)
    return float(d0), float(slope - d2 * runs.context.mean())


def fit_power(runs: Runs) -> tuple[float, float, float]:
    """Return base, span (W) and half batch of a model."""
    best, _ = curve_fit(
        lambda b, base, span, half: base + span * b / (b + half),
        runs.batch,
        runs.power_w,
        p0=[400, 250, 80],
        sigma=runs.power_w,
        bounds=([50, 0, 1], [TDP_W, TDP_W, 2000]),
    )
    return float(best[0]), float(best[1]), float(best[2])


def itl_terms(params_b: float, weight_bytes: float, tp: int, batch: Floats) -> Floats:
    """Return the relation's terms [n, 3] of the ITL."""
    one = np.ones(len(batch))
    gb = params_b * weight_bytes / tp
    return np.column_stack([gb * one, params_b**LAYERS_EXPONENT * one, batch * np.sqrt(params_b / tp)])


def power_terms(params_b: float, weight_bytes: float, tp: int, batch: Floats) -> Floats:
    """Return the relation's terms [n, 4] of the power per GPU."""
    one = np.ones(len(batch))
    return np.column_stack([one, batch / (batch + HALF_BATCH), params_b * weight_bytes / tp * one, np.log2(tp) * one])


def relation(runs: list[Runs]) -> tuple[Floats, Floats]:
    """Return the coefficients of ITL (s) and power (W) fitted to `runs`."""
    shapes = [(each.params_b, each.weight_bytes, each.tp, each.batch) for each in runs]
    itl = relative_least_squares(
        np.vstack([itl_terms(*shape) for shape in shapes]), np.concatenate([each.itl_s for each in runs])
    )
    watts = np.concatenate([each.power_w for each in runs])
    terms = np.vstack([power_terms(*shape) for shape in shapes]) / watts[:, None]
    return itl, np.asarray(np.linalg.lstsq(terms, np.ones(len(watts)), rcond=None)[0], dtype=np.float64)


def _left_out(runs: list[Runs]) -> tuple[dict[str, float], dict[str, float]]:
    itl_errors, power_errors = {}, {}
    for each in runs:
        itl, power = relation([other for other in runs if other.family != each.family])
        shape = (each.params_b, each.weight_bytes, each.tp, each.batch)
        itl_errors[each.label] = mape(itl_terms(*shape) @ itl, each.itl_s)
        power_errors[each.label] = mape(np.minimum(power_terms(*shape) @ power, TDP_W), each.power_w)
    return itl_errors, power_errors


def _shipped(runs: list[Runs]) -> Iterator[tuple[Runs, Point]]:
    modern = load("modern")
    for each in runs:
        if each.model in FITTED:
            model, quantisation = FITTED[each.model]
            yield each, modern.point(model, "h100", each.tp, quantisation)


def _itl(point: Point, runs: Runs) -> Floats:
    return point.d0 + point.d1 * runs.batch + point.d2 * runs.batch * runs.context


def _power(point: Point, runs: Runs) -> Floats:
    return point.decode_base_w + point.decode_span_w * runs.batch / (runs.batch + point.decode_half_batch)


def _listed(errors: dict[str, float]) -> str:
    return ", ".join(f"{label} {error:.1f}" for label, error in errors.items())


@check("mlenergy")
def mlenergy(data: Path | None) -> list[Agreement]:
    """Score the modern calibration on its models, and the relation on models left out."""
    runs = read(data)
    itl_left, power_left = _left_out(runs)
    itl = {each.label: mape(_itl(point, each), each.itl_s) for each, point in _shipped(runs)}
    power = {each.label: mape(_power(point, each), each.power_w) for each, point in _shipped(runs)}
    return [*_scored("itl", itl, 8.0, itl_left, 20.0), *_scored("power", power, 3.0, power_left, 10.0), *_sibling(runs)]


def _scored(
    name: str, fitted: dict[str, float], fitted_bound: float, left: dict[str, float], left_bound: float
) -> Iterator[Agreement]:
    yield bounded(
        f"mlenergy.{name}.fitted",
        f"{name}, MAPE, worst of the fitted models",
        max(fitted.values()),
        high=fitted_bound,
        unit="%",
        kind="fitted",
        detail=_listed(fitted),
    )
    yield bounded(
        f"mlenergy.{name}.left_out",
        f"{name}, MAPE, mean over models left out in turn",
        float(np.mean(list(left.values()))),
        high=left_bound,
        unit="%",
        kind="checked",
        detail=_listed(left),
    )
    worst = max(left, key=lambda label: left[label])
    what = f"{name}, MAPE, worst model left out"
    yield reported(f"mlenergy.{name}.left_out.worst", what, left[worst], unit="%", kind="checked", detail=worst)


def _sibling(runs: list[Runs]) -> Iterator[Agreement]:
    """Llama 3.3 70B is 3.1's architecture measured again: what a calibration is worth on another day."""
    point = load("modern").point("llama3.1-70b", "h100", 4)
    for each in runs:
        if "Llama-3.3-70B" in each.model:
            what = "MAPE of Llama 3.1 70B's fit on 3.3 70B"
            yield reported(
                "mlenergy.itl.sibling", f"itl, {what}", mape(_itl(point, each), each.itl_s), unit="%", kind="checked"
            )
            yield reported(
                "mlenergy.power.sibling", f"power, {what}", mape(_power(point, each), each.power_w), unit="%", kind="checked"
            )
