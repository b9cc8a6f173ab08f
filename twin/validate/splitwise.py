"""Iteration times against splitwise-sim's table (1,260 runs of 2023's software; SOURCES.md of the data folder).

Of each configuration (model, GPU, TP) the table has prompts of 128 to 8,192 tokens alone and batches of 2 to 64 prompts of 512:
13 groups. Rules, stated before any score was read off:

- a group's value is the median of its runs (some runs stand there several times);
- prefill counts up to 8,192 tokens, the most that an iteration takes here; larger prefills are reported;
- TP2 with 64 prompts is left out: its prompts take an eighth of what 32 take, so these runs did not do their work;
- each third group, beginning with the second in the order (batch, prompt), is held out of the shipped fit;
- besides, all groups with the same number of tokens (prefill) or one group (decode) are left out in turn, and a whole
  configuration is: predicted from the same TP on the other GPU by what changing the GPU does to llama2-70b at the other TPs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from twin.models import load
from twin.validate.agreement import Agreement, bounded, check, data_file, reported
from twin.validate.fitting import Floats, mape, relative_least_squares

CALIBRATION = "llama2-70b-2023"
TOKEN_BUDGET = 8192
BOUND = {"prefill": 15.0, "decode": 5.0}
Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")
Key = tuple[str, str, int]
"""model, GPU, TP"""


class Rows(NamedTuple):
    """One phase of one configuration, a value per group (and output length)."""

    terms: Floats
    """[n, 3]: 1, tokens, tokens^2 or 1, batch, context"""
    seconds: Floats
    prompt: Floats
    batch: Floats

    def where(self, mask: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> "Rows":
        """Return the rows of a mask."""
        return Rows(*(each[mask] for each in self))

    @property
    def tokens(self) -> Floats:
        """Tokens of all prompts together."""
        return self.prompt * self.batch


Table = dict[tuple[Key, Phase], Rows]


def read(data: Path | None) -> Table:
    """Return the table by configuration and phase; NoData without the file."""
    runs = pl.read_parquet(data_file(data, "splitwise_perf_model.parquet"))
    sound = ~pl.col("hardware").str.ends_with("pcap") & ~((pl.col("tensor_parallel") == 2) & (pl.col("batch_size") == 64))
    by = ["model", "hardware", "tensor_parallel", "batch_size", "prompt_size", "token_size"]
    medians = runs.filter(sound).group_by(by).agg(pl.median("prompt_time", "token_time")).sort(by)
    found: Table = {}
    for (model, hardware, tp), group in medians.group_by(by[:3], maintain_order=True):
        key = (str(model), str(hardware).split("-")[0], int(str(tp)))
        found[key, "prefill"] = _prefill(group.filter(pl.col("token_size") == 128))
        found[key, "decode"] = _decode(group)
    return found


def _prefill(group: pl.DataFrame) -> Rows:
    prompt, batch = (group[name].to_numpy().astype(np.float64) for name in ("prompt_size", "batch_size"))
    tokens = prompt * batch
    terms = np.column_stack([np.ones(len(tokens)), tokens, tokens**2])
    return Rows(terms, group["prompt_time"].to_numpy() / 1e3, prompt, batch)


def _decode(group: pl.DataFrame) -> Rows:
    prompt, batch, output = (group[name].to_numpy().astype(np.float64) for name in ("prompt_size", "batch_size", "token_size"))
    terms = np.column_stack([np.ones(len(batch)), batch, batch * (prompt + output / 2)])
    return Rows(terms, group["token_time"].to_numpy() / 1e3, prompt, batch)


def inside(rows: Rows, phase: Phase) -> Rows:
    """Return the rows that a fit may use."""
    return rows.where(rows.tokens <= TOKEN_BUDGET) if phase == "prefill" else rows


def held_out(rows: Rows) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Return the mask of the groups that the shipped fit has not seen."""
    groups = sorted(set(zip(rows.batch, rows.prompt, strict=True)))
    held = set(groups[1::3])
    return np.array([group in held for group in zip(rows.batch, rows.prompt, strict=True)])


def fit(table: Table, key: Key, phase: Phase) -> Floats:
    """Return the three coefficients of the shipped calibration: fitted to the groups that are not held out."""
    rows = inside(table[key, phase], phase)
    kept = rows.where(~held_out(rows))
    return relative_least_squares(kept.terms, kept.seconds)


