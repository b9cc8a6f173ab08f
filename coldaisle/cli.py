"""The command line. Every command: one-line errors, exit status 0 ok, 1 the answer is "no", 2 wrong usage."""

import sys
from pathlib import Path
from typing import Any, ClassVar

import click

from contracts.errors import ColdaisleError

CONFIG = click.option("--config", type=click.Path(path_type=Path), required=True, help="Settings, a TOML file.")
REPORT = click.option("--report", type=click.Path(path_type=Path), help="Write the report as JSON to this file.")
STATE = click.option(
    "--state", type=click.Path(path_type=Path), envvar="COLDAISLE_STATE", help="Folder for all that is written."
)
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="COLDAISLE_DATA",
    help="Reference data, read only.",
)


class Duration(click.ParamType[float]):
    """`90`, `120s`, `15m`, `24h`, `7d` as seconds."""

    name = "duration"
    _unit_s: ClassVar = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        number, unit = (value[:-1], value[-1]) if value[-1:] in self._unit_s else (value, "s")
        try:
            seconds = float(number) * self._unit_s[unit]
        except ValueError:
            self.fail(f"{value!r} is no duration; write 90, 120s, 15m, 24h or 7d", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} must be above 0", param, ctx)
        return seconds


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="coldaisle")
@click.option("--debug", is_flag=True, help="Show the whole trace of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Keeps GPU inference clusters inside their power and cooling limits by acting before a limit is reached.

    \b
    Try it on this machine:   coldaisle demo
    Ask its history:          coldaisle sql "SELECT * FROM row_power ORDER BY ts DESC LIMIT 4"
    """
    ctx.obj = debug


def main() -> None:
    """Entry point: turns our errors into one line and an exit status."""
    from coldaisle import commands  # noqa: F401  (registers the commands; keeps `--version` instant)

    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ColdaisleError as error:
        if "--debug" in sys.argv:
            raise
        print(f"coldaisle: {error}", file=sys.stderr)
        sys.exit(error.status)
