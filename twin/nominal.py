"""Nominal power of all GPUs: of instances by their work, of opaque tenants by their level, of servers that nobody uses."""

from twin.compiled import bare
from twin.parts import Asked, Serving, Site


@bare
def drawn(v: Serving, i: int, k: int, count: int, step_s: int) -> None:
    """Make of the work of instance i in `count` seconds, the stride's from the k-th on, what its GPUs draw and how busy it is.

    The work lies in `v.work` from its beginning on; steps are `step_s` seconds.
    """
    point = v.points[v.point[i]]
    prefill_w = v.power[i] * point.prefill_w
    gpus_square = float(v.gpus[i] * v.gpus[i])
    last = (count - 1) // step_s * step_s
    busy_s = 0.0
    for j in range(count):
        w = v.work[j]
        idle_s = max(0.0, 1.0 - w.prefill_s - w.decode_s)
        decode_j = v.power[i] * (point.decode_base_w * w.decode_s + point.decode_span_w * w.load_s)
        watt = prefill_w * w.prefill_s + decode_j + point.loaded_w * idle_s
        square = prefill_w * prefill_w * w.prefill_s + point.loaded_w * point.loaded_w * idle_s
        if w.decode_s > 0.0:
            square += decode_j * decode_j / w.decode_s
        v.watt[k + j, i] = watt
        v.spread[k + j, i] = max(0.0, square - watt * watt) * gpus_square
        if j >= last:
            busy_s += 1.0 - idle_s
    v.busy[i] = busy_s / (count - last)


@bare
def nominal(v: Serving, a: Asked, p: Site, second: int, k: int, n: int) -> None:
    """Set the nominal power of all GPUs for `n` seconds from the stride's k-th on, its spread and what rows see each second."""
    t = p.tenants
    share = (second + 0.5 * n - a.start_s) / a.seconds
    for r in range(len(p.row_sd_w)):
        p.row_sd_w[r] = 0.0
        for j in range(n):
            p.row_nominal_w[j, r] = 0.0
    for i in range(p.nominal_w.shape[0]):
        if t.endpoint[i] < 0:  # a server of instances is theirs
            opaque(p, i, a.level[0, i] + (a.level[1, i] - a.level[0, i]) * share if t.customer[i] >= 0 else -1.0)
    for i in range(len(v.server)):
        if v.present[i]:
            _instance(v, p, i, k, n)


@bare
def opaque(p: Site, i: int, level: float) -> None:
    """Set the nominal power of a server that serves no instances: a tenant's at this level, or nobody's (level < 0)."""
    idle_w = p.tenants.idle_w[i] if level < 0.0 else p.tenants.loaded_w[i]
    p.s.util[i] = max(0.0, level)
    for g in range(p.nominal_w.shape[1]):
        watt = idle_w
        if level > 0.0:
            watt += (p.u.tdp_w[i] * _power(p, i, g) - idle_w) * level
        p.nominal_w[i, g] = 0.0 if p.s.down[i, g] else watt


@bare
def _power(p: Site, i: int, g: int) -> float:
    """Busy power of an opaque tenant's GPU at its clock, relative."""
    t, mhz = p.tenants, p.s.clock_mhz[i, g]
    if mhz != t.iaas_clock_mhz[i, g]:
        t.iaas_clock_mhz[i, g] = mhz
        t.iaas_power[i, g] = t.clock_floor[i] + (1.0 - t.clock_floor[i]) * (mhz / p.u.max_mhz[i]) ** t.clock_exponent[i]
    return float(t.iaas_power[i, g])


@bare
def _instance(v: Serving, p: Site, i: int, k: int, n: int) -> None:
    """Set the nominal power of the GPUs of instance i: the mean over `n` seconds."""
    i_server, gpus = v.server[i], v.gpus[i]
    row = p.u.row[i_server]
    mean_w = 0.0
    for j in range(n):
        mean_w += v.watt[k + j, i]
        p.row_nominal_w[j, row] += v.watt[k + j, i] * gpus
    p.row_sd_w[row] += v.spread[k + n - 1, i]
    mean_w /= n
    for g in range(v.first_gpu[i], v.first_gpu[i] + gpus):
        p.nominal_w[i_server, g] = mean_w
    if p.held[0] > 0:
        for g in range(v.first_gpu[i], v.first_gpu[i] + gpus):
            if p.s.down[i_server, g]:
                p.nominal_w[i_server, g] = 0.0


@bare
def utilised(v: Serving, p: Site) -> None:
    """Set the share of the last step in which the GPUs of instances had work; those of opaque tenants have their level."""
    for i in range(p.nominal_w.shape[0]):
        if p.tenants.endpoint[i] >= 0:
            p.s.util[i] = 0.0
    for i in range(len(v.server)):
        if v.present[i]:
            p.s.util[v.server[i]] += v.busy[i] * v.gpus[i] / p.nominal_w.shape[1]