def _in_turn(rows: Rows, phase: Phase) -> float:
    """Return the mean error (%) of groups left out one after the other."""
    labels = rows.tokens if phase == "prefill" else rows.batch * 1e6 + rows.prompt
    errors = []
    for label in np.unique(labels):
        left, kept = rows.where(labels == label), rows.where(labels != label)
        errors.append(mape(left.terms @ relative_least_squares(kept.terms, kept.seconds), left.seconds))
    return float(np.mean(errors))


def _whole(table: Table, key: Key, phase: Phase) -> float:
    """Return the error (%) of a configuration predicted without any row of its own, from all rows of others."""
    model, gpu, tp = key
    other = "h100" if gpu == "a100" else "a100"
    rows = inside(table[key, phase], phase)

    def predicted(of: Key) -> Floats:
        theirs = inside(table[of, phase], phase)
        return np.asarray(rows.terms @ relative_least_squares(theirs.terms, theirs.seconds), dtype=np.float64)

    elsewhere = sorted({k[2] for k, _ in table if k[0] == "llama2-70b"} - ({tp} if model == "llama2-70b" else set()))
    ratios = [np.log(predicted(("llama2-70b", gpu, t)) / predicted(("llama2-70b", other, t))) for t in elsewhere]
    return mape(predicted((model, other, tp)) * np.exp(np.mean(ratios, axis=0)), rows.seconds)


def _shipped(key: Key, phase: Phase) -> Floats:
    point = load(CALIBRATION).point(*key)
    return np.array([point.p0, point.p1, point.p2] if phase == "prefill" else [point.d0, point.d1, point.d2])


def _listed(values: dict[Key, float]) -> str:
    return ", ".join(f"{model} {gpu} TP{tp} {value:.1f}" for (model, gpu, tp), value in values.items())


@check("splitwise")
def splitwise(data: Path | None) -> list[Agreement]:
    """Score the shipped fits on what they saw and did not see, and the fitter on what is left out in turn."""
    table = read(data)
    return [one for phase in PHASES for one in _phase(table, phase)]


def _phase(table: Table, phase: Phase) -> Iterator[Agreement]:
    keys = [key for key, each in table if each == phase]
    rows = {key: inside(table[key, phase], phase) for key in keys}
    seen, unseen, refit = {}, {}, {}
    for key in keys:
        mask, ours = held_out(rows[key]), rows[key].terms @ _shipped(key, phase)
        seen[key] = mape(ours[~mask], rows[key].seconds[~mask])
        unseen[key] = mape(ours[mask], rows[key].seconds[mask])
        refit[key] = 100.0 * float(np.max(np.abs(ours / (rows[key].terms @ fit(table, key, phase)) - 1.0)))
    scores = (
        ("trained", "shipped fit on the groups it was fitted to", seen, "fitted"),
        ("held_out", "shipped fit on the groups held out of it", unseen, "checked"),
        ("in_turn", "each size left out in turn", {key: _in_turn(rows[key], phase) for key in keys}, "checked"),
        ("whole", "each configuration left out whole", {key: _whole(table, key, phase) for key in keys}, "checked"),
    )
    for name, what, by_key, kind in scores:
        mean = float(np.mean(list(by_key.values())))
        yield bounded(
            f"splitwise.{phase}.{name}",
            f"{phase} time, MAPE, {what}",
            mean,
            high=BOUND[phase],
            unit="%",
            kind="fitted" if kind == "fitted" else "checked",
            detail=_listed(by_key),
        )
    yield bounded(
        f"splitwise.{phase}.refit", "largest difference of the shipped fit from the fitter's", max(refit.values()), high=0.5,
        unit="%", kind="fitted", detail=_listed(refit),
    )  # fmt: skip
    if phase == "prefill":
        beyond = {key: table[key, phase].where(table[key, phase].tokens > TOKEN_BUDGET) for key in keys}
        errors = {key: mape(each.terms @ _shipped(key, phase), each.seconds) for key, each in beyond.items()}
        yield reported(
            "splitwise.prefill.beyond", "prefill of 16,384 and 32,768 tokens, MAPE: beyond an iteration's budget",
            float(np.mean(list(errors.values()))), unit="%", kind="checked", detail=_listed(errors),
        )  # fmt: skip
