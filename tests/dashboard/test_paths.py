"""Forecasts as lines: whatever the path, the lines fit its times and hold only the next hour."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dashboard.moment import HOUR, moment
from dashboard.paths import highest, path_of
from tests.dashboard.conftest import StandingClock
from tests.dashboard.site_data import LEVELS
from tests.factories import NOW

AT = moment(StandingClock(run=NOW, at_wall=datetime(2026, 11, 1, tzinfo=UTC)), 10.0)


@given(
    leads=st.lists(st.integers(-120, 1500), unique=True, max_size=12).map(sorted),
    start=st.floats(-1e6, 1e6),
    width=st.integers(1, len(LEVELS)),
)
def test_lines_hold_the_next_hour_and_nothing_else(leads: list[int], start: float, width: int) -> None:
    row = {
        "model": "ridge",
        "issued_at": NOW.replace(tzinfo=None),
        "data_until": NOW.replace(tzinfo=None),
        "valid_at": [(NOW + timedelta(minutes=m)).replace(tzinfo=None) for m in leads],
        "levels": list(LEVELS[:width]),
        "values": [start + m * 10 + q for m in leads for q in range(width)],
        "degradations": [],
    }
    path = path_of(row, AT)
    inside = [m for m in leads if 0 < m <= 60]
    assert [t - NOW.timestamp() for t in path.t] == [60.0 * m for m in inside]
    assert len(path.bands) == width
    for q, level in enumerate(LEVELS[:width]):
        assert list(path.bands[f"{level:g}"]) == [round(start + m * 10 + q, 3) for m in inside]
    top = highest(path, "0.01")
    assert top == ((NOW + timedelta(minutes=inside[-1]), path.bands["0.01"][-1]) if inside else None)
    assert highest(path, "0.999") is None
    assert all(NOW.timestamp() < t <= (NOW + HOUR).timestamp() for t in path.t)


def test_no_path_has_no_highest() -> None:
    assert highest(None, "0.99") is None
