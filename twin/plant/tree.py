"""The power tree above the rows: row -> pair of PDUs -> UPSes. Nothing is lost on the way: what rows draw, the UPSes give.

[P] TAPAS 2.1: PDUs are 2N (each of a pair carries half of its rows, either can carry the whole), UPSes 4N/3 (those that are
left share the load; any three of four carry all)."""

from typing import NamedTuple

import numpy as np

from twin.compiled import kernel
from twin.plant.units import Bools, Floats, Ints


class Feeds(NamedTuple):
    """Who feeds whom: R rows, P PDUs, U UPSes."""

    row_pdus: Ints
    """[R, 2] the two PDUs of each row"""
    pdu_upses: Bools
    """[P, U] UPSes that share the load of each PDU"""


class Drawn(NamedTuple):
    """What each part of the tree carries (W). Sums agree: rows = PDUs + unfed, PDUs = UPSes."""

    pdu_w: Floats
    """[P]"""
    ups_w: Floats
    """[U]"""
    unfed_w: Floats
    """[R] what rows ask for that have no feed left: they are dark"""


def pairs(rows: int, upses: int) -> Feeds:
    """Return a tree with a pair of PDUs for each row, all fed by all UPSes."""
    return Feeds(
        row_pdus=np.arange(2 * rows, dtype=np.int64).reshape(rows, 2),
        pdu_upses=np.ones((2 * rows, upses), dtype=np.bool_),
    )


@kernel
def drawn(feeds: Feeds, row_w: Floats, pdu_lost: Bools, ups_lost: Bools) -> Drawn:
    """Share row power [R] among PDUs and UPSes that are not lost ([P], [U]); a PDU without a UPS feeds nothing."""
    pdus, upses = feeds.pdu_upses.shape
    out = Drawn(np.zeros(pdus), np.zeros(upses), np.zeros(len(row_w)))
    for r in range(len(row_w)):
        first, second = feeds.row_pdus[r, 0], feeds.row_pdus[r, 1]
        live_first = _sources(feeds, first, pdu_lost, ups_lost) > 0
        live_second = _sources(feeds, second, pdu_lost, ups_lost) > 0
        if live_first and live_second:
            out.pdu_w[first] += 0.5 * row_w[r]
            out.pdu_w[second] += 0.5 * row_w[r]
        elif live_first:
            out.pdu_w[first] += row_w[r]
        elif live_second:
            out.pdu_w[second] += row_w[r]
        else:
            out.unfed_w[r] = row_w[r]
    for p in range(pdus):
        sources = _sources(feeds, p, pdu_lost, ups_lost)
        for k in range(upses):
            if sources > 0 and feeds.pdu_upses[p, k] and not ups_lost[k]:
                out.ups_w[k] += out.pdu_w[p] / sources
    return out


@kernel
def _sources(feeds: Feeds, p: int, pdu_lost: Bools, ups_lost: Bools) -> int:
    """UPSes that can feed PDU p now."""
    count = 0
    if not pdu_lost[p]:
        for k in range(len(ups_lost)):
            count += feeds.pdu_upses[p, k] and not ups_lost[k]
    return count


def limits(feeds: Feeds, row_limit_w: Floats) -> tuple[Floats, Floats]:
    """Return the limits of PDUs [P] and UPSes [U] (W): what each carries at the rows' limits when any one of all is lost.

    With `pairs`, a PDU is made for its whole row, and each of four UPSes for a third of the site.
    """
    pdus, upses = feeds.pdu_upses.shape
    cases = np.eye(pdus + upses + 1, pdus + upses, dtype=np.bool_)  # each one lost, and nothing
    carried = [drawn(feeds, row_limit_w, lost[:pdus], lost[pdus:]) for lost in cases]
    return np.max([d.pdu_w for d in carried], axis=0), np.max([d.ups_w for d in carried], axis=0)
