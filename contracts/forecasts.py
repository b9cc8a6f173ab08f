"""Forecasts: calibrated distributions over time, with their provenance; a block holds those of one target issued together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Target = Literal[
    "load",
    "prompt_tok",
    "output_tok",
    "inlet",
    "power",
    "server_power",
    "ups_power",
    "gpu_temp",
    "airflow",
    "headroom",
    "row_max",
]

LEVELS: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
ROW_POWER_LEVELS: tuple[float, ...] = (*LEVELS, 0.999)
MAXIMUM_LEVELS: tuple[float, ...] = (0.5, 0.9, 0.99, 0.999, 0.9999)
"""of a row's highest power over an actuator's latency"""

UNITS: dict[Target, str] = {
    "load": "1/s",
    "prompt_tok": "tokens/s",
    "output_tok": "tokens/s",
    "inlet": "degC",
    "power": "W",
    "server_power": "W",
    "ups_power": "W",
    "gpu_temp": "degC",
    "airflow": "CFM",
    "headroom": "W",
    "row_max": "W",
}


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """One series' future. Times aware UTC, run clock; `values[t][q]` belongs to `valid_at[t]` and `levels[q]`."""

    forecast_id: str
    target: Target
    series: str
    """load, prompt_tok, output_tok: endpoint, or endpoint/class; inlet, server_power: server; gpu_temp: server (hottest GPU) or
    server/gpu3; power, headroom, row_max: row; ups_power: UPS; airflow: aisle"""
    model: str
    champion: bool
    issued_at: datetime
    data_until: datetime
    unit: str
    valid_at: tuple[datetime, ...]
    """END of the interval whose mean is meant; of row_max the window from issued_at whose highest power is meant"""
    levels: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    degradations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Forecasts of many series of one target, issued together, as arrays. Arrays must not be written to."""

    target: Target
    champion: bool
    issued_at: datetime
    lead_s: NDArray[np.float64]
    """[H] rising; from issued_at to what is forecast"""
    levels: tuple[float, ...]
    names: tuple[str, ...]
    """[S]"""
    ids: tuple[str, ...]
    """[S] forecast ids"""
    values: NDArray[np.float64]
    """[S, H, L]; NaN where there is no opinion"""
    data_until_s: NDArray[np.int64]
    """[S] newest observation used, seconds since 1970 UTC"""
    models: tuple[str, ...]
    """[S]"""
    notes: tuple[tuple[str, ...], ...]
    """[S] why a forecast is worse than usual"""

    @cached_property
    def position(self) -> dict[str, int]:
        """Name -> position."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """[S, H] where there is an opinion."""
        return np.asarray(np.isfinite(self.values).all(axis=2), dtype=np.bool_)

    @cached_property
    def spoken(self) -> NDArray[np.bool_]:
        """[S] which series have an opinion on anything."""
        return np.asarray(self.known.any(axis=1), dtype=np.bool_)

    def rows(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the position of each of `names`; -1 = not forecast here."""
        if len(names) == len(self.names) and tuple(names) == self.names:
            return np.arange(len(self.names), dtype=np.int64)
        return np.array([self.position.get(name, -1) for name in names], dtype=np.int64)

    def forecasts(self) -> list[Forecast]:
        """Return one record per series that has an opinion."""
        return [self.forecast(int(i)) for i in np.flatnonzero(self.spoken)]

    @cached_property
    def _times(self) -> list[datetime]:
        return [self.issued_at + timedelta(seconds=float(lead)) for lead in self.lead_s]

    def forecast(self, i: int) -> Forecast:
        """Return the record of the series at position `i`."""
        known = self.known[i]
        return Forecast(
            forecast_id=self.ids[i],
            target=self.target,
            series=self.names[i],
            model=self.models[i],
            champion=self.champion,
            issued_at=self.issued_at,
            data_until=datetime.fromtimestamp(int(self.data_until_s[i]), UTC),
            unit=UNITS[self.target],
            valid_at=tuple(at for at, ok in zip(self._times, known, strict=True) if ok),
            levels=self.levels,
            values=tuple(map(tuple, self.values[i][known].tolist())),
            degradations=self.notes[i],
        )


def block_of(forecasts: Sequence[Forecast]) -> Block:
    """Return records of one target, one issue and one set of levels as a block. Raises ValueError where they are not."""
    first = forecasts[0]
    alike = {(f.target, f.champion, f.issued_at, f.levels) for f in forecasts}
    if len(alike) > 1:
        raise ValueError(f"{first.target}: {len(alike)} kinds of forecast in one block (target, champion, issue, levels)")
    times = sorted({at for forecast in forecasts for at in forecast.valid_at})
    column = {at: h for h, at in enumerate(times)}
    values = np.full((len(forecasts), len(times), len(first.levels)), np.nan)
    for i, forecast in enumerate(forecasts):
        values[i, [column[at] for at in forecast.valid_at]] = forecast.values
    return Block(
        target=first.target,
        champion=first.champion,
        issued_at=first.issued_at,
        lead_s=np.array([(at - first.issued_at).total_seconds() for at in times]),
        levels=first.levels,
        names=tuple(f.series for f in forecasts),
        ids=tuple(f.forecast_id for f in forecasts),
        values=values,
        data_until_s=np.array([int(f.data_until.timestamp()) for f in forecasts], dtype=np.int64),
        models=tuple(f.model for f in forecasts),
        notes=tuple(f.degradations for f in forecasts),
    )


@dataclass(frozen=True)
class Forecasts:
    """The newest champions of every series: blocks by target, newest first."""

    blocks: dict[str, tuple[Block, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of series with a forecast."""
        return sum(len({name for block in mine for name in block.names}) for mine in self.blocks.values())

    def of(self, target: str) -> tuple[Block, ...]:
        """Return the blocks of a target, newest first; a series counts in the first that has it."""
        return self.blocks.get(target, ())

    def newest(self, target: str, series: str) -> Forecast | None:
        """Return the newest forecast of one series."""
        for block in self.of(target):
            if (i := block.position.get(series)) is not None:
                return block.forecast(i)
        return None

    def with_blocks(self, blocks: Iterable[Block]) -> "Forecasts":
        """Return these with `blocks` of champions among them; a block of which every series is newer elsewhere goes."""
        found = dict(self.blocks)
        for block in blocks:
            found[block.target] = _superseded((block, *found.get(block.target, ())))
        return Forecasts(found)


def _superseded(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Return the blocks in order of issue, the newest first (of one moment the last to come), without those outdone."""
    kept: list[Block] = []
    seen: set[str] = set()
    for block in sorted(blocks, key=lambda b: b.issued_at, reverse=True):
        if not seen.issuperset(block.names):
            kept.append(block)
            seen.update(block.names)
    return tuple(kept)
