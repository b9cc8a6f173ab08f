"""What it costs to change an instance: published times of starting, re-sharding and reloading (Llama2-70B on H100)."""

from collections.abc import Mapping

TAU_S = 0.050
"""[P] 1/8 of the model over NVLink at 300 GB/s (DynamoLLM, Table VI's unit)"""

LAYOUTS = ("TP2", "4TP2", "TP4", "TP2+TP4", "2TP4", "TP8")
"""what the eight GPUs of a server hold: instances by their tensor parallelism"""

_TAUS = {
    "TP2": (0, 4, 2, 2, 2, 1),
    "4TP2": (0, 0, 0, 0, 0, 0),
    "TP4": (2, 2, 0, 2, 2, 1),
    "TP2+TP4": (0, 2, 0, 0, 1, 1),
    "2TP4": (1, 1, 0, 1, 0, 0),
    "TP8": (1, 1, 1, 1, 1, 0),
}  # [P] DynamoLLM, Table VI: source -> destinations in the order of LAYOUTS, in units of TAU_S

ENGINE_SYNC_S = (0.3, 3.0)
"""[P] "a few 100 ms to a few s" after a transfer; the bounds are a reading [A]"""

CONVENTIONAL_RESHARD_S = (60.0, 120.0)
"""[P] 1 to 2 min where weights are not moved over NVLink but loaded anew (DynamoLLM 4)"""

NEW_INSTANCE_S: Mapping[str, tuple[float, float]] = {
    "virtual machine": (60.0, 120.0),
    "distributed environment": (120.0, 120.0),
    "weights": (180.0, 180.0),
    "engine": (18.0, 18.0),
    "weights and KV cache installed": (15.0, 15.0),
}
"""[P] DynamoLLM, Table V: shortest and longest s of each part; 6 to 8 min in all"""

RELOAD_S = (3.0, 10.0)
"""[P] "a few seconds" for another quantisation or model size on the same GPUs (TAPAS 4.4); the bounds are a reading [A].
No requests are routed to the instance meanwhile"""

CLOCK_S = (0.050, 0.080)
"""[P] a clock set in band (DynamoLLM)"""


def reshard_s(src: str, dst: str, tau_s: float = TAU_S) -> float:
    """Return the s that weights travel when a server goes from layout `src` to `dst`; `tau_s` scales with the model's size.

    KeyError for a layout that the table does not have.
    """
    for layout in (src, dst):
        if layout not in LAYOUTS:
            raise KeyError(f"no layout {layout}; there are {', '.join(LAYOUTS)}")
    return _TAUS[src][LAYOUTS.index(dst)] * tau_s


def new_instance_s() -> tuple[float, float]:
    """Return the shortest and the longest s from nothing to a serving instance."""
    return sum(low for low, _ in NEW_INSTANCE_S.values()), sum(high for _, high in NEW_INSTANCE_S.values())


def tau_s(weights_gb: float, gb_per_s: float = 300.0) -> float:
    """Return Table VI's unit for another model: 1/8 of its weights over NVLink (70B: 138 GB, .058 s; the paper says .050)."""
    return weights_gb / 8 / gb_per_s
