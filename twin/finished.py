"""Requests that ended: what serving hands on to the score and to the instruments."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ColdaisleError
from twin.serving import DONE_LIMIT, Done

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Requests that ended within some seconds; arrays of one length. Times are seconds from the run's start."""

    instance: Ints
    arrival_s: Floats
    first_s: Floats
    """NaN = rejected"""
    end_s: Floats
    prompt: Ints
    output: Ints
    ok: NDArray[np.bool_]
    """within both objectives"""


def taken(done: Done, ttft_slo_s: Floats, tbt_slo_s: Floats) -> Finished:
    """Copy out what `done` holds, judged by its instances' objectives [I].

    ColdaisleError when more requests ended than `done` had room for.
    """
    n = int(done.total[0])
    if n > DONE_LIMIT:
        raise ColdaisleError(f"{n} requests ended within one second: at most {DONE_LIMIT}; lower peak_rps")
    instance, arrival_s, first_s = done.instance[:n].copy(), done.arrival_s[:n].copy(), done.first_s[:n].copy()
    end_s, output = done.end_s[:n].copy(), done.output[:n].copy()
    tbt_s = (end_s - first_s) / np.maximum(1, output - 1)
    return Finished(
        instance=instance,
        arrival_s=arrival_s,
        first_s=first_s,
        end_s=end_s,
        prompt=done.prompt[:n].copy(),
        output=output,
        ok=(first_s - arrival_s <= ttft_slo_s[instance]) & (tbt_s <= tbt_slo_s[instance]),
    )


def joined(parts: Iterable[Finished]) -> Finished:
    """Put at least one part after the other."""
    kept = list(parts)
    return Finished(**{f.name: np.concatenate([getattr(part, f.name) for part in kept]) for f in fields(Finished)})
