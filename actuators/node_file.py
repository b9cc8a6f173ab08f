"""The node's own file: what its owner lets an agent do. Nothing on the wire can widen it.

gpus = ["GPU-5f0e...", "NVIDIA H100 80GB HBM3"]   # opted in, by UUID or by product name; none = no GPU is touched
min_mhz = 800                                      # a cap below is raised to it
max_mhz = 1980                                     # a cap above is lowered to it
declared_lock_mhz = [345, 1755]                    # the owner's own lock, to which a revert returns; absent = reset
"""

import tomllib
from pathlib import Path
from typing import Annotated, Self

import msgspec

from contracts.control import ClockCap, Value
from contracts.errors import ConfigError

Mhz = Annotated[int, msgspec.Meta(gt=0, le=10_000)]


class NodeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Opt-in and bounds of one node."""

    gpus: tuple[str, ...] = ()
    """UUIDs or product names of the GPUs whose clocks may be capped"""
    min_mhz: Mhz = 1
    max_mhz: Mhz = 10_000
    declared_lock_mhz: tuple[Mhz, Mhz] | None = None
    """(min, max) of the owner's own lock of the clocks; None = they are not locked"""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the file's content; ConfigError names file, key and remedy."""
        try:
            found = msgspec.convert(tomllib.loads(path.read_text()), cls)
        except OSError as error:
            raise ConfigError(f"node file {path}: {error.strerror}; write one, or leave agent.node_file out") from None
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"node file {path}: {error}; keys are {', '.join(cls.__struct_fields__)}") from None
        low, high = found.declared_lock_mhz or (found.min_mhz, found.max_mhz)
        if found.min_mhz > found.max_mhz or low > high:
            raise ConfigError(
                f"node file {path}: min_mhz {found.min_mhz} to max_mhz {found.max_mhz}, lock {low} to {high}: swapped"
            )
        return found

    def opted_in(self, uuid: str, name: str) -> bool:
        """Return whether this GPU may be touched."""
        return uuid in self.gpus or name in self.gpus

    def narrow(self, value: Value) -> tuple[Value, str]:
        """Return `value` inside this file's bounds, and why it was changed (empty = it was not).

        A cap that asks for too much is brought to the bound and not refused: in an emergency, the lowest clock that the owner
        allows protects better than none.
        """
        if not isinstance(value, ClockCap):
            return value, ""
        mhz = min(max(value.max_mhz, float(self.min_mhz)), float(self.max_mhz))
        if mhz == value.max_mhz:
            return value, ""
        return ClockCap(max_mhz=mhz, gpus=value.gpus), f"{value.max_mhz:g} MHz asked, the node's file allows {mhz:g} MHz"
