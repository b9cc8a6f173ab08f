"""The page of a backtest: one HTML file that carries its pictures and loads nothing. Its figures are the report's.

Every figure stands in a cell with `data-value`, its whole digits: what the page says and what the JSON says can be compared.
"""

from collections.abc import Sequence
from pathlib import Path

from coldaisle.backtest_fans import Shown, fans, worst
from coldaisle.forecast_pictures import fan_figure, inline, reliability_figure, skill_figure
from coldaisle.page_parts import card, figures, number, plain, table, text, words
from contracts.forecasts import LEVELS
from forecast.backtest import Result
from forecast.backtest_report import Report, figure, verdict, worst_days
from forecast.voices import CHAMPION

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
    head = f"{HEAD}<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n"
    return f"{head}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"


def headline(r: Report) -> str:
    """Say in one line where the champion wins."""
    said = {horizon: verdict(r, horizon) for horizon in r.horizons_s}
    lost = [horizon for horizon, won in said.items() if won != "champion wins"]
    if not lost:
        return "the champion beats both naive models at every horizon"
    won = [horizon for horizon in said if horizon not in lost]
    naive = f"the champion does not beat the naive models at {_listed(lost)}"
    return f"{naive}; it does at {_listed(won)}" if won else naive


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _head(r: Report, source: str) -> str:
    step = f"{r.step_s / 60:g} min" if r.step_s >= 60 else f"{r.step_s} s"
    said = (
        f"{r.series:,} series of {step} from {text(source)}, {r.since:%Y-%m-%d %H:%M} to {r.until:%Y-%m-%d %H:%M} UTC. "
        f"Models were refitted every day on what was known then; scored are {r.origins:,} origins from "
        f"{r.scored_from:%Y-%m-%d %H:%M} UTC on. No model, band or choice saw anything later than its origin."
    )
    first = headline(r)
    return (
        f'<header><p class="brand">coldaisle backtest · {text(r.target)}</p><h1>{text(first[0].upper() + first[1:])}</h1>'
        f'<p class="lead muted">{said}</p></header>'
    )


