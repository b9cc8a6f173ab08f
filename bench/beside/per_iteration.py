"""One serving instance, iteration by iteration, in plain Python: how such a simulator is written where speed is no concern.

The twin's chunked scheduler (docs/twin.md) at the highest clock, with one priority, nothing cached and no preemption: a load
that fills the KV cache is refused. It shares no code with the twin."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BLOCK_TOKENS = 16


@dataclass(eq=False)
class Request:
    """Times in s."""

    arrival_s: float
    prompt: int
    output: int
    done: int = 0
    """prompt tokens computed"""
    made: int = 0
    first_s: float = 0.0
    end_s: float = 0.0

    @property
    def blocks(self) -> int:
        """KV blocks at its longest."""
        return -(-(self.prompt + self.output) // BLOCK_TOKENS)


def serve(costs: Any, requests: Sequence[Request]) -> None:
    """Serve all requests (in order of arrival) to their last token; their times are written into them.

    `costs` has the names of a `twin.points.Point`. ValueError when the KV cache is full.
    """
    waiting: deque[Request] = deque()
    prompts: list[Request] = []
    decoding: list[Request] = []
    now, position, blocks = 0.0, 0, 0
    while position < len(requests) or waiting or prompts or decoding:
        if not (waiting or prompts or decoding):
            now = max(now, requests[position].arrival_s)
        while position < len(requests) and requests[position].arrival_s <= now:
            waiting.append(requests[position])
            position += 1
        budget = costs.token_budget - len(decoding)
        while waiting and len(prompts) + len(decoding) < costs.batch_limit and budget > sum(r.prompt - r.done for r in prompts):
            blocks += waiting[0].blocks
            if blocks > costs.kv_blocks:
                raise ValueError("the load fills the KV cache: this simulator does not preempt")
            prompts.append(waiting.popleft())
        now = _iterate(costs, prompts, decoding, budget, now)
        for ended in [r for r in decoding if r.made >= r.output]:
            ended.end_s = now
            blocks -= ended.blocks
            decoding.remove(ended)


def _iterate(costs: Any, prompts: list[Request], decoding: list[Request], budget: int, now: float) -> float:
    """Run one iteration: a token for each decoding request, and prompts as far as the budget goes. Return its end."""
    time_s = costs.p0
    if decoding:
        context = sum(r.prompt + r.made for r in decoding)
        time_s = costs.d0 + costs.d1 * len(decoding) + costs.d2 * context
    for r in prompts:
        part = min(r.prompt - r.done, budget)
        time_s += costs.p1 * part + costs.p2 * ((r.done + part) ** 2 - r.done**2)
        budget -= part
        r.done += part
    now += time_s
    for r in decoding:
        r.made += 1
    for r in [r for r in prompts if r.done == r.prompt]:
        r.made, r.first_s = 1, now
        prompts.remove(r)
        decoding.append(r)
    return now
