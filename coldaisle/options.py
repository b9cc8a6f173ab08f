"""Options that several commands share, and durations as people write them."""

from pathlib import Path
from typing import Any, ClassVar

import click

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
