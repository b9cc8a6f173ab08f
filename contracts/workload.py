"""What users ask for, as data: the curve of a week, token lengths, burstiness, weather. Built by `ingest.workload`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One service's demand. A consumer scales `rate` to the requests/s that it wants."""

    name: str
    source: str
    """where it comes from: a trace's name, or the publication of its statistics"""
    minute_of_week: NDArray[np.float64]
    """[K] rising, 0 = Monday 00:00 local"""
    rate: NDArray[np.float64]
    """[K] arrivals relative to the week's highest (1.0)"""
    prompt_tokens: NDArray[np.int64]
    """[M] lengths of sampled requests, paired with output_tokens; draw rows with replacement"""
    output_tokens: NDArray[np.int64]
    burst_cv: float
    """coefficient of variation of inter-arrival times (1 = Poisson)"""
    outside_minute: NDArray[np.float64]
    """[W] minutes since the year's start, UTC, rising"""
    outside_c: NDArray[np.float64]
    """[W] outside temperature at those minutes"""
