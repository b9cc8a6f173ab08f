"""What a run suffered, as one record."""

import msgspec

from twin.batching.book import ENDED, OK, Book
from twin.batching.state import Records
from twin.ledger import GPU_J, MAX_GPU_C, MAX_INLET_C, MAX_RATIO, POWER, SECONDS, SLOWDOWN, THERMAL, THROTTLED, WALL_J, Ledger


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of a run. Energy in J, temperatures in degC; shares 0 to 1."""

    simulated_s: int
    requests: int
    """ended, rejected ones included"""
    slo_ok: float
    """share of them within TTFT and TBT; 1 when there was none"""
    prompt_tokens: int
    output_tokens: int
    thermal_events: int
    """maximal intervals per server with a hardware slowdown, or a clock held down for temperature; gaps below 60 s merge"""
    power_events: int
    """the same per row and UPS: above its limit in 1 s power, or a clock of the row held down for power"""
    throttled_gpu_s: float
    """GPU-seconds with the clock below the tenant's choice. A cap on an instance whose endpoint meets its objectives is a
    configurator's clock and does not count; hardware slowdown, shutdown, the brake, and any cap on IaaS do"""
    slowdown_gpu_s: float
    """of these, hardware slowdown and shutdown"""
    energy_gpu_j: float
    energy_wall_j: float
    max_gpu_c: float
    max_row_power_ratio: float
    """highest 1 s row power over the row's present limit"""
    max_inlet_c: float


def score(led: Ledger, b: Book, inst: Records) -> Score:
    """Return the sum so far."""
    s = led.sums.tolist()
    requests = int(b.counts[:, :, ENDED].sum())
    return Score(
        simulated_s=int(s[SECONDS]),
        requests=requests,
        slo_ok=float(b.counts[:, :, OK].sum()) / requests if requests else 1.0,
        prompt_tokens=int(inst["prompt_tokens"].sum()),
        output_tokens=int(inst["output_tokens"].sum()),
        thermal_events=int(s[THERMAL]),
        power_events=int(s[POWER]),
        throttled_gpu_s=s[THROTTLED],
        slowdown_gpu_s=s[SLOWDOWN],
        energy_gpu_j=s[GPU_J],
        energy_wall_j=s[WALL_J],
        max_gpu_c=s[MAX_GPU_C],
        max_row_power_ratio=s[MAX_RATIO],
        max_inlet_c=s[MAX_INLET_C],
    )
