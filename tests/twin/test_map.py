"""The twin's map: what it keeps of a run, what it says, and that its picture can be read."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from tests.factories import make_topology
from tests.twin.map_frames import made_up, small
from twin.map import COOL, HEAT, POWER, elapsed, frames, headline, percent, summary
from twin.map_floor import floor
from twin.map_picture import figure, png
from twin.map_recorder import Recorder, coarser
from twin.world import World

Make = Callable[..., World]
Words = tuple[str, NDArray[np.float64]]


def test_neighbours_become_one_without_losing_the_worst() -> None:
    f = small()
    two = coarser(f, 2)
    assert two.t_s.tolist() == [0, 20]
    assert two.samples.tolist() == [2, 1]
    assert two.hottest_gpu_c.tolist() == [[80, 62], [88, 63]]
    assert two.server_w.tolist() == [[1e3, 3e3], [1e3, 3e3]]
    assert two.row_max_w[:, 1].tolist() == [4e3, 3e3]
    assert two.row_over[:, 1].tolist() == [0.5, 0.0]
    assert two.slowed.tolist() == [[False, False], [True, False]]
    assert two.until_s == f.until_s == 30
    for g in (two, coarser(f, 1)):
        assert g.over_share == pytest.approx(f.over_share)
        assert np.average(g.server_w, axis=0, weights=g.samples) == pytest.approx(f.server_w.mean(axis=0))
    assert coarser(f, 3) is f


@pytest.mark.parametrize("seconds", [1, 16, 17, 100, 1000])
def test_a_run_of_any_length_fits_its_frames(seconds: int) -> None:
    rng = np.random.default_rng(seconds)
    recorder = Recorder(make_topology(8, row_limit_w=60e3), frames=16)
    gpu_c, row_w = rng.normal(70, 5, (seconds, 16)), rng.normal(58e3, 2e3, (seconds, 2))
    server_w, slowed = rng.normal(7e3, 500, (seconds, 16)), rng.random((seconds, 16)) < 0.01
    for t in range(seconds):
        recorder.add(t, inlet_c=gpu_c[t] - 40, hottest_gpu_c=gpu_c[t], slowed=slowed[t], server_w=server_w[t], row_w=row_w[t])
    f = recorder.frames()
    assert min(seconds, 8) <= len(f.t_s) <= 16
    assert f.samples.sum() == seconds == f.until_s
    assert f.t_s.tolist() == [0, *np.cumsum(f.samples)[:-1]]
    assert f.hottest_gpu_c.max(axis=0) == pytest.approx(gpu_c.max(axis=0))
    assert f.slowed.any(axis=0).tolist() == slowed.any(axis=0).tolist()
    assert np.average(f.server_w, axis=0, weights=f.samples) == pytest.approx(server_w.mean(axis=0))
    assert f.over_share == pytest.approx((row_w > 60e3).mean(axis=0))


def test_a_recorder_keeps_its_memory_bound() -> None:
    topology = make_topology(8)
    assert Recorder(topology).limit == 240
    assert Recorder(topology, memory_bytes=30_000).limit == 42
    assert Recorder(topology, memory_bytes=1).limit == 16
    for wrong in (14, 17):
        with pytest.raises(ValueError, match="even and at least 16"):
            Recorder(topology, frames=wrong)
    with pytest.raises(ValueError, match="nothing to show"):
        Recorder(topology).frames()


def test_a_lost_ups_lowers_the_limit_of_its_moment() -> None:
    recorder = Recorder(make_topology(8, row_limit_w=60e3))
    server, row = np.full(16, 60.0), np.full(2, 50e3)
    for t, share in enumerate((1.0, 0.75)):
        recorder.add(
            t,
            inlet_c=server,
            hottest_gpu_c=server,
            slowed=np.zeros(16, dtype=np.bool_),
            server_w=server,
            row_w=row,
            row_limit_w=np.full(2, 60e3 * share),
        )
    f = recorder.frames()
    assert f.row_limit_w[:, 0].tolist() == [60e3, 45e3]
    assert f.over_share.tolist() == [0.5, 0.5]


def test_it_says_what_stands_out() -> None:
    s = summary(small())
    assert (s.worst, s.slowed_then, s.slowed_ever, s.hottest, s.row) == (2, 1, 1, 0, 1)
    assert s.row_share == pytest.approx(4 / 3.5)
    assert headline(small()) == "1 of 2 servers slowed by heat; 1 of 2 rows over their limit, b by up to 14 %"
    cool = made_up(1, 40, cooler_k=30)
    assert "no server slowed" in headline(cool)
    assert "row-1 over its limit" in headline(cool)
    assert summary(cool).worst == cool.row_w[:, 0].argmax()
    assert [percent(p) for p in (0, 0.004, 0.5, 0.996, 1, 1.08)] == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %", "108 %"]
    assert [elapsed(t) for t in (40, 1860, 7500, 273600)] == ["40 s", "31 min", "2 h 05", "3 d 4 h"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inlet_c": [[1, 2]]}, "inlet_c has the shape"),
        ({"row_w": [[1e3, np.nan], [1, 1], [1, 1]]}, "row_w holds a value that is no number"),
        ({"t_s": [0, 10, 10]}, "t_s must rise"),
        ({"row_of": [0, 2]}, "row_of names row 2"),
        ({"rack_of": ["ra"]}, "1 rack names"),
        ({"t_s": []}, "at least one of each"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, object], message: str) -> None:
    f = small()
    given = {name: getattr(f, name) for name in ("site", "rows", "row_of", "rack_of", "slot_of", "t_s", "inlet_c", "server_w")}
    given |= {name: getattr(f, name) for name in ("hottest_gpu_c", "row_w", "slowdown_c")} | {"row_limit_w": f.row_limit_w[0]}
    with pytest.raises(ValueError, match=message):
        frames(**(given | change))


@pytest.mark.parametrize("stops", [HEAT, COOL, POWER])
def test_scales_grow_lighter_by_even_steps(stops: tuple[str, ...]) -> None:
    rgb = np.array([to_rgb(stop) for stop in stops])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    steps = np.diff(116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16)
    assert steps == pytest.approx(np.full(len(steps), steps.mean()), rel=0.06)


def test_every_server_has_its_place_on_the_floor() -> None:
    for rows, per_row in ((2, 40), (20, 50), (1, 40), (130, 6)):
        f = made_up(rows, per_row, 2)
        plan = floor(f, 15.1)
        x, y, w, h = plan.cells.T
        assert (w > 0.04).all()
        assert (x >= plan.label_in).all()
        assert (x + w).max() <= 15.1
        assert (y + h).max() <= plan.height_in
        apart = _apart(np.stack([x, y, x + w, y + h], axis=1))
        assert apart.all()
        assert y[0] > y[1]  # slot 0 is at the bottom


def _apart(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] boxes x0, y0, x1, y1 -> [pairs] whether two do not overlap."""
    i, j = np.triu_indices(len(boxes), 1)
    left, right = boxes[i], boxes[j]
    beside = np.maximum(left[:, :2] - right[:, 2:], right[:, :2] - left[:, 2:]).max(axis=1)
    clear: NDArray[np.bool_] = beside >= -1e-9
    return clear


