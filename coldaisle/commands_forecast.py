"""`coldaisle forecast` and `coldaisle backtest`: one forecast of the running system; scores on any long table."""

from pathlib import Path

import click

from coldaisle.options import REPORT, STATE, Duration
from contracts.errors import InputError

PARQUET = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--target", type=click.Choice(["load", "inlet", "power", "gpu_temp", "headroom"]), required=True, help="Of what.")
@click.option("--series", required=True, help="Endpoint (load), server (inlet, gpu_temp) or row (power, headroom).")
@click.option("--json", "form", flag_value="json", help="Print one JSON object a row.")
@STATE
def forecast(target: str, series: str, form: str | None, state: Path | None) -> None:
    """The newest champion forecast of a series: time, median and bands, and what makes it worse than usual.

    \b
    Example: coldaisle forecast --target power --series row-1
    """
    import sql
    from coldaisle.commands_sql import show
    from ingest.history.client import HttpHistory, find_owner

    frame = HttpHistory(*find_owner(state)).query(sql.query("forecast").text, {"target": target, "series": series})
    if frame.is_empty():
        raise InputError(f"no forecast of {target} for {series!r}: check the name (coldaisle sql --query forecast_error)")
    show(frame, form, None)


@click.command()
@click.option(
    "--series",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Parquet: ts, series, value.",
)
@click.option("--horizons", default="15m,1h,24h", show_default=True, help="Comma-separated durations.")
@click.option("--target", default="load", show_default=True, help="What the values are: load, inlet, power.")
@REPORT
def backtest(file: Path, horizons: str, target: str, report: Path | None) -> None:
    """Rolling-origin scores of every model beside persistence and seasonal-naive; no model sees past its origin.

    \b
    Example: coldaisle backtest --series load.parquet --horizons 15m,1h,24h --report scores.json
    """
    import msgspec
    import polars as pl

    from forecast.backtest import backtest as run

    try:
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"--series {file}: no Parquet table: {error}") from None
    duration = Duration()
    wanted = {label: int(duration.convert(label, None, None)) for label in horizons.split(",")}
    text = msgspec.json.format(msgspec.json.encode(run(frame, wanted, target=target))).decode()
    if report is not None:
        report.write_text(text + "\n")
    click.echo(text)


ALL: tuple[click.Command, ...] = (forecast, backtest)
