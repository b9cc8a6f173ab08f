"""The fold of whole arrays is the fold by its definition: row after row, each thing's newest value."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.view import View
from control.fold import WANTED, Fold
from ingest.codec import decode, frame_of
from ingest.codec_pack import pack
from ingest.codec_unpack import Unpacker
from ingest.validate import AHEAD
from tests.factories import NOW, make_topology

TOPOLOGY = make_topology(servers_per_row=2, rows=2)
NODES = [server.name for server in TOPOLOGY.servers]
Row = dict[str, Any]
Known = dict[tuple[str, str], tuple[float, float]]
"""(thing, column) -> seconds and value"""

seconds = st.integers(-60, 0)
number = st.none() | st.integers(0, 100).map(float)
gpu_row = st.fixed_dictionaries(
    {
        "ts": seconds, "node": st.sampled_from([*NODES, "elsewhere"]), "gpu": st.integers(0, 9),
        "state": st.sampled_from([None, "ok", "lost"]), "power_w": number, "temp_c": number, "sm_clock_mhz": number,
        "clock_event_reasons": st.none() | st.integers(0, 200),
    }
)  # fmt: skip
server_row = st.fixed_dictionaries(
    {"ts": seconds, "node": st.sampled_from([*NODES, "elsewhere"]), "inlet_c": number, "power_w": number}
)
units = {"row": ["row-0", "row-1"], "aisle": ["aisle-0"], "ups": ["ups-0", "ups-1"], "ahu": ["ahu-0a", "ahu-0b"], "site": ["s"]}
facility_row = st.sampled_from([*units, "pdu"]).flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "ts": seconds, "kind": st.just(kind), "unit": st.sampled_from([*units.get(kind, ["pdu-0"]), "elsewhere"]),
            "state": st.sampled_from([None, "ok", "lost"]), "power_w": number, "power_max_w": number, "airflow_cfm": number,
            "outside_c": st.none() | st.integers(0, 40).map(float), "source": st.sampled_from([None, "meter", "sum"]),
        }
    )
)  # fmt: skip
whole_server = st.builds(
    lambda at, values: [{"ts": at, "node": n, "inlet_c": v, "power_w": v} for n, v in zip(NODES, values, strict=True)],
    seconds,
    st.lists(number, min_size=len(NODES), max_size=len(NODES)),
)
"""frames of everything at once, as exporters write them"""
server_rows = whole_server | st.lists(server_row, min_size=1, max_size=12)
frames = st.lists(
    st.tuples(st.just("gpu"), st.lists(gpu_row, min_size=1, max_size=12))
    | st.tuples(st.just("server"), server_rows)
    | st.tuples(st.just("facility"), st.lists(facility_row, min_size=1, max_size=12)),
    min_size=1,
    max_size=6,
)


def slow(told: list[tuple[str, list[Row]]]) -> Known:
    """What is known of each thing: in a frame by time, and of equal times the later row; NULL tells nothing."""
    known: Known = {}
    for topic, rows in told:
        for row in sorted(rows, key=lambda r: r["ts"]):
            for name, value in values_of(topic, row).items():
                key = (thing(topic, row), name)
                if value is not None and row["ts"] >= known.get(key, (-np.inf, 0.0))[0]:
                    known[key] = (row["ts"], float(value))
        for row in rows:
            if topic == "gpu" and row["state"] == "lost":
                for name in ("power_w", "temp_c", "sm_clock_mhz", "clock_event_reasons"):
                    key = (thing(topic, row), name)
                    if known.get(key, (-np.inf, 0.0))[0] <= row["ts"]:
                        known[key] = (row["ts"], np.nan)
    return known


def thing(topic: str, row: Row) -> str:
    if topic == "facility":
        return f"{row['kind']}/{'' if row['kind'] == 'site' else row['unit']}"
    return f"gpu/{row['node']}/{row['gpu']}" if topic == "gpu" else f"server/{row['node']}"


def values_of(topic: str, row: Row) -> Row:
    if topic == "gpu":
        return {name: row[name] for name in ("power_w", "temp_c", "sm_clock_mhz", "clock_event_reasons")}
    if topic == "server":
        return {name: row[name] for name in ("inlet_c", "power_w")}
    lost = None if row["state"] is None else row["state"] == "lost"
    return {"lost": lost, **{name: row[name] for name in ("power_w", "power_max_w", "airflow_cfm", "outside_c")}}


def columns(topic: str, rows: list[Row]) -> pl.DataFrame:
    at = NOW.replace(tzinfo=None)
    named = {name: [row[name] for row in rows] for name in rows[0]}
    return frame_of(topic, {**named, "ts": [at + timedelta(seconds=row["ts"]) for row in rows]})


def message(topic: str, frame: pl.DataFrame) -> bytes:
    """The frame as an exporter's message."""
    given: dict[str, Any] = {}
    for series in frame:
        if series.null_count() == len(series):
            continue
        plain = series.null_count() == 0 and series.dtype != pl.String
        given[series.name] = series.to_numpy().copy() if plain else series.to_arrow()
    found = pack(topic, given, NOW + AHEAD)
    assert found is not None
    return found


