"""`coldaisle sql`: the live history, from a terminal or a script."""

import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coldaisle.options import STATE
from contracts.errors import InputError

if TYPE_CHECKING:
    import polars as pl

TABLE: dict[str, Any] = {
    "tbl_rows": 200,
    "tbl_cols": 40,
    "fmt_str_lengths": 120,
    "tbl_hide_dataframe_shape": True,
    "tbl_hide_column_data_types": True,
}


@click.command(name="sql")
@click.argument("statement", required=False)
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read the statement from a file.")
@click.option("--query", help="A question of the query book; `--query list` names them.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A $parameter of the statement; may be repeated.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--json", "form", flag_value="json", help="Print one JSON object a row.")
@click.option("--parquet", type=click.Path(path_type=Path), help="Write a Parquet file.")
@STATE
def sql_command(
    statement: str | None,
    file: Path | None,
    query: str | None,
    params: tuple[str, ...],
    form: str | None,
    parquet: Path | None,
    state: Path | None,
) -> None:
    """Ask the live history; without --state the newest running one on this machine.

    \b
    Examples: coldaisle sql "SELECT * FROM row_power ORDER BY ts DESC LIMIT 4"
              coldaisle sql --query headroom --csv
              coldaisle sql --query cap_story --param node=n012
    """
    import sql
    from ingest.history.client import HttpHistory, find_owner

    if query == "list":
        for name in sql.names("queries"):
            click.echo(f"{name:<20} {sql.query(name).title}")
        return
    values = dict(_param(text) for text in params)
    if sum(map(bool, (statement, file, query))) != 1:
        raise InputError("give one of: a statement, --file FILE, --query NAME (coldaisle sql --query list)")
    if query is not None:
        try:
            question = sql.query(query)
            statement, values = question.text, question.bind(values)
        except KeyError as error:
            raise InputError(f"--query {query}: {error.args[0]}") from None
    text = statement or (file.read_text() if file else "")
    show(HttpHistory(*find_owner(state)).query(text, values), form, parquet)


def _param(text: str) -> tuple[str, object]:
    name, mark, value = text.partition("=")
    if not mark:
        raise InputError(f"--param {text}: write NAME=VALUE")
    for kind in (int, float, datetime.fromisoformat):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def show(frame: "pl.DataFrame", form: str | None, parquet: Path | None) -> None:
    """Print a frame as a table, CSV or JSON lines, or write it as Parquet."""
    import polars as pl

    if parquet is not None:
        frame.write_parquet(parquet)
        click.echo(f"{frame.height} rows in {parquet}", err=True)
    elif form == "csv":
        sys.stdout.write(frame.write_csv())
    elif form == "json":
        sys.stdout.write(frame.write_ndjson())
    else:
        with pl.Config(**TABLE, tbl_width_chars=shutil.get_terminal_size((400, 50)).columns):
            click.echo(str(frame))
        click.echo(f"({frame.height} rows)")


ALL: tuple[click.Command, ...] = (sql_command,)
