"""What a site serves: services, the endpoints that stand for them, and which endpoint each SaaS server belongs to."""

from collections import Counter
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError
from contracts.topology import Name

Ints = NDArray[np.int64]

Tokens = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Quantisation = Literal["fp16", "fp8"]
Priority = Literal["high", "low"]


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One configuration of one model, and who asks for it."""

    name: Name
    endpoints: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    """services of this kind beside each other, with servers of their own; several are named NAME-1, NAME-2, ..."""
    model: Name
    tp: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """GPUs of an instance; a server carries gpus // tp of them"""
    quantisation: Quantisation = "fp16"
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """of the SaaS servers, all its endpoints together; the shares of all services make 1"""
    priority: Priority = "high"
    high_endpoints: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """the first so many endpoints have high priority and the others low; absent = all as `priority` says"""
    peak_rps: Positive | None = None
    """requests/s per instance in the day's highest hour; absent = the scenario's"""
    prompt_tokens: tuple[Tokens, Tokens] | None = None
    """[low, high], log-uniform; absent = the workload's lengths"""
    output_tokens: tuple[Tokens, Tokens] | None = None
    cached_share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """of the prompt's tokens that stand in the prefix cache, on average"""
    ttft_slo_s: Positive | None = None
    """absent = slo_factor times the unloaded first token"""
    tbt_slo_s: Positive | None = None


class Asked(NamedTuple):
    """One endpoint: its name, the position of its service, its priority, its share of the SaaS servers."""

    name: str
    service: int
    high: bool
    share: float


def endpoints(services: tuple[Service, ...]) -> tuple[Asked, ...]:
    """Return the endpoints of all services, in order."""
    asked = []
    for position, s in enumerate(services):
        high = (s.endpoints if s.priority == "high" else 0) if s.high_endpoints is None else s.high_endpoints
        for number in range(s.endpoints):
            name = s.name if s.endpoints == 1 and s.high_endpoints is None else f"{s.name}-{number + 1}"
            asked.append(Asked(name, position, number < high, s.share / s.endpoints))
    return tuple(asked)


def check(services: tuple[Service, ...], where: str) -> None:
    """Raise ConfigError for the first thing that cannot be, with `where` (the file) and key."""
    for i, s in enumerate(services):
        for key, pair in (("prompt_tokens", s.prompt_tokens), ("output_tokens", s.output_tokens)):
            if pair is not None and pair[0] > pair[1]:
                raise ConfigError(f"{where}: services[{i}].{key} = {list(pair)}: the first must not exceed the second")
        if s.high_endpoints is not None and s.high_endpoints > s.endpoints:
            raise ConfigError(f"{where}: services[{i}].high_endpoints = {s.high_endpoints}: must be 0 to {s.endpoints}")
    for name, count in Counter(e.name for e in endpoints(services)).items():
        if count > 1:
            raise ConfigError(f"{where}: services: the name {name!r} stands twice")
    total = sum(s.share for s in services)
    if abs(total - 1.0) > 1e-6:
        raise ConfigError(f"{where}: services: share: they make {total:g} together; must be 1")


def spread(shares: list[float], count: int) -> Ints:
    """Return for each of `count` servers its endpoint: a smooth weighted round robin, so that every stretch has the shares."""
    weight = np.array(shares)
    credit = np.zeros(len(shares))
    sequence = np.empty(count, dtype=np.int64)
    for i in range(count):
        credit += weight
        pick = int(np.argmax(np.round(credit, 9)))  # rounded, so that equal shares take turns in order
        credit[pick] -= 1.0
        sequence[i] = pick
    return sequence
