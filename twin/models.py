"""Serving calibrations: a point for each (model, GPU, tensor parallelism, quantisation) that was measured or derived.

They are TOML: shipped ones in `calibrations/`, a user's own by its path. A file says what its GPUs and models are, then gives
points that refer to them. Its figures bear marks and sources there.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from contracts.errors import ConfigError
from twin.points import (
    BLOCK_TOKENS,
    CLOCKS,
    DECODE,
    POINT,
    PREFILL,
    Count,
    Point,
    Positive,
    relative_power,
    relative_time,
    table,
)
from twin.tomlfile import convert, read, shipped

__all__ = ["DECODE", "POINT", "PREFILL", "Calibration", "Point", "load", "relative_power", "relative_time", "table"]

FOLDER = Path(__file__).parent / "calibrations"
MEMORY_SHARE = 0.9
"""of the GPUs' memory may be used (vLLM's default)"""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """All points of one serving software."""

    name: str
    points: tuple[Point, ...]

    def point(self, model: str, gpu: str, tp: int, quantisation: str = "fp16") -> Point:
        """Return the point of a configuration; ConfigError names what there is."""
        for point in self.points:
            if (point.model, point.gpu, point.tp, point.quantisation) == (model, gpu, tp, quantisation):
                return point
        there = ", ".join(each.label for each in self.points)
        raise ConfigError(f"{self.name}: no {model} {gpu} TP{tp} {quantisation}; there are {there}")


class _Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    memory_gib: Positive
    clock_mhz: tuple[Positive, ...]
    decode_time: tuple[Positive, ...]
    prefill_time: tuple[Positive, ...]
    power: tuple[Positive, ...]


class _Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    weights_gb: dict[str, Positive]
    """by quantisation; 1e9 bytes"""
    kv_bytes: Positive
    """per token, all GPUs together"""
    quality: dict[str, float]
    """by quantisation"""


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: str
    gpu: str
    tp: Count
    quantisation: str = "fp16"
    prefill_s: tuple[float, float, float]
    """p0, p1, p2"""
    decode_s: tuple[float, float, float]
    """d0, d1, d2"""
    prefill_w: float
    decode_w: tuple[float, float, float]
    """base, span, half batch"""
    loaded_w: float
    batch_limit: Count | None = None

    @property
    def label(self) -> str:
        return f"points: {self.model} {self.gpu} TP{self.tp} {self.quantisation}"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    chunked: bool
    token_budget: Count
    batch_limit: Count
    gpus: dict[str, _Gpu]
    models: dict[str, _Model]
    points: tuple[_Row, ...]


def load(name_or_path: str | Path) -> Calibration:
    """Return a shipped calibration by its name, or one from a TOML file. ConfigError names file, key and what is allowed."""
    path = shipped(FOLDER, str(name_or_path), "calibration")
    file = convert(read(path), _File, path.name)
    for name, gpu in file.gpus.items():
        _check_clocks(f"{path.name}: gpus.{name}", gpu)
    points = tuple(_point(path.name, file, row) for row in file.points)
    _check_once(path.name, points)
    return Calibration(name=file.name, points=points)


def _check_clocks(where: str, gpu: _Gpu) -> None:
    clocks = gpu.clock_mhz
    if not 2 <= len(clocks) <= CLOCKS or any(low >= high for low, high in pairwise(clocks)):
        raise ConfigError(f"{where}.clock_mhz: give 2 to {CLOCKS} rising clocks")
    for key in ("decode_time", "prefill_time", "power"):
        values = getattr(gpu, key)
        if len(values) != len(clocks) or values[-1] != 1.0:
            raise ConfigError(f"{where}.{key}: give one value per clock, 1 at the highest")
    if any(later > earlier for key in ("decode_time", "prefill_time") for earlier, later in pairwise(getattr(gpu, key))):
        raise ConfigError(f"{where}: decode_time and prefill_time may not rise with the clock")
    if any(later < earlier for earlier, later in pairwise(gpu.power)):
        raise ConfigError(f"{where}: power may not fall with the clock")


def _check_once(where: str, points: tuple[Point, ...]) -> None:
    labels = [point.label for point in points]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"{where}: points: twice: {', '.join(twice)}")


def _point(where: str, file: _File, row: _Row) -> Point:
    known: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("gpu", row.gpu, dict(file.gpus)),
        ("model", row.model, dict(file.models)),
    )
    for key, name, there in known:
        if name not in there:
            raise ConfigError(f"{where}: {row.label}: {key} = {name!r}: the file has {', '.join(there)}")
    gpu, model = file.gpus[row.gpu], file.models[row.model]
    for key, by_quantisation in (("weights_gb", model.weights_gb), ("quality", model.quality)):
        if row.quantisation not in by_quantisation:
            raise ConfigError(f"{where}: models.{row.model}.{key}: nothing for {row.quantisation!r}")
    values = _named(row) | {key: getattr(gpu, key) for key in ("clock_mhz", "decode_time", "prefill_time", "power")}
    values |= {"token_budget": file.token_budget, "chunked": file.chunked, "batch_limit": row.batch_limit or file.batch_limit}
    values |= {"kv_blocks": _kv_blocks(where, gpu, model, row), "quality": model.quality[row.quantisation]}
    return convert(values, Point, f"{where}: {row.label}")


def _named(row: _Row) -> dict[str, Any]:
    values: dict[str, Any] = {key: getattr(row, key) for key in ("model", "gpu", "tp", "quantisation", "prefill_w", "loaded_w")}
    values |= dict(zip(("p0", "p1", "p2"), row.prefill_s, strict=True))
    values |= dict(zip(("d0", "d1", "d2"), row.decode_s, strict=True))
    return values | dict(zip(("decode_base_w", "decode_span_w", "decode_half_batch"), row.decode_w, strict=True))


def _kv_blocks(where: str, gpu: _Gpu, model: _Model, row: _Row) -> int:
    """Return the blocks that fit beside the weights: (90 % of the memory - weights) / bytes of a token / 16."""
    weights_gb = model.weights_gb[row.quantisation]
    free = MEMORY_SHARE * row.tp * gpu.memory_gib * 2**30 - weights_gb * 1e9
    blocks = int(free / model.kv_bytes / BLOCK_TOKENS)
    if blocks < 1:
        raise ConfigError(f"{where}: {row.label}: {weights_gb:g} GB of weights leave no room for the KV cache")
    return blocks
