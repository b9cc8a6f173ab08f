"""Forecasts on the log and in a View: nothing lost, nothing mixed up, the newest wins."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.forecasts import LEVELS, Block, Forecast, Forecasts, Target, block_of
from contracts.schemas import FORECASTS
from control import forecasts as wire
from control.fold import Fold
from control.forecasts import blocks_of, frames_of
from ingest.codec import DTYPES, decode, encode, frame_of
from ingest.headers import cloud_event
from ingest.records import CONTENT_ARROW
from ingest.validate import check
from tests.factories import NOW, make_topology


def make_block(
    names: Sequence[str], *, target: Target = "inlet", steps: int = 3, at: datetime = NOW, start: float = 20.0
) -> Block:
    """Quantiles that name their series, step and level."""
    series, step, level = np.ix_(range(len(names)), range(steps), range(len(LEVELS)))
    return Block(
        target=target,
        champion=True,
        issued_at=at,
        lead_s=np.array([60.0, 300.0, 900.0, 3_600.0][:steps]),
        levels=LEVELS,
        names=tuple(names),
        ids=tuple(f"{target}-{name}-{at:%H%M}" for name in names),
        values=start + series + 0.1 * step + 0.01 * level,
        data_until_s=np.full(len(names), int(at.timestamp()) - 60, dtype=np.int64),
        models=tuple("ridge" for _ in names),
        notes=tuple(("stale",) if i % 2 else () for i in range(len(names))),
    )


def through_the_log(block: Block) -> list[Block]:
    frames = list(frames_of(block))
    for frame in frames:
        assert dict(frame.schema) == {column.name: DTYPES[column.dtype] for column in FORECASTS.columns}
        assert not check("forecasts", frame, NOW, "test").rejected
    headers = cloud_event("forecasts", "test", NOW, CONTENT_ARROW)
    return [b for frame in frames for b in blocks_of(decode("forecasts", encode("forecasts", frame), headers))]


def records(blocks: Sequence[Block]) -> list[Forecast]:
    return [forecast for block in blocks for forecast in block.forecasts()]


def rounded(forecast: Forecast) -> Forecast:
    values = np.asarray(forecast.values).astype(np.float32).astype(np.float64)
    return msgspec.structs.replace(forecast, values=tuple(map(tuple, values.tolist())))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5))
def test_a_block_survives_the_log_gaps_and_all(known: list[list[bool]]) -> None:
    block = make_block([f"s{i}" for i in range(len(known))])
    gaps = replace(block, values=np.where(np.array(known)[:, :, None], block.values, np.nan))
    assert records(through_the_log(gaps)) == [rounded(f) for f in gaps.forecasts()]


def test_a_long_block_becomes_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "RECORD_BYTES", 2 * 3 * len(LEVELS) * 8)
    block = make_block(["a", "b", "c", "d", "e"])
    assert [frame.height for frame in frames_of(block)] == [2, 2, 1]
    assert records(through_the_log(block)) == [rounded(f) for f in block.forecasts()]


def test_records_make_the_block_that_made_them() -> None:
    block = make_block(["a", "b"])
    again = block_of(block.forecasts())
    assert again.forecasts() == block.forecasts()
    with pytest.raises(ValueError, match="2 kinds"):
        block_of([*block.forecasts(), *make_block(["c"], target="load").forecasts()])


def test_rows_of_other_levels_and_challengers_stand_apart() -> None:
    wide = make_block(["a", "b"])
    narrow = replace(wide, names=("c", "d"), levels=LEVELS[:3], values=wide.values[:, :, :3])
    other = replace(wide, champion=False)
    frame = pl.concat([*frames_of(wide), *frames_of(narrow), *frames_of(other)])
    found = blocks_of(frame)
    assert [(block.names, block.levels) for block in found] == [(("a", "b"), LEVELS), (("c", "d"), LEVELS[:3])]


def test_rows_whose_values_do_not_fit_their_times_are_rejected_and_the_rest_lives() -> None:
    frame = next(frames_of(make_block(["a", "b"])))
    short = pl.Series("values", [frame["values"][0].to_list(), [1.0]])
    checked = check("forecasts", frame.with_columns(short), NOW, "test")
    assert [r.reason for r in checked.rejected] == ["values has not one entry per time and level"]
    assert blocks_of(checked.good)[0].names == ("a",)
    assert blocks_of(frame_of("forecasts", {})) == []


def test_the_newest_forecast_of_each_series_counts_whatever_the_order() -> None:
    old = make_block(["a", "b"], at=NOW - timedelta(minutes=1), start=1.0)
    new = make_block(["a"], start=50.0)
    for order in ([old, new], [new, old]):
        fold = Fold(make_topology())
        for block in order:
            for frame in frames_of(block):
                fold.observe("forecasts", frame)
        found = fold.view(NOW, NOW).forecasts
        assert [b.names for b in found.of("inlet")] == [("a",), ("a", "b")]
        newest = {name: found.newest("inlet", name) for name in ("a", "b", "c")}
        assert [newest[n] and newest[n].values[0][0] for n in ("a", "b", "c")] == [50.0, 2.0, None]  # type: ignore[union-attr]
        assert len(found) == 2


def test_a_block_goes_when_all_its_series_are_newer_elsewhere() -> None:
    held = Forecasts()
    for minute in range(5):
        held = held.with_blocks([make_block(["a", "b"], at=NOW + timedelta(minutes=minute))])
    assert [b.issued_at for b in held.of("inlet")] == [NOW + timedelta(minutes=4)]
