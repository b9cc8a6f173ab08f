"""The page of a backtest: one HTML file that carries its pictures and loads nothing. Its figures are the report's.

Every figure stands in a cell with `data-value`, its whole digits: what the page says and what the JSON says can be compared.
"""

import html as markup
from collections.abc import Sequence
from pathlib import Path

from coldaisle.backtest_fans import Shown, fans, worst
from coldaisle.forecast_pictures import fan_figure, inline, reliability_figure, skill_figure
from contracts.forecasts import LEVELS
from forecast.backtest import Result
from forecast.backtest_report import CHAMPION, Report, figure, verdict, worst_days

STYLE = Path(__file__).parent / "pages" / "backtest.css"
COLOURS = {"champion wins": "good", "naive wins": "bad"}
MOST_ROWS = 200
"""series listed on the page; the JSON has all"""
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
"""


def html(result: Result, source: str) -> str:
    """Return the page; `source` says where the series came from."""
    r = result.report
    title = f"Backtest of {r.target}: {headline(r)}"
    parts = [
        _head(r, source),
        _verdicts(r),
        _fans(result),
        _reliability(r),
        _skill(r),
        _worst(result),
        _choices(r),
        _inputs(r),
        _all(r),
    ]
    style = STYLE.read_text(encoding="utf-8")
    body = "\n".join(part for part in parts if part)
    head = f"{HEAD}<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n"
    return f"{head}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"


def headline(r: Report) -> str:
    """Say in one line where the champion wins."""
    said = {horizon: verdict(r, horizon) for horizon in r.horizons_s}
    lost = [horizon for horizon, words in said.items() if words != "champion wins"]
    if not lost:
        return "the champion beats both naive models at every horizon"
    won = [horizon for horizon in said if horizon not in lost]
    naive = f"the champion does not beat the naive models at {' and '.join(lost)}"
    return f"{naive}; it does at {' and '.join(won)}" if won else naive


def _head(r: Report, source: str) -> str:
    step = f"{r.step_s / 60:g} min" if r.step_s >= 60 else f"{r.step_s} s"
    said = (
        f"{r.series:,} series of {step} from {_text(source)}, {r.since:%Y-%m-%d %H:%M} to {r.until:%Y-%m-%d %H:%M} UTC. "
        f"Models were refitted every day on what was known then; scored are {r.origins:,} origins from "
        f"{r.scored_from:%Y-%m-%d %H:%M} UTC on. No model, band or choice saw anything later than its origin."
    )
    words = headline(r)
    return (
        f'<header><p class="brand">coldaisle backtest · {_text(r.target)}</p><h1>{_text(words[0].upper() + words[1:])}</h1>'
        f'<p class="lead muted">{said}</p></header>'
    )


def _verdicts(r: Report) -> str:
    """The first table: who wins at each horizon, and whether the bands keep their word."""
    rows = []
    for horizon in r.horizons_s:
        champion, words = figure(r, CHAMPION, horizon), verdict(r, horizon)
        colour = next((c for start, c in COLOURS.items() if words.startswith(start)), "even")
        best = _best(r, horizon)
        key = f"overall/{CHAMPION}/{horizon}"
        rows.append(
            f'<tr><th scope="row">{_text(horizon)}</th><td class="wide"><span class="tag {colour}">{_text(words)}</span></td>'
            + _number(f"{key}/vs_persistence", champion.vs_persistence, "{:.3f}", "error / persistence")
            + _number(f"{key}/vs_seasonal", champion.vs_seasonal, "{:.3f}", "error / seasonal-naive")
            + f'<td data-label="best single model">{_text(best)}</td>'
            + _number(f"{key}/mase", champion.mase, "{:.3f}", "MASE")
            + _number(f"{key}/coverage_90", champion.coverage_90, "{:.1%}", "in the 90 % band")
            + _number(f"{key}/coverage_98", champion.coverage_98, "{:.1%}", "in the 98 % band")
            + _number(f"{key}/below_99", champion.below_99, "{:.1%}", "below P99")
            + _number(f"{key}/worst_below_99", champion.worst_below_99, "{:.1%}", "worst series below P99")
            + _number(f"{key}/pinball_99", champion.pinball_99, "{:.3f}", "P99 pinball")
            + _number(f"{key}/points", champion.points, "{:,}", "forecasts")
            + "</tr>"
        )
    columns = (
        *("horizon", "", "error / persistence", "error / seasonal-naive", "best single model", "MASE", "in the 90 % band"),
        *("in the 98 % band", "below P99", "worst series below P99", "P99 pinball", "forecasts"),
    )
    note = (
        "Errors are mean absolute errors, each over its series' mean change from one day to the next (MASE); a ratio is "
        "the mean over the series divided by the mean over the series. Below 1 the champion is better."
    )
    return _card("Who wins", f'{_table(columns, rows, "stack")}<p class="note">{note}</p>')


def _best(r: Report, horizon: str) -> str:
    """Return the model with the smallest error and its ratio to persistence; the champion itself does not stand."""
    of = [o for o in r.overall if o.horizon == horizon and o.model != CHAMPION and o.mase is not None]
    best = min(of, key=lambda o: o.mase or 0.0, default=None)
    return "-" if best is None else f"{best.model} {_plain(best.vs_persistence, '{:.3f}')}"


def _fans(result: Result) -> str:
    shown = fans(result)
    note = "A line is what was said, points are what came. Bands: 50, 90 and 98 %."
    return _card("Forecasts", f'<p class="note">{note}</p>{_pictures("fan", shown)}') if shown else ""


def _pictures(prefix: str, shown: Sequence[Shown]) -> str:
    return _figures(
        [(one.title, one.said, inline(fan_figure(one.fan), f"{prefix}{i}", _text(one.title))) for i, one in enumerate(shown)]
    )


def _reliability(r: Report) -> str:
    horizons = list(r.horizons_s)
    by = {(one.horizon, one.level): one for one in r.reliability}
    shares = [[by[horizon, level].share for level in LEVELS] for horizon in horizons]
    picture = inline(reliability_figure(horizons, LEVELS, shares), "reliability", "Observed against promised shares")
    rows = [
        f'<tr><th scope="row">{_text(horizon)}</th>'
        + "".join(_number(f"reliability/{horizon}/{level}", by[horizon, level].share, "{:.1%}") for level in LEVELS)
        + "</tr>"
        for horizon in horizons
    ]
    table = _table(("horizon", *(f"P{100 * level:g}" for level in LEVELS)), rows)
    said = "Share of outcomes at or below each quantile, all series and hours together."
    return _card(
        "Do the bands keep their word", _figures([("Reliability", said, picture)], f'<div class="scroll">{table}</div>')
    )


def _skill(r: Report) -> str:
    horizons = list(r.horizons_s)
    by = {(one.model, one.horizon): one for one in r.overall}
    models = sorted({one.model for one in r.overall}, key=lambda m: (m != CHAMPION, by[m, horizons[0]].mase or float("inf"), m))
    pictures = []
    for against, field in (("persistence", "vs_persistence"), ("seasonal-naive", "vs_seasonal")):
        ratios = [[getattr(by[model, horizon], field) for model in models] for horizon in horizons]
        picture = inline(skill_figure(models, horizons, ratios, against), f"skill-{against}", f"Every model against {against}")
        pictures.append((f"Against {against}", "Left of 1 is better.", picture))
    rows = [
        f'<tr><th scope="row">{_text(model)}</th>'
        + "".join(
            _number(f"overall/{model}/{horizon}/{field}", getattr(by[model, horizon], field), "{:.3f}")
            for field in ("vs_persistence", "vs_seasonal")
            for horizon in horizons
        )
        + "</tr>"
        for model in models
    ]
    columns = ("model", *(f"{h} / persistence" for h in horizons), *(f"{h} / seasonal-naive" for h in horizons))
    return _card(
        "Every model",
        f"{_figures(pictures)}<details><summary>As a table</summary>"
        f'<div class="scroll">{_table(columns, rows)}</div></details>',
    )


def _worst(result: Result) -> str:
    r, shown = result.report, worst(result)
    rows = [
        f'<tr><th scope="row">{_text(horizon)}</th><td>{day.day}</td>'
        + _number(f"days/{horizon}/{day.day}/coverage_90", day.coverage_90, "{:.1%}")
        + _number(f"days/{horizon}/{day.day}/vs_persistence", day.vs_persistence, "{:.3f}")
        + f'<td class="name">{_text(day.worst_series)}</td>'
        + _number(f"days/{horizon}/{day.day}/worst_coverage_90", day.worst_coverage_90, "{:.1%}")
        + _number(f"days/{horizon}/{day.day}/points", day.points, "{:,}")
        + "</tr>"
        for horizon in r.horizons_s
        for day in worst_days(r, horizon, 3)
    ]
    if not rows:
        return ""
    columns = ("horizon", "day", "in the 90 % band", "error / persistence", "worst series", "its own", "forecasts")
    note = "Coverage over all hours hides the days on which it fails. Days are those of the outcome, UTC."
    table = f'<div class="scroll">{_table(columns, rows)}</div>'
    return _card("The worst days", f'<p class="note">{note}</p>{table}{_pictures("day", [s for _, s in shown])}')


def _choices(r: Report) -> str:
    """Who was chosen, when and why; days on which nothing changed are counted, not listed."""
    rows = []
    kept = dict.fromkeys((one.band for one in r.choices), 0)
    for one in r.choices:
        if one.reason == "kept":
            kept[one.band] += 1
            continue
        errors = sorted(one.errors.items(), key=lambda pair: pair[1])
        best = ", ".join(f"{name} {ratio:.3f}" for name, ratio in errors[:4])
        rows.append(
            f'<tr><th scope="row">{one.at:%Y-%m-%d %H:%M}</th><td>{one.band}</td><td class="name">{_text(one.model)}</td>'
            f'<td class="name">{_text(one.previous or "-")}</td><td class="name">{_text(one.reason)}</td>'
            f'<td class="words">{_text(best)}</td></tr>'
        )
    if not r.choices:
        return _card("Who was chosen", '<p class="note">No errors were known yet: persistence spoke.</p>')
    days = ", ".join(f"{band} {count}" for band, count in kept.items())
    note = f"Errors are ratios to persistence on the days before the choice. Days on which the champion was kept: {days}."
    columns = ("from, UTC", "horizons", "champion", "before", "why", "the four best then")
    return _card("Who was chosen, and why", f'<div class="scroll">{_table(columns, rows)}</div><p class="note">{note}</p>')


def _inputs(r: Report) -> str:
    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td class="words">left out: {_text(why)}</td><td></td></tr>'
        for name, why in r.left_out
    ]
    for one in r.notes:
        days = "" if one.first is None else f"{one.first}" + (f" to {one.last}" if one.last != one.first else "")
        rows.append(f'<tr><th scope="row">{_text(one.series)}</th><td class="words">{_text(one.note)}</td><td>{days}</td></tr>')
    failed: dict[str, list[str]] = {}
    for model, at, why in r.failed:
        failed.setdefault(f"{model}: {why}", []).append(f"{at:%Y-%m-%d}")
    rows += [
        f'<tr><th scope="row">model</th><td class="words">no opinion: {_text(why)}</td>'
        f"<td>{len(days)} days from {days[0]}</td></tr>"
        for why, days in failed.items()
    ]
    if not rows:
        return _card("Degraded inputs", '<p class="note">Nothing was left out, masked or repaired.</p>')
    shown = rows[:MOST_ROWS]
    more = f'<p class="note">{len(rows) - len(shown):,} more in the JSON report.</p>' if len(rows) > len(shown) else ""
    return _card("Degraded inputs", f'<div class="scroll">{_table(("series", "what", "days"), shown, words=(1,))}</div>{more}')


def _all(r: Report) -> str:
    champion = [one for one in r.scores if one.model == CHAMPION]
    order = sorted(champion, key=lambda one: (list(r.horizons_s).index(one.horizon), -(one.mase or 0.0)))
    rows = [
        f'<tr><th scope="row">{_text(one.series)}</th><td>{_text(one.horizon)}</td>'
        + "".join(
            _number(f"scores/{one.series}/{one.horizon}/{field}", getattr(one, field), form)
            for field, form in (
                *(("mase", "{:.3f}"), ("vs_persistence", "{:.3f}"), ("vs_seasonal", "{:.3f}")),
                *(("coverage_90", "{:.1%}"), ("coverage_98", "{:.1%}"), ("below_99", "{:.1%}"), ("points", "{:,}")),
            )
        )
        + "</tr>"
        for one in order[:MOST_ROWS]
    ]
    columns = ("series", "horizon", "MASE", "/ persistence", "/ seasonal-naive", "in 90 %", "in 98 %", "below P99", "forecasts")
    left = f'<p class="note">{len(order) - MOST_ROWS:,} more in the JSON report.</p>' if len(order) > MOST_ROWS else ""
    table = f'<div class="scroll">{_table(columns, rows)}</div>{left}'
    return _card(
        "Every series", f"<details><summary>The champion by series and horizon, the worst first</summary>{table}</details>"
    )


def _card(title: str, body: str) -> str:
    return f'<section class="card" aria-label="{_text(title)}"><h2>{_text(title)}</h2>{body}</section>'


def _figures(pictures: Sequence[tuple[str, str, str]], beside: str = "") -> str:
    drawn = "".join(
        f'<figure><figcaption><h3>{_text(title)}</h3><p class="note">{_text(said)}</p></figcaption>{svg}</figure>'
        for title, said, svg in pictures
    )
    return f'<div class="pictures">{drawn}{beside}</div>'


def _table(columns: Sequence[str], rows: Sequence[str], kind: str = "", words: Sequence[int] = ()) -> str:
    heads = "".join(
        f'<th scope="col"{" class=words" if i in words else ""}>{_text(column)}</th>' for i, column in enumerate(columns)
    )
    return f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _number(key: str, value: float | None, form: str, label: str = "") -> str:
    said = f' data-label="{_text(label)}"' if label else ""
    exact = "" if value is None else repr(value)
    return f'<td data-key="{_text(key)}" data-value="{exact}"{said}>{_plain(value, form)}</td>'


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _text(words: str) -> str:
    return markup.escape(words)
