"""Fan control: each server's fans follow its hottest GPU, with a lag, in whole percents and with a dead band.

A controller that answered every degree would never rest, and the propagator of `heat` would be made anew all the time."""

from math import exp, floor, sqrt

from twin import calibration as c
from twin.compiled import seldom
from twin.plant.heat import sink_to_air
from twin.plant.units import State, Units

PERIOD_S = 5.0  # [A] between two looks of the controller
DEAD_BAND = 0.02  # [A] smaller corrections are not made


@seldom
def law(u: Units, i: int, hottest_c: float) -> float:
    """Duty that server i's controller wants for its hottest GPU."""
    wanted = u.fan_hot_duty[i] + u.fan_per_k[i] * (hottest_c - u.fan_hot_c[i])
    return float(min(1.0, max(u.idle_duty[i], wanted)))


@seldom
def control(u: Units, s: State, dt_s: float) -> None:
    """Set all duties for the step, when a period has passed.

    A step longer than the period sees only where the controller ends: it heads for the duty at which fans and dies settle.
    """
    s.fan_wait_s[0] += dt_s
    waited_s = s.fan_wait_s[0]
    if waited_s < PERIOD_S - 1e-9:
        return
    s.fan_wait_s[0] = 0.0
    share = 1.0 - exp(-waited_s / c.FAN_LAG_S)
    for i in range(len(s.duty)):
        if dt_s > PERIOD_S:
            target, lag_s = _settled(u, s, i)
            share = 1.0 - exp(-dt_s / lag_s)
        else:
            target = law(u, i, _hottest(s, i))
        s.fan_wish[i] += (target - s.fan_wish[i]) * share
        if abs(s.fan_wish[i] - s.duty[i]) >= DEAD_BAND:
            s.duty[i] = min(1.0, max(u.idle_duty[i], floor(100.0 * s.fan_wish[i] + 0.5) / 100.0))


@seldom
def _hottest(s: State, i: int) -> float:
    hottest_c = s.die_c[i, 0]
    for g in range(1, s.die_c.shape[1]):
        hottest_c = max(hottest_c, s.die_c[i, g])
    return float(hottest_c)


@seldom
def settled_duty(u: Units, i: int, g: int, air_c: float, watts: float) -> float:
    """Duty (not yet within its limits) at which GPU g, alone, would settle with the fans of server i.

    With v = .25 + .75 duty, duty = hot_duty + k (air + R_d P + R_s P/v - hot) is v^2 - b v - .75 k R_s P = 0.
    """
    k = u.fan_per_k[i]
    b = 0.25 + 0.75 * (u.fan_hot_duty[i] + k * (air_c + u.r_die[i, g] * watts - u.fan_hot_c[i]))
    v = 0.5 * (b + sqrt(b * b + 3.0 * k * u.r_sink[i, g] * watts))
    return float((v - 0.25) / 0.75)


@seldom
def _settled(u: Units, s: State, i: int) -> tuple[float, float]:
    """Return the duty at which the server settles, and the seconds that it takes: fans and the deciding GPU's sink.

    Each GPU's temperature falls with the duty, so the fixed point of the hottest is the highest fixed point.
    """
    wanted, deciding = -1.0, 0
    for g in range(s.die_c.shape[1]):
        alone = settled_duty(u, i, g, s.air_c[i, g], s.gpu_w[i, g])
        if alone > wanted:
            wanted, deciding = alone, g
    sink_s = u.sink_j_per_k[i] * sink_to_air(u.r_sink[i, deciding], s.duty[i])
    return min(1.0, max(u.idle_duty[i], wanted)), c.FAN_LAG_S + sink_s
