"""P99 of a node's requests from a few kept values is numpy's of all of them, however many come and in however many pieces."""

import numpy as np
import pytest

from twin.batching.state import ENDED
from twin.exporters.endpoints import by_node


@pytest.mark.parametrize(("requests", "pieces"), [(1, 1), (7, 2), (299, 3), (301, 1), (2500, 4)])
def test_quantiles_are_numpys(requests: int, pieces: int) -> None:
    rng = np.random.default_rng(requests)
    rows = np.zeros(requests, dtype=ENDED)
    rows["arrival_s"] = np.sort(rng.uniform(0, 5, requests))
    rows["first_s"] = np.where(rng.random(requests) < 0.1, np.nan, rows["arrival_s"] + rng.exponential(1, requests))
    rows["output"] = rng.integers(1, 4, requests)
    rows["end_s"] = np.where(np.isnan(rows["first_s"]), rows["arrival_s"], rows["first_s"] + rng.exponential(1, requests))
    rows["instance"] = rng.choice([0, 1, 2], requests, p=[0.9, 0.05, 0.05])
    rows["ok"] = rng.integers(0, 2, requests)
    node = np.array([1, -1, 0])
    ttft_s, tbt_s, ok_pct = by_node(np.array_split(rows, pieces), node, 3)
    for n in range(3):
        own = rows[node[rows["instance"]] == n]
        first_s = (own["first_s"] - own["arrival_s"])[np.isfinite(own["first_s"])]
        more = own[np.isfinite(own["first_s"]) & (own["output"] > 1)]
        between_s = (more["end_s"] - more["first_s"]) / (more["output"] - 1)
        for found, all_s in ((ttft_s[n], first_s), (tbt_s[n], between_s)):
            assert found == pytest.approx(np.quantile(all_s, 0.99)) if len(all_s) else np.isnan(found)
        assert ok_pct[n] == pytest.approx(100 * own["ok"].mean()) if len(own) else np.isnan(ok_pct[n])
