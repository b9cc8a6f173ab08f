"""`coldaisle twin`: a site replayed without control, one operating point, agreement with what is known."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coldaisle.options import DATA, REPORT, Duration
from contracts.errors import ConfigError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from twin.validate.agreement import Agreement

JSON = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of tables.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws units, tenants and requests.")
CLASSES = ("SS", "SM", "SL", "MS", "MM", "ML", "LS", "LM", "LL")
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def twin() -> None:
    """A simulated datacenter of LLM inference: requests one by one, power, heat and failures.

    \b
    Example: coldaisle twin run --servers 80 --for 1h
    """


@twin.command()
@click.option(
    "--servers", type=click.IntRange(1, 100_000), help="How many; else as the scenario says. Limits grow with the row."
)
@click.option("--for", "for_s", type=Duration(), default="1h", show_default=True, help="Simulated time, e.g. 20m, 24h, 7d.")
@click.option("--saas", type=click.FloatRange(0, 1), help="Share of the servers that serve requests; the others are opaque.")
@click.option("--calibration", help="Of serving: modern, llama2-70b-2023, or a TOML file.")
@click.option("--start", metavar="peak|TIME", help="The day's highest hour, or a time such as 2026-07-15T14:00 (UTC).")
@click.option("--scenario", default="azure-week", show_default=True, metavar="NAME|FILE", help="What the site is, what fails.")
@click.option("--step", type=click.Choice(["1", "5"]), default="1", show_default=True, help="Seconds between updates of heat.")
@SEED
@DATA
@click.option(
    "--map", "maps", type=FILE, multiple=True, help="Draw the run: a picture (.png) or a page (.html); may be repeated."
)
@click.option("--series", type=FILE, help="Write row power and hottest GPU by the minute (.parquet).")
@REPORT
@JSON
def run(report: Path | None, as_json: bool, step: str, **chosen: Any) -> None:
    """Replay a site without control and say what came of it.

    \b
    Examples: coldaisle twin run --servers 80 --for 1h --start peak
              coldaisle twin run --servers 1000 --for 7d --report week.json
              coldaisle twin run --servers 80 --for 1h --saas 0.5 --calibration llama2-70b-2023
              coldaisle twin run --scenario demo --for 20m --map map.html --map map.png --series rows.parquet
    """
    from rich.console import Console

    from coldaisle import twin_run as it
    from coldaisle import twin_tables

    check_folder("--report", report)
    result = it.run(it.Options(step_s=int(step), **chosen), Console(stderr=True))
    tell(result, report, as_json, lambda: twin_tables.run_tables(result))


@twin.command()
@click.option("--gpu", required=True, metavar="NAME|FILE", help="Server profile: h100, a100, or a TOML file.")
@click.option("--model", required=True, help="A model, or a calibration whose first model is meant: llama2-70b-2023.")
@click.option("--calibration", help="Of serving; absent = the first that has the model.")
@click.option("--tp", type=click.IntRange(1, 64), default=8, show_default=True, help="GPUs of the instance.")
@click.option("--quantisation", type=click.Choice(["fp16", "fp8"]), default="fp16", show_default=True)
@click.option("--freq", "freq_mhz", type=click.FloatRange(min=0, min_open=True), help="SM clock, MHz; absent = the highest.")
@click.option(
    "--class",
    "request_class",
    type=click.Choice(CLASSES),
    help="Requests of this class alone (prompt, output).",
)
@click.option("--rps", type=click.FloatRange(min=0, min_open=True), required=True, help="Requests/s that the instance gets.")
@click.option("--inlet", "inlet_c", type=click.FloatRange(-10, 60), default=22.0, show_default=True, help="Inlet air, degC.")
@SEED
@DATA
@REPORT
@JSON
def profile(report: Path | None, as_json: bool, **chosen: Any) -> None:
    """One instance at one clock under one load: power, latencies, hottest GPU, and whether its objectives hold.

    Objectives are DynamoLLM's Table IV where a class is named, else 5 times an unloaded request.

    \b
    Example: coldaisle twin profile --gpu h100 --model llama2-70b-2023 --tp 8 --freq 1200 --class MM --rps 2
    """
    from coldaisle import twin_profile as it
    from coldaisle import twin_tables

    check_folder("--report", report)
    result = it.answer(it.Options(**chosen))
    tell(result, report, as_json, lambda: twin_tables.profile_tables(result))


@twin.command()
@click.option("--only", multiple=True, metavar="NAME", help="Only this check; may be repeated. An unknown name lists them.")
@DATA
@REPORT
@JSON
def validate(only: tuple[str, ...], data: Path | None, report: Path | None, as_json: bool) -> None:
    """Compare the twin with what is known: published figures, tables and open measurements.

    Each figure is fitted (it chose constants), checked (constants came from elsewhere) or blind (looked at last). Exit
    status 1 when one is off its bound. Checks that need the data folder are skipped without it.

    \b
    Examples: coldaisle twin validate --data DIR --report agreement.json
              coldaisle twin validate --only tapas
    """
    from rich.console import Console

    from coldaisle import twin_tables
    from twin.validate import agreement

    check_folder("--report", report)
    unknown = set(only) - set(known := agreement.checks())
    if unknown:
        raise InputError(f"--only {min(unknown)}: no such check; there are {', '.join(known)}")
    with _progress(Console(stderr=True)) as progress:
        found = agreement.run(data, only, progress)
    result = {"agreements": agreement.as_json(plain(one) for one in found)}
    tell(result, report, as_json, lambda: twin_tables.agreement_tables(found))
    if any(one.outcome == "off" for one in found):
        raise SystemExit(1)


def plain(one: "Agreement") -> "Agreement":
    """Return the same with Python's own numbers: what was measured often comes as numpy's, which JSON does not know."""
    import msgspec

    numbers = {name: getattr(one, name) for name in ("measured", "published", "low", "high")}
    return msgspec.structs.replace(one, **{name: None if n is None else float(n) for name, n in numbers.items()})


@contextmanager
def _progress(console: Any) -> Iterator[Any]:
    """Yield a function (check, done, all) that shows which check is running."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


def check_folder(option: str, file: Path | None) -> None:
    """Raise ConfigError when the folder of a file to be written is not there: before anything runs, not after."""
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"{option} {file}: there is no folder {file.parent}")


def tell(result: Any, report: Path | None, as_json: bool, tables: Callable[[], "list[str | Table]"]) -> None:
    """Write `result` as JSON to `report`; print it as JSON, or as tables."""
    import msgspec

    from coldaisle.twin_tables import console

    text = msgspec.json.format(msgspec.json.encode(result)).decode()
    if report is not None:
        report.write_text(text + "\n")
    if as_json:
        click.echo(text)
    else:
        console().print(*tables(), sep="\n")


ALL: tuple[click.Command, ...] = (twin,)
