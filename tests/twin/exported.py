"""What a world's exporters tell, as lists; each frame is allowed, and is the same by the fast way as by the long one."""

from datetime import timedelta
from typing import Any

import numpy as np

from contracts.ports import Collected
from contracts.schemas import SCHEMAS
from ingest.codec import decode, frame_of
from ingest.codec_pack import pack
from ingest.validate import check
from twin.world import World


def values(column: Any) -> list[Any]:
    found: list[Any] = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
    return found


def go(world: World, seconds: int) -> None:
    world.advance(world.now + timedelta(seconds=seconds))


def collect(world: World, made: list[Any]) -> dict[str, dict[str, list[Any]]]:
    """The columns of each topic; every frame is allowed, and goes the fast way."""
    frames: list[Collected] = [frame for e in made for frame in e.collect(world.now)]
    for frame in frames:
        long_way = frame_of(frame.topic, frame.columns)
        assert not check(frame.topic, long_way, world.now, "test").rejected
        packed = pack(frame.topic, frame.columns, world.now)
        assert (packed is None) == (frame.rows() == 0)
        assert packed is None or decode(frame.topic, packed, {}).equals(long_way)
        assert {c.name for c in SCHEMAS[frame.topic].columns if c.required} <= frame.columns.keys()
    return {frame.topic: {name: values(column) for name, column in frame.columns.items()} for frame in frames}


def by_unit(facility: dict[str, list[Any]], name: str) -> dict[tuple[str, str], Any]:
    return dict(zip(zip(facility["kind"], facility["unit"], strict=True), facility[name], strict=True))