@pytest.fixture
def words_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], list[Words]]:
    """Draws a figure and tells every text that came onto it, with its box in pixels (x0, y0, x1, y1)."""
    drawn: list[Words] = []
    really = Text.draw

    def noting(text: Text, renderer: RendererBase, *rest: Any, **named: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append((text.get_text(), np.array(text.get_window_extent(renderer).extents)))
        really(text, renderer, *rest, **named)

    def draw(figure: Figure) -> list[Words]:
        drawn.clear()
        figure.canvas.draw()
        return list(drawn)

    monkeypatch.setattr(Text, "draw", noting)
    return draw


@pytest.mark.parametrize(("rows", "per_row"), [(2, 40), (20, 50), (1, 40)])
def test_no_words_overlap(words_of: Callable[[Figure], list[Words]], rows: int, per_row: int) -> None:
    drawn = figure(made_up(rows, per_row))
    words = words_of(drawn)
    boxes = np.array([box for _, box in words])
    pairs = list(itertools.combinations([said for said, _ in words], 2))
    assert [pair for pair, apart in zip(pairs, _apart(boxes), strict=True) if not apart] == []
    assert boxes.min() > 0
    assert (boxes[:, 2:] < drawn.bbox.size).all()
    said = [text for text, _ in words]
    assert "ahu-1 lost: 90 % of aisle 1's air is left" in said
    assert "worst moment, drawn above" in said
    assert sum(text.endswith(" kW") and " of " in text for text in said) == rows
    assert any("over its limit" in text for text in said)


def test_many_events_leave_room_for_the_worst_moment(words_of: Callable[[Figure], list[Words]]) -> None:
    events = tuple((60.0 * i, 60.0 * i + 1800.0, f"tenant {i} of customer-{i % 7} moves in") for i in range(58))
    words = words_of(figure(replace(made_up(2, 40), events=events)))
    said = [text for text, _ in words]
    assert "worst moment, drawn above" in said
    named = sum("moves in" in text for text in said)
    assert 5 <= named < 58
    assert any(text.endswith(f"; {58 - named} events without a name: no room") for text in said)
    assert _apart(np.array([box for _, box in words])).all()


def test_the_picture_of_a_real_run(make_world: Make) -> None:
    world = make_world()
    recorder = Recorder(world.topology)
    for second in range(40):
        world.advance(world.scenario.start + timedelta(seconds=second + 1))
        s = world.state
        recorder.add(
            second,
            inlet_c=s.inlet_c,
            hottest_gpu_c=s.die_c.max(axis=1),
            slowed=np.logical_or.reduce(s.slow | s.down, axis=1),
            server_w=s.server_w,
            row_w=s.row_w,
        )
    recorder.event(20.0, np.inf, "ahu-1 lost")
    f = recorder.frames()
    score = world.score()
    assert f.hottest_gpu_c.max() == score.max_gpu_c
    assert summary(f).row_share == pytest.approx(score.max_row_power_ratio)
    assert f.server_w.sum() == pytest.approx(score.energy_wall_j)
    picture = png(f)
    assert picture == png(f)
    for drawn in (picture, png(f, dark=True)):
        assert drawn.startswith(b"\x89PNG")
        assert int.from_bytes(drawn[16:20], "big") == 2400
