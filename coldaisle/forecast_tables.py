"""What `coldaisle backtest` and `coldaisle forecast` say in a terminal."""

from rich import box
from rich.table import Table
from rich.text import Text

from forecast.backtest_report import Report, figure, verdict
from forecast.voices import CHAMPION

COLOURS = {"champion wins": "green", "naive wins": "red"}


def backtest_tables(r: Report) -> list[str | Table]:
    """Return what was scored, who wins at each horizon, and what was left out."""
    where = (
        f"{r.target}: {r.series:,} series of {r.step_s} s, {r.origins:,} origins from {r.scored_from:%Y-%m-%d %H:%M} to "
        f"{r.until:%Y-%m-%d %H:%M} UTC"
    )
    right = ("/ persistence", "/ seasonal-naive", "90 %", "98 %", "below P99", "worst series", "forecasts")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("horizon", "who wins", "champion at the end", *right):
        table.add_column(column, justify="right" if column in right else "left")
    for horizon, seconds in r.horizons_s.items():
        table.add_row(horizon, *_line(r, horizon, seconds))
    said: list[str | Table] = [where, table]
    said += [f"left out {name}: {why}" for name, why in r.left_out]
    said += [f"{one.series}: {one.note}" for one in r.notes]
    said += [f"{model} had no opinion from {at:%Y-%m-%d %H:%M} on, for a day: {why}" for model, at, why in r.failed]
    return said


def _line(r: Report, horizon: str, seconds: int) -> list[str | Text]:
    from forecast.champion import band_of

    champion, words = figure(r, CHAMPION, horizon), verdict(r, horizon)
    colour = next((c for start, c in COLOURS.items() if words.startswith(start)), "")
    ratios = [_plain(ratio, "{:.3f}") for ratio in (champion.vs_persistence, champion.vs_seasonal)]
    shares = (champion.coverage_90, champion.coverage_98, champion.below_99, champion.worst_below_99)
    return [
        Text(words, style=colour),
        r.selected.get(band_of(seconds), "persistence"),
        *ratios,
        *(_plain(share, "{:.1%}") for share in shares),
        f"{champion.points:,}",
    ]


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
