"""The beginning of an iteration: room in the KV cache, preemption, which prompt tokens it takes."""

from twin.batching.book import Book, enter
from twin.batching.queue import MASK, REQUEST_BITS, come, next_in, out_of_line, put_first, put_last, release, to_fresh
from twin.batching.state import NOBODY, Instances, Log, Record, Records
from twin.compiled import bare, seldom

BLOCK_BITS = 4
"""a KV block holds 16 tokens"""
BLOCK = 1 << BLOCK_BITS


@bare
def join(s: Instances, points: Records, b: Book, log: Log, i: int) -> None:
    """Let those that have arrived by the boundary wait; reject whom the queue has no room for, or who can never fit."""
    h = s.inst[i]
    while h.soon_s <= h.at_s:
        k = come(s, i)
        r = s.requests[k]
        h.arrived += 1
        too_large = (r.prompt + r.output + BLOCK - 1) >> BLOCK_BITS > points[h.point].kv_blocks
        if too_large or h.waiting_low + h.waiting_high >= s.limit[0]:
            h.rejected += 1
            enter(s, b, log, i, k, r.arrival_s)
            release(s, k)
        else:
            put_last(s, i, k)


@bare
def prompt_blocks(r: Record) -> int:
    """Blocks that an admitted request holds before its first token: for its prompt and one token more."""
    return int((r.prompt + r.made + BLOCK) >> BLOCK_BITS)


@seldom
def blocks(s: Instances, i: int, more: int) -> int:
    """KV blocks of the decoding requests with `more` tokens each than they hold now."""
    h = s.inst[i]
    total = 0
    for j in range(h.decoding):
        due = s.due[i, j]
        r = s.requests[due & MASK]
        length = r.prompt + r.output - ((due >> REQUEST_BITS) - h.iteration) + more
        total += (length + BLOCK - 1) >> BLOCK_BITS
    return total


@bare
def blocks_bound(s: Instances, i: int, more: int) -> int:
    """At least `blocks(s, i, more)`, without a look at the requests."""
    h = s.inst[i]
    return int((h.context + h.decoding * (more + BLOCK - 1)) >> BLOCK_BITS)


@seldom
def make_room(s: Instances, points: Records, i: int) -> bool:
    """Preempt until the next token of every decoding request fits; True when something was preempted."""
    h = s.inst[i]
    capacity = points[h.point].kv_blocks
    preempted = False
    while h.decoding > 0 and blocks(s, i, 1) + h.prompt_blocks > capacity:
        _preempt(s, i)
        preempted = True
    return preempted


@bare
def _preempt(s: Instances, i: int) -> None:
    """Put the running request of the lowest priority, and among these the newest, back to the front of its queue."""
    h = s.inst[i]
    victim, at = int(h.fresh_first) if h.fresh else NOBODY, NOBODY  # at a boundary only one is fresh: the partial one
    for j in range(h.decoding):
        k = s.due[i, j] & MASK
        if victim == NOBODY or _sooner(s.requests[k], s.requests[victim]):
            victim, at = k, j
    r = s.requests[victim]
    if at == NOBODY:
        h.fresh, h.partial, h.prompt_blocks = 0, 0, 0
    else:
        r.made = r.output - ((s.due[i, at] >> REQUEST_BITS) - h.iteration)
        h.context -= r.prompt + r.made
        out_of_line(s, i, at)
    r.cached = 0
    h.preempted += 1
    put_first(s, i, victim)


@bare
def _sooner(a: Record, b: Record) -> bool:
    """Whether a is preempted before b: lower priority, then the later arrival, then the later number."""
    if a.high != b.high:
        return bool(a.high < b.high)
    if a.arrival_s != b.arrival_s:
        return bool(a.arrival_s > b.arrival_s)
    return bool(a.number > b.number)


@bare
def fits(s: Instances, points: Records, i: int, k: int) -> bool:
    """Whether waiting request k can be admitted now."""
    h = s.inst[i]
    p = points[h.point]
    if h.decoding + h.fresh >= p.batch_limit:
        return False
    more = 1 if p.chunked else 0  # chunked: decoding requests make tokens in the same iteration
    room = p.kv_blocks - h.prompt_blocks - prompt_blocks(s.requests[k])
    return bool(blocks_bound(s, i, more) <= room or blocks(s, i, more) <= room)


@bare
def prompts(s: Instances, points: Records, i: int, preempted: bool) -> tuple[int, float]:
    """Choose the iteration's prompt tokens, admitting requests; return their number and what p2 multiplies."""
    h = s.inst[i]
    p = points[h.point]
    budget = max(0, p.token_budget - h.decoding) if p.chunked else p.token_budget
    tokens, work = 0, 0.0
    if h.fresh:  # the one that the last iteration left partial
        tokens, work = _part(s, i, int(h.fresh_first), budget, tokens, work)
    while not preempted and h.partial == 0 and tokens < budget:
        k = next_in(s, i)
        if k == NOBODY or not fits(s, points, i, k):
            break
        r = s.requests[k]
        r.todo = r.prompt + r.made - r.cached
        if not p.chunked and tokens > 0 and tokens + r.todo > budget:
            break
        r.done = r.cached
        to_fresh(s, i, k)
        h.prompt_blocks += prompt_blocks(r)
        tokens, work = _part(s, i, k, budget if p.chunked else tokens + r.todo, tokens, work)
    return tokens, work if p.chunked else float(tokens) * tokens


@bare
def _part(s: Instances, i: int, k: int, budget: int, tokens: int, work: float) -> tuple[int, float]:
    """Give request k as many of its prompt tokens as the budget has left."""
    h, r = s.inst[i], s.requests[k]
    part = min(r.todo, budget - tokens)
    work += (part + 2.0 * r.done) * part
    r.done += part
    r.todo -= part
    h.partial = 1 if r.todo > 0 else 0
    return tokens + part, work