def _verdicts(r: Report) -> str:
    """The first table: who wins at each horizon, and whether the bands keep their word."""
    rows = []
    for horizon in r.horizons_s:
        champion, won = figure(r, CHAMPION, horizon), verdict(r, horizon)
        colour = next((c for start, c in COLOURS.items() if won.startswith(start)), "even")
        best = _best(r, horizon)
        key = f"overall/{CHAMPION}/{horizon}"
        rows.append(
            f'<tr><th scope="row">{text(horizon)}</th><td class="wide"><span class="tag {colour}">{text(won)}</span></td>'
            + number(f"{key}/vs_persistence", champion.vs_persistence, "{:.3f}", "error / persistence")
            + number(f"{key}/vs_seasonal", champion.vs_seasonal, "{:.3f}", "error / seasonal-naive")
            + f'<td data-label="best single model">{text(best)}</td>'
            + number(f"{key}/mase", champion.mase, "{:.3f}", "MASE")
            + number(f"{key}/coverage_90", champion.coverage_90, "{:.1%}", "in the 90 % band")
            + number(f"{key}/coverage_98", champion.coverage_98, "{:.1%}", "in the 98 % band")
            + number(f"{key}/below_99", champion.below_99, "{:.1%}", "below P99")
            + number(f"{key}/worst_below_99", champion.worst_below_99, "{:.1%}", "worst series below P99")
            + number(f"{key}/pinball_99", champion.pinball_99, "{:.3f}", "P99 pinball")
            + number(f"{key}/points", champion.points, "{:,}", "forecasts")
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
    return card("Who wins", f'{table(columns, rows, "stack")}<p class="note">{note}</p>')


def _best(r: Report, horizon: str) -> str:
    """Return the model with the smallest error and its ratio to persistence; the champion itself does not stand."""
    of = [o for o in r.overall if o.horizon == horizon and o.model != CHAMPION and o.mase is not None]
    best = min(of, key=lambda o: o.mase or 0.0, default=None)
    return "-" if best is None else f"{best.model} {plain(best.vs_persistence, '{:.3f}')}"


def _fans(result: Result) -> str:
    shown = fans(result)
    note = "A line is what was said, points are what came. Bands: 50, 90 and 98 %."
    return card("Forecasts", f'<p class="note">{note}</p>{_pictures("fan", shown)}') if shown else ""


def _pictures(prefix: str, shown: Sequence[Shown]) -> str:
    return figures(
        [(one.title, one.said, inline(fan_figure(one.fan), f"{prefix}{i}", text(one.title))) for i, one in enumerate(shown)]
    )


def _reliability(r: Report) -> str:
    horizons = list(r.horizons_s)
    by = {(one.horizon, one.level): one for one in r.reliability}
    shares = [[by[horizon, level].share for level in LEVELS] for horizon in horizons]
    picture = inline(reliability_figure(horizons, LEVELS, shares), "reliability", "Observed against promised shares")
    rows = [
        f'<tr><th scope="row">{text(horizon)}</th>'
        + "".join(number(f"reliability/{horizon}/{level}", by[horizon, level].share, "{:.1%}") for level in LEVELS)
        + "</tr>"
        for horizon in horizons
    ]
    said = (
        "Share of outcomes below each quantile, all series and hours together; outcomes on it count as they suit the promise."
    )
    beside = table(("horizon", *(f"P{100 * level:g}" for level in LEVELS)), rows)
    return card("Do the bands keep their word", figures([("Reliability", said, picture)], beside))


def _skill(r: Report) -> str:
    horizons = list(r.horizons_s)
    by = {(one.model, one.horizon): one for one in r.overall}
    models = sorted({one.model for one in r.overall}, key=lambda m: (m != CHAMPION, by[m, horizons[0]].mase or float("inf"), m))
    pictures = []
    for against, field in (("persistence", "vs_persistence"), ("seasonal-naive", "vs_seasonal")):
        ratios = [[getattr(by[model, horizon], field) for model in models] for horizon in horizons]
        picture = inline(skill_figure(models, horizons, ratios, against), f"skill-{against}", f"Every model against {against}")
        pictures.append((f"Against {against}", "Left of 1 is better; an arrow is beyond 2.", picture))
    rows = [
        f'<tr><th scope="row">{text(model)}</th>'
        + "".join(
            number(f"overall/{model}/{horizon}/{field}", getattr(by[model, horizon], field), "{:.3f}")
            for field in ("vs_persistence", "vs_seasonal")
            for horizon in horizons
        )
        + "</tr>"
        for model in models
    ]
    columns = ("model", *(f"{h} / persistence" for h in horizons), *(f"{h} / seasonal-naive" for h in horizons))
    return card(
        "Every model",
        f"{figures(pictures)}<details><summary>As a table</summary>{table(columns, rows)}</details>",
    )


def _worst(result: Result) -> str:
    r, shown = result.report, worst(result)
    rows = [
        f'<tr><th scope="row">{text(horizon)}</th><td class="name">{day.day}</td>'
        + number(f"days/{horizon}/{day.day}/coverage_90", day.coverage_90, "{:.1%}")
        + number(f"days/{horizon}/{day.day}/vs_persistence", day.vs_persistence, "{:.3f}")
        + f'<td class="name">{text(day.worst_series)}</td>'
        + number(f"days/{horizon}/{day.day}/worst_coverage_90", day.worst_coverage_90, "{:.1%}")
        + number(f"days/{horizon}/{day.day}/points", day.points, "{:,}")
        + "</tr>"
        for horizon in r.horizons_s
        for day in worst_days(r, horizon, 3)
    ]
    if not rows:
        return ""
    columns = ("horizon", "day", "in the 90 % band", "error / persistence", "worst series", "its coverage", "forecasts")
    note = "Coverage over all hours hides the days on which it fails. Days are those of the outcome, UTC."
    listed = table(columns, rows, left=("day", "worst series"))
    return card("The worst days", f'<p class="note">{note}</p>{listed}{_pictures("day", [s for _, s in shown])}')


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
            f'<tr><th scope="row">{one.at:%Y-%m-%d %H:%M}</th>'
            + words(f"{one.band} {one.kind}".strip(), one.model, one.previous or "-", one.reason)
            + f"{words(best, kind='words')}</tr>"
        )
    if not r.choices:
        return card("Who was chosen", '<p class="note">No errors were known yet: persistence spoke.</p>')
    days = ", ".join(f"{band} {count}" for band, count in kept.items())
    note = f"Errors are ratios to persistence on the days before the choice. Days on which the champion was kept: {days}."
    columns = ("from, UTC", "horizons", "champion", "before", "why", "the four best then")
    return card("Who was chosen, and why", f'{table(columns, rows, left=columns)}<p class="note">{note}</p>')


def _inputs(r: Report) -> str:
    rows = [
        f'<tr><th scope="row">{text(name)}</th><td class="words">left out: {text(why)}</td><td></td></tr>'
        for name, why in r.left_out
    ]
    for one in r.notes:
        days = "" if one.first is None else f"{one.first}" + (f" to {one.last}" if one.last != one.first else "")
        rows.append(f'<tr><th scope="row">{text(one.series)}</th><td class="words">{text(one.note)}</td><td>{days}</td></tr>')
    failed: dict[str, list[str]] = {}
    for model, at, why in r.failed:
        failed.setdefault(f"{model}: {why}", []).append(f"{at:%Y-%m-%d}")
    rows += [
        f'<tr><th scope="row">model</th><td class="words">no opinion: {text(why)}</td>'
        f"<td>{len(days)} days from {days[0]}</td></tr>"
        for why, days in failed.items()
    ]
    if not rows:
        return card("Degraded inputs", '<p class="note">Nothing was left out, masked or repaired.</p>')
    shown = rows[:MOST_ROWS]
    more = f'<p class="note">{len(rows) - len(shown):,} more in the JSON report.</p>' if len(rows) > len(shown) else ""
    return card("Degraded inputs", f"{table(('series', 'what', 'days'), shown, left=('what',))}{more}")


def _all(r: Report) -> str:
    champion = [one for one in r.scores if one.model == CHAMPION]
    order = sorted(champion, key=lambda one: (list(r.horizons_s).index(one.horizon), -(one.mase or 0.0)))
    rows = [
        f'<tr><th scope="row">{text(one.series)}</th><td>{text(one.horizon)}</td>'
        + "".join(
            number(f"scores/{one.series}/{one.horizon}/{field}", getattr(one, field), form)
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
    return card(
        "Every series",
        "<details><summary>The champion by series and horizon, the worst first</summary>"
        f"{table(columns, rows)}{left}</details>",
    )
