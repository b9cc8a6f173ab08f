"""Request classes SS to LL: input and output each short, medium or long. Two rules are published and differ.

Table IV's thresholds go with the objectives; the evaluation's mix of classes (14, 18, 1, 5, 6, 22, 14, 9, 11 %) comes from the
33rd and 67th percentiles of the trace itself (DynamoLLM; papers.md C1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CLASSES = ("SS", "SM", "SL", "MS", "MM", "ML", "LS", "LM", "LL")
"""input, then output; a class's number is 3 x input + output"""


class Thresholds(NamedTuple):
    """Tokens below which an input or output is short, and below which it is medium."""

    input: tuple[int, int]
    output: tuple[int, int]


TABLE_IV = Thresholds(input=(256, 1024), output=(100, 350))
"""[P] DynamoLLM, Table IV"""
TTFT_S = (0.25, 0.4, 2.0)
"""[P] objective of P99 TTFT by input: 5 times an unloaded request (Table IV; that it goes by input is a reading)"""
TBT_S = 0.1
"""[P] objective of P99 TBT"""
LONGEST_INPUT = 8192
"""[P] tokens; Table IV has no longer ones"""


def classify(prompt: ArrayLike, output: ArrayLike, thresholds: Thresholds = TABLE_IV) -> NDArray[np.int64]:
    """Return the number in CLASSES of each request (tokens of prompt and output)."""
    long = np.digitize(np.asarray(prompt), thresholds.input)
    return np.asarray(3 * long + np.digitize(np.asarray(output), thresholds.output), dtype=np.int64)


def percentile_thresholds(prompt: ArrayLike, output: ArrayLike) -> Thresholds:
    """Return the 33rd and 67th percentiles of a trace (the artifact's rule); ValueError for an empty trace."""
    if np.size(prompt) == 0 or np.size(output) == 0:
        raise ValueError("no requests to take percentiles of")
    (a, b), (c, d) = (np.percentile(np.asarray(each), (33, 67)).astype(int) for each in (prompt, output))
    return Thresholds((int(a), int(b)), (int(c), int(d)))


def shares(classes: ArrayLike) -> NDArray[np.float64]:
    """Return the share of each class [9] among requests."""
    counts = np.bincount(np.asarray(classes, dtype=np.int64), minlength=len(CLASSES))
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float64)
