"""The register of checks: bounds, absence of data, JSON."""

import json
import math
from pathlib import Path

import pytest

from twin.validate import agreement
from twin.validate.agreement import NoData, as_json, bounded, check, data_file, reported, run, skipped


@pytest.fixture
def two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_CHECKS", {})
    monkeypatch.setattr(agreement, "checks", lambda: dict(agreement._CHECKS))

    @check("near")
    def near(_: Path | None) -> list[agreement.Agreement]:
        return [bounded("near.mean", "a mean", 1.0, high=2.0, kind="checked")]

    @check("table")
    def table(data: Path | None) -> list[agreement.Agreement]:
        return [reported("table.size", "its size", float(data_file(data, "t.parquet").stat().st_size), kind="blind")]


@pytest.mark.parametrize(
    ("measured", "ok"), [(1.0, True), (0.9, True), (1.1, True), (0.8, False), (1.2, False), (math.nan, False)]
)
def test_a_figure_must_lie_inside_its_bounds(measured: float, ok: bool) -> None:
    assert bounded("a", "b", measured, low=0.9, high=1.1, kind="fitted").ok is ok


def test_a_bounded_figure_without_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="needs low or high"):
        bounded("a", "b", 1.0, kind="fitted")


def test_neither_reported_nor_skipped_is_ok() -> None:
    assert not reported("a", "b", 1.0, kind="blind").ok
    assert not skipped("a", "why").ok


@pytest.mark.usefixtures("two_checks")
def test_a_check_without_its_data_is_skipped_by_name(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        near, table = run(folder)
        assert near.ok
        assert (table.name, table.outcome) == ("table", "skipped")
        assert "t.parquet" in table.detail
    (tmp_path / "t.parquet").write_bytes(b"abc")
    assert run(tmp_path, ["table"])[0].measured == 3.0


@pytest.mark.usefixtures("two_checks")
def test_progress_is_told_and_unknown_names_are_refused() -> None:
    told: list[tuple[str, int, int]] = []
    run(None, progress=lambda *step: told.append(step))
    assert told == [("near", 0, 2), ("table", 1, 2), ("", 2, 2)]
    with pytest.raises(KeyError, match="nowhere"):
        run(None, ["nowhere"])


@pytest.mark.usefixtures("two_checks")
def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="two checks"):
        check("near")(lambda _: [])


def test_agreements_go_to_json() -> None:
    text = json.dumps(as_json([bounded("a", "b", 1.0, low=0.0, published=1.1, unit="W", kind="fitted"), skipped("c", "d")]))
    first, second = json.loads(text)
    assert first["ok"] is True
    assert second["outcome"] == "skipped"


def test_the_data_folder_is_asked_for_by_name() -> None:
    with pytest.raises(NoData, match=r"t\.parquet"):
        data_file(None, "t.parquet")
