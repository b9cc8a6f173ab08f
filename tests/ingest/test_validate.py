from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.schemas import SCHEMAS
from ingest.codec import encode, frame_of
from ingest.validate import check, read
from tests.factories import NOW

NAN, INF = float("nan"), float("inf")


def gpus(**changes: Any) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "ts": [NOW] * 4,
        "node": ["n"] * 4,
        "gpu": [0, 1, 2, 3],
        "power_w": [1.0, 2.0, 3.0, None],
        "temp_c": [60.0] * 4,
    }
    return frame_of("gpu", columns | changes)


def test_a_clean_batch_passes_as_it_is() -> None:
    frame = gpus()
    checked = check("gpu", frame, NOW, "s")
    assert checked.good.equals(frame)
    assert checked.rejected == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"power_w": [NAN, 1.0, 1.0, None]}, "power_w is NaN"),
        ({"power_w": [INF, 1.0, 1.0, None]}, "power_w is infinite"),
        ({"power_w": [-INF, 1.0, 1.0, None]}, "power_w is infinite"),
        ({"power_w": [-0.5, 1.0, 1.0, None]}, "power_w is below 0 W"),
        ({"power_w": [5001, 1.0, 1.0, None]}, "power_w is above 5000 W"),
        ({"temp_c": [-273.0, 60, 60, 60]}, "temp_c is below -40 degC"),
        ({"gpu": [70_000, 1, 2, 3]}, "gpu is above 1023"),
        ({"gpu": [None, 1, 2, 3]}, "gpu is NULL"),
        ({"node": [None, "n", "n", "n"]}, "node is NULL"),
        ({"ts": [None, NOW, NOW, NOW]}, "ts is NULL"),
        ({"ts": [datetime(1999, 12, 31, tzinfo=UTC), NOW, NOW, NOW]}, "ts is before the year 2000"),
        ({"ts": [NOW + timedelta(days=1, seconds=1), NOW, NOW, NOW]}, "ts is more than a day ahead"),
    ],
)
def test_a_bad_row_goes_with_its_reason_and_the_rest_lives(changes: dict[str, Any], reason: str) -> None:
    checked = check("gpu", gpus(**changes), NOW, "exporter/n")
    assert checked.good["gpu"].to_list() == [1, 2, 3]
    (rejected,) = checked.rejected
    assert (rejected.reason, rejected.rows, rejected.topic, rejected.source) == (reason, 1, "gpu", "exporter/n")
    assert rejected.at == NOW
    sample = msgspec.json.decode(rejected.sample)
    assert set(sample) >= {"node", "gpu"}
    assert "uuid" not in sample


def test_what_is_at_a_bound_is_allowed() -> None:
    frame = gpus(power_w=[0, 5000, 0, 5000], ts=[NOW + timedelta(days=1)] * 4)
    assert check("gpu", frame, NOW, "s").rejected == ()


def test_rows_are_counted_by_reason_and_once() -> None:
    checked = check("gpu", gpus(power_w=[NAN, NAN, -1.0, 1.0], temp_c=[999.0, 1.0, 1.0, 1.0]), NOW, "s")
    assert {r.reason: r.rows for r in checked.rejected} == {"power_w is NaN": 2, "power_w is below 0 W": 1}
    assert checked.good.height == 1


def test_a_list_with_a_value_that_is_not_finite_is_rejected() -> None:
    row: dict[str, Any] = {c.name: ["x"] for c in SCHEMAS["forecasts"].columns if c.dtype == "str"}
    lists: dict[str, Any] = {
        "valid_at": [[NOW]] * 3,
        "levels": [[0.5]] * 3,
        "values": [[1.0], [NAN], [INF]],
        "degradations": [[]] * 3,
    }
    times: dict[str, Any] = {"ts": [NOW] * 3, "data_until": [NOW] * 3, "champion": [True] * 3}
    frame = frame_of("forecasts", {name: values * 3 for name, values in row.items()} | lists | times)
    checked = check("forecasts", frame, NOW, "s")
    assert checked.good["values"].to_list() == [[1.0]]
    assert [(r.reason, r.rows) for r in checked.rejected] == [("values holds a value that is not finite", 2)]


def test_a_sample_is_short() -> None:
    checked = check("gpu", gpus(node=["n" * 10_000] * 4, power_w=[NAN] * 4), NOW, "s")
    assert len(checked.rejected[0].sample) == 2000


@pytest.mark.parametrize("topic", SCHEMAS)
def test_an_empty_batch_of_any_topic_passes(topic: str) -> None:
    assert check(topic, frame_of(topic, {}), NOW, "s").rejected == ()


numbers = st.one_of(st.none(), st.floats(width=32), st.sampled_from([NAN, INF, -INF, 0.0, 5000.0, -40.0, 200.0]))


@settings(max_examples=200, deadline=None)
@given(powers=st.lists(numbers, min_size=1, max_size=20), temps=st.lists(numbers, min_size=20, max_size=20))
def test_good_rows_are_in_range_and_every_row_is_somewhere(powers: list[float | None], temps: list[float | None]) -> None:
    n = len(powers)
    columns: dict[str, Any] = {
        "ts": [NOW] * n,
        "node": ["n"] * n,
        "gpu": list(range(n)),
        "power_w": powers,
        "temp_c": temps[:n],
    }
    checked = check("gpu", frame_of("gpu", columns), NOW, "s")
    for name, low, high in (("power_w", 0, 5000), ("temp_c", -40, 200)):
        kept = checked.good[name].drop_nulls().to_numpy()
        assert np.all(np.isfinite(kept))
        assert np.all((kept >= low) & (kept <= high))

    def fine(value: float | None, low: float, high: float) -> bool:
        return value is None or low <= value <= high

    expected = [i for i in range(n) if fine(powers[i], 0, 5000) and fine(temps[i], -40, 200)]
    assert checked.good["gpu"].to_list() == expected
    assert checked.good.height + sum(r.rows for r in checked.rejected) == n


def test_reading_a_message_never_raises() -> None:
    good = encode("gpu", gpus(power_w=[NAN, 1.0, 1.0, 1.0]))
    assert [r.reason for r in read("gpu", good, {}, NOW, "s").rejected] == ["power_w is NaN"]
    rows = b'[{"ts":"2026-07-15T14:00:00Z","node":"n","gpu":1},{"gpu":"x"},{"gpu":"x"},{"node":"n","gpu":2}]'
    checked = read("gpu", rows, {}, NOW, "s")
    assert checked.good.height == 1
    assert [(r.rows, r.reason) for r in checked.rejected] == [
        (2, "gpu: Expected `int | null`, got `str` - at `$.gpu`"),
        (1, "ts is NULL"),
    ]
    garbage = read("gpu", b"\x00\x01", {}, NOW, "s")
    assert garbage.good.height == 0
    assert garbage.good.schema == good_schema()
    assert garbage.rejected[0].reason.startswith("gpu: no readable Arrow stream")
    assert garbage.rejected[0].sample == "\x00\x01"


def good_schema() -> pl.Schema:
    return frame_of("gpu", {}).schema
