"""Which rows of a frame tell of which things of a topology, remembered as long as the very same columns of names come."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from contracts.view import Index
from control.columns import positions

T = TypeVar("T")

MOST = 4096
"""columns of names that are remembered"""


class Places(NamedTuple):
    """Rows of a frame, and the things that they tell of."""

    rows: Any
    """[n] or a slice"""
    things: Any
    """[n] or a slice: the thing of each of these rows"""
    once: bool
    """no thing stands twice"""


class Memory:
    """What was made of columns; a column is the same when it is the same object (and nobody writes to it)."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._known: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] = {}

    def of(self, what: str, columns: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return what `make` made of the columns, this time or before."""
        key = (what, *map(id, columns))  # the columns are kept, so that no other can have their place in memory
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST:
                self._known.clear()
            found = self._known[key] = (columns, make())
        made: T = found[1]
        return made


def places(things: NDArray[np.int64]) -> Places:
    """Return the places of a frame whose row k tells of `things[k]`, -1 = of none."""
    rows = np.flatnonzero(things >= 0)
    found = things[rows]
    return Places(_slice(rows), _slice(found), len(np.unique(found)) == len(found))


def _slice(numbers: NDArray[np.int64]) -> Any:
    """The same as a slice, where one follows the other."""
    if len(numbers) and (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def named(column: Any, names: Mapping[str, int]) -> Places:
    """Return the places of names."""
    return places(positions(column, names))


def gpus(node: Any, number: NDArray[Any], index: Index) -> NDArray[np.int64]:
    """Return the position of each GPU by node and number, -1 = not in the topology."""
    server, first = positions(node, index.server), index.gpu_first
    if len(first) < 2:
        return np.full(len(server), -1, dtype=np.int64)
    inside = (server >= 0) & (number >= 0) & (number < np.diff(first)[server])
    return np.where(inside, first[server] + np.where(inside, number, 0), -1).astype(np.int64)


def units(kind: Any, unit: Any, index: Index) -> dict[str, Places]:
    """Return the places of each kind that has any; the site has but one."""
    of = {"row": index.row, "aisle": index.aisle, "ups": index.ups, "ahu": index.ahu, "site": {}}
    kinds = positions(kind, {name: k for k, name in enumerate(of)})
    found = {}
    for k, (name, names) in enumerate(of.items()):
        here = 0 if name == "site" else positions(unit, names)
        things = np.where(kinds == k, here, -1)
        if (things >= 0).any():
            found[name] = places(things)
    return found
