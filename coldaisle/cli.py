"""The command line. Every command: one-line errors, exit status 0 ok, 1 the answer is "no", 2 wrong usage."""

import sys

import click

from coldaisle import commands, commands_control, commands_forecast, commands_sql, commands_twin
from contracts.errors import ColdaisleError


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


for _command in (*commands.ALL, *commands_control.ALL, *commands_forecast.ALL, *commands_sql.ALL, *commands_twin.ALL):
    cli.add_command(_command)


def main() -> None:
    """Entry point: turns our errors into one line and an exit status."""
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
