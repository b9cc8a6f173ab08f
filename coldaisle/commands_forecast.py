"""`coldaisle forecast` and `coldaisle backtest`: one forecast of the running system; scores on any long table."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from coldaisle.options import REPORT, STATE, Duration
from contracts.errors import InputError
from contracts.forecasts import Target

if TYPE_CHECKING:
    import polars as pl

FILE = click.Path(path_type=Path, dir_okay=False)
TARGETS: tuple[str, ...] = get_args(Target)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@click.command()
@click.argument("target_word", metavar="[TARGET]", required=False)
@click.argument("series_word", metavar="[SERIES]", required=False)
@click.option("--target", type=click.Choice(TARGETS), help="Of what; the same as TARGET.")
@click.option("--series", help="Endpoint, server, row, ...; the same as SERIES.")
@click.option("--picture", type=FILE, help="Draw it beside the last day: a picture (.svg, .png).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a time forecast.")
@STATE
def forecast(
    target_word: str | None,
    series_word: str | None,
    target: str | None,
    series: str | None,
    picture: Path | None,
    as_json: bool,
    state: Path | None,
) -> None:
    """The newest champion forecast of a series: its quantiles by time, the models, and what makes it worse than usual.

    \b
    Examples: coldaisle forecast power row-1
              coldaisle forecast --target load --series chat-1 --picture chat-1.svg
    """
    from coldaisle import forecast_shown as it
    from coldaisle.commands_twin import check_folder
    from coldaisle.twin_tables import console
    from ingest.history.client import HttpHistory, find_owner

    what, which = target or target_word, series or series_word
    if what is None or which is None:
        raise InputError("name a target and a series: coldaisle forecast power row-1")
    if what not in TARGETS:
        raise InputError(f"{what}: no such target; there are {', '.join(TARGETS)}")
    check_picture("--picture", picture, (".svg", ".png"))
    check_folder("--picture", picture)
    with HttpHistory(*find_owner(state)) as history:
        found = it.newest(history, what, which)
        if picture is not None:
            it.draw(found, it.last_day(history, found), picture)
    if as_json:
        click.echo(it.json_lines(found), nl=False)
    else:
        console().print(*it.tables(found, console().width), sep="\n")


@click.command()
@click.option(
    "--series", "file", type=FILE, help="A long table, Parquet or CSV: ts (END of the interval), series, value[, gap]."
)
@click.option("--history", is_flag=True, help="The live history in place of a file; without --state this machine's newest.")
@click.option("--since", type=Duration(), default="14d", show_default=True, help="How much of the history, e.g. 28d.")
@click.option("--target", type=click.Choice(TARGETS), default="load", show_default=True, help="What the values are.")
@click.option("--horizons", default="15m,1h,24h", show_default=True, help="Comma-separated durations.")
@click.option("--step", type=Duration(), help="The grid; else a file's most frequent step, and 5m of the history.")
@click.option("--cutoff", metavar="TIME", help="Read nothing after this time, e.g. 2026-07-15T14:00 (UTC).")
@click.option("--test", type=click.FloatRange(0.05, 0.7), default=0.3, show_default=True, help="Share that is scored: the end.")
@click.option("--models", help="Comma-separated; else all. The naive ones always run.")
@click.option("--origins", type=click.IntRange(1, 1440), default=24, show_default=True, help="Moments a day to forecast from.")
@click.option("--workers", type=click.IntRange(1), help="Processes; else one a core. Figures do not depend on it.")
@click.option("--page", type=FILE, help="Write a page of pictures (.html).")
@REPORT
@JSON
@STATE
def backtest(
    file: Path | None,
    history: bool,
    since: float,
    target: str,
    horizons: str,
    step: float | None,
    cutoff: str | None,
    test: float,
    models: str | None,
    origins: int,
    workers: int | None,
    page: Path | None,
    report: Path | None,
    as_json: bool,
    state: Path | None,
) -> None:
    """Rolling-origin scores of every model beside persistence and seasonal-naive; no model sees past its origin.

    \b
    Examples: coldaisle backtest --series load.parquet --horizons 15m,1h,24h --report scores.json --page scores.html
              coldaisle backtest --history --target power --since 14d --page power.html
    """
    from rich.console import Console

    from coldaisle import backtest_run as it
    from coldaisle.commands_twin import check_folder, tell
    from coldaisle.forecast_tables import backtest_tables
    from forecast.backtest_series import tabled
    from forecast.backtest_tasks import plan

    check_picture("--page", page, (".html",))
    for option, path in (("--page", page), ("--report", report)):
        check_folder(option, path)
    wanted, until = seconds_of(horizons), None if cutoff is None else moment(cutoff)
    if (file is not None) == history:
        raise InputError("give one of: --series FILE, --history")
    frame = read(file) if file is not None else live(target, since, step, until, state)
    table = tabled(frame, target, step_s=None if step is None else int(step), cutoff=until)
    names = it.named(models)
    count = workers or it.cores()
    given = plan(table, wanted, models=names, origins_per_day=origins, test=test)
    if (split := it.split_for(len(given.tasks), count, len(given.models))) > 1:
        given = plan(table, wanted, models=names, origins_per_day=origins, test=test, split=split)
    result = it.backtested(given, count, Console(stderr=True))
    if page is not None:
        from coldaisle.forecast_page import html

        page.write_text(html(result, file.name if file is not None else "the live history"), encoding="utf-8")
    tell(result.report, report, as_json, lambda: backtest_tables(result.report))


def seconds_of(horizons: str) -> dict[str, int]:
    """Return label -> seconds of `15m,1h,24h`."""
    duration, labels = Duration(), [label.strip() for label in horizons.split(",") if label.strip()]
    if not labels:
        raise InputError(f"--horizons {horizons!r}: write durations like 15m,1h,24h")
    return {label: int(duration.convert(label, None, None)) for label in labels}


def moment(text: str) -> datetime:
    """Return a time of a command line; one without an offset is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--cutoff {text}: write a time like 2026-07-15T14:00 (UTC) or 2026-07-15T14:00+02:00") from None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def read(file: Path) -> "pl.DataFrame":
    """Return a long table from a Parquet or CSV file. InputError names the file and what is wrong."""
    import polars as pl

    if not file.is_file():
        raise InputError(f"--series {file}: there is no such file")
    try:
        if file.suffix == ".csv":
            return pl.read_csv(file, infer_schema_length=None)
        return pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        kind = "CSV" if file.suffix == ".csv" else "Parquet"
        raise InputError(f"--series {file}: no {kind} table: {str(error).splitlines()[0]}") from None


def live(target: str, since_s: float, step_s: float | None, until: datetime | None, state: Path | None) -> "pl.DataFrame":
    """Return the series of a target from the history, as of `until` or of the newest telemetry."""
    from ingest.history.client import HttpHistory, find_owner

    with HttpHistory(*find_owner(state)) as history:
        now = until
        if now is None:
            newest = history.query("SELECT ts FROM run_now").item()
            if newest is None:
                raise InputError("the history holds no telemetry yet: wait, or give --series FILE")
            now = newest.replace(tzinfo=UTC)
        frame = history.series(target, as_of=now, since=now - timedelta(seconds=since_s), step_s=int(step_s or 300))
    if frame.is_empty():
        raise InputError(f"the history holds no {target} in the {since_s / 86_400:g} days before {now:%Y-%m-%d %H:%M} UTC")
    return frame


def check_picture(option: str, file: Path | None, kinds: tuple[str, ...]) -> None:
    """Raise InputError for a file whose name does not end as its kind does: before anything runs, not after."""
    if file is not None and file.suffix not in kinds:
        raise InputError(f"{option} {file}: must end in {' or '.join(kinds)}")


ALL: tuple[click.Command, ...] = (forecast, backtest)
