"""Two thermal nodes per GPU, die and sink, solved exactly for a step of constant power, air and fan duty.

C_d T_d' = P - (T_d - T_s)/R_d and C_s T_s' = (T_d - T_s)/R_d - (T_s - T_air)/R_s are linear, so that a step is a fixed
linear map of die, sink and power above the air. Its six coefficients depend on duty and step length alone and are kept."""

from math import exp, sqrt

from twin.compiled import seldom
from twin.plant.units import Floats, State, Units

DIE_DIE, DIE_SINK, DIE_W, SINK_DIE, SINK_SINK, SINK_W = range(6)
"""order in `State.coef`: what the later die (K, K) and sink owe to the earlier die, the earlier sink and the power (K/W)"""


@seldom
def sink_to_air(r_sink: float, duty: float) -> float:
    """K/W from sink to air at a fan duty."""
    return r_sink / (0.25 + 0.75 * duty)


@seldom
def propagator(
    die_j_per_k: float, sink_j_per_k: float, r_die: float, r_air: float, dt_s: float
) -> tuple[float, float, float, float, float, float]:
    """Return the six coefficients of a step of `dt_s` seconds; r_air = K/W from sink to air.

    With M = [[-a, a], [e, -d]], deviations from the settled state are multiplied by
    exp(M t) = e^(m t) (cosh(q t) + sinh(q t)/q (M - m)), m half the trace, q^2 = m^2 - det.
    """
    a = 1.0 / (die_j_per_k * r_die)
    e = 1.0 / (sink_j_per_k * r_die)
    d = e + 1.0 / (sink_j_per_k * r_air)
    m = -0.5 * (a + d)
    q = sqrt((0.5 * (d - a)) ** 2 + a * e)
    fast = m - q
    slow = a * (d - e) / fast  # det = a (d - e); m + q would lose digits
    grow, shrink = exp(slow * dt_s), exp(fast * dt_s)
    cosh, sinh = 0.5 * (grow + shrink), 0.5 * (grow - shrink) / q
    die_die, die_sink = cosh - sinh * (a + m), sinh * a
    sink_die, sink_sink = sinh * e, cosh - sinh * (d + m)
    # Settled, the sink stands r_air and the die r_air + r_die per W above the air; power adds what the deviation loses.
    die_w = (1.0 - die_die) * (r_die + r_air) - die_sink * r_air
    sink_w = (1.0 - sink_sink) * r_air - sink_die * (r_die + r_air)
    return die_die, die_sink, die_w, sink_die, sink_sink, sink_w


@seldom
def refresh(u: Units, s: State, dt_s: float) -> None:
    """Bring the coefficients up to date where the step length or a server's fan duty has changed."""
    if s.coef_dt_s[0] != dt_s:
        s.coef_dt_s[0] = dt_s
        s.coef_duty[:] = -1.0
    stale = 0
    for i in range(len(s.duty)):
        stale += s.coef_duty[i] != s.duty[i]
    if stale == 0:
        return
    for i in range(len(s.duty)):
        if s.coef_duty[i] != s.duty[i]:
            _renew(u, s, i, dt_s)


@seldom
def _renew(u: Units, s: State, i: int, dt_s: float) -> None:
    s.coef_duty[i] = s.duty[i]
    for g in range(s.die_c.shape[1]):
        r_air = sink_to_air(u.r_sink[i, g], s.duty[i])
        values = propagator(u.die_j_per_k[i], u.sink_j_per_k[i], u.r_die[i, g], r_air, dt_s)
        for k in range(6):
            s.coef[k, i, g] = values[k]


@seldom
def advance(s: State) -> None:
    """Move dies and sinks on by one step at the air and the power that the state holds."""
    die, sink, later = s.die_c.reshape(-1), s.sink_c.reshape(-1), s.next_c.reshape(-1)
    air, watts = s.air_c.reshape(-1), s.gpu_w.reshape(-1)
    c = s.coef
    _dies(c[DIE_DIE].reshape(-1), c[DIE_SINK].reshape(-1), c[DIE_W].reshape(-1), die, sink, air, watts, later)
    _sinks(c[SINK_DIE].reshape(-1), c[SINK_SINK].reshape(-1), c[SINK_W].reshape(-1), die, sink, air, watts)
    for n in range(len(die)):
        die[n] = later[n]


# Flat loops with one result each: few enough arrays for the compiler to tell them apart and use vector instructions.


@seldom
def _dies(
    by_die: Floats, by_sink: Floats, by_w: Floats, die: Floats, sink: Floats, air: Floats, watts: Floats, later: Floats
) -> None:
    for n in range(len(later)):
        later[n] = air[n] + by_die[n] * (die[n] - air[n]) + by_sink[n] * (sink[n] - air[n]) + by_w[n] * watts[n]


@seldom
def _sinks(by_die: Floats, by_sink: Floats, by_w: Floats, die: Floats, sink: Floats, air: Floats, watts: Floats) -> None:
    for n in range(len(sink)):
        sink[n] = air[n] + by_die[n] * (die[n] - air[n]) + by_sink[n] * (sink[n] - air[n]) + by_w[n] * watts[n]