def assert_view(view: View, known: Known) -> None:
    def value(key: str, name: str) -> float:
        return known.get((key, name), (0.0, np.nan))[1]

    def age(key: str, name: str) -> float:
        return -known[key, name][0] if (key, name) in known else np.inf

    gpus = [f"gpu/{node}/{g}" for node in NODES for g in range(8)]
    servers = [f"server/{node}" for node in NODES]
    assert np.array_equal(view.gpu_power_w, [value(k, "power_w") for k in gpus], equal_nan=True)
    assert np.array_equal(view.gpu_temp_c, [value(k, "temp_c") for k in gpus], equal_nan=True)
    assert np.array_equal(view.gpu_clock_mhz, [value(k, "sm_clock_mhz") for k in gpus], equal_nan=True)
    assert np.array_equal(view.gpu_reasons, np.nan_to_num([value(k, "clock_event_reasons") for k in gpus]))
    assert np.array_equal(view.gpu_age_s, [age(k, "power_w") for k in gpus])
    assert np.array_equal(view.inlet_c, [value(k, "inlet_c") for k in servers], equal_nan=True)
    assert np.array_equal(view.server_power_w, [value(k, "power_w") for k in servers], equal_nan=True)
    assert np.array_equal(view.server_age_s, [age(k, "inlet_c") for k in servers])
    assert np.array_equal(view.aisle_airflow_cfm, [value("aisle/aisle-0", "airflow_cfm")], equal_nan=True)
    assert np.array_equal(view.ups_lost, [value(f"ups/ups-{k}", "lost") == 1 for k in range(2)])
    assert np.array_equal(view.ahu_lost, [value(f"ahu/ahu-0{k}", "lost") == 1 for k in "ab"])
    assert np.array_equal([view.outside_c], [value("site/", "outside_c")], equal_nan=True)
    for k, row in enumerate(("row/row-0", "row/row-1")):
        if not np.isnan(value(row, "power_w")) and age(row, "power_w") <= 30:
            assert (view.row_power_w[k], view.row_age_s[k]) == (value(row, "power_w"), age(row, "power_w"))


@given(frames)
@settings(max_examples=150, deadline=None)
def test_the_fold_is_its_definition_by_whatever_way_frames_come(told: list[tuple[str, list[Row]]]) -> None:
    by_frame, by_message, mixed, reader = Fold(TOPOLOGY), Fold(TOPOLOGY), Fold(TOPOLOGY), Unpacker()
    for number, (topic, rows) in enumerate(told):
        frame = columns(topic, rows)
        packed = message(topic, frame)
        assert decode(topic, packed, {}).equals(frame)
        read = reader.read(topic, packed, {}, WANTED[topic])
        assert not isinstance(read, pl.DataFrame)
        by_frame.observe(topic, frame)
        by_message.observe(topic, read)
        mixed.observe(topic, read if number % 2 else frame)
        for fold in (by_frame, by_message, mixed):
            assert_view(fold.view(NOW, NOW), slow(told[: number + 1]))


@given(frames)
@settings(max_examples=50, deadline=None)
def test_a_view_stays_as_it_was(told: list[tuple[str, list[Row]]]) -> None:
    fold = Fold(TOPOLOGY)
    seen = []
    for topic, rows in told:
        fold.observe(topic, columns(topic, rows))
        view = fold.view(NOW, NOW)
        seen.append((view, {name: v.copy() for name, v in vars(view).items() if isinstance(v, np.ndarray)}))
        assert not any(v.flags.writeable for name, v in vars(view).items() if isinstance(v, np.ndarray) and "gpu" in name)
    for view, copies in seen:
        assert all(np.array_equal(getattr(view, name), copy, equal_nan=True) for name, copy in copies.items())
