"""Nominal power of all GPUs: of instances by their work, of opaque tenants by their level, of servers that nobody uses."""

from twin.compiled import bare
from twin.parts import Asked, Serving, Site


@bare
def nominal(v: Serving, a: Asked, p: Site, second: int, k: int, n: int) -> None:
    """Set the nominal power of all GPUs for `n` seconds from the stride's k-th on: instances by their work, others by level."""
    t = p.tenants
    servers = p.nominal_w.shape[0]
    share = (second + 0.5 * n - a.start_s) / a.seconds
    for r in range(len(p.row_sd_w)):
        p.row_sd_w[r] = 0.0
        for j in range(n):
            p.row_nominal_w[j, r] = 0.0
    for i in range(servers):
        p.s.util[i] = 0.0
        if t.endpoint[i] < 0:  # a server of instances is theirs
            _opaque(p, i, a.level[0, i] + (a.level[1, i] - a.level[0, i]) * share if t.customer[i] >= 0 else -1.0)
    for i in range(len(v.server)):
        if v.present[i]:
            _instance(v, p, i, k, n)


@bare
def _opaque(p: Site, i: int, level: float) -> None:
    """Nominal power of a server that serves no instances: a tenant's at this level, or nobody's (level < 0)."""
    idle_w = p.tenants.idle_w[i] if level < 0.0 else p.tenants.loaded_w[i]
    p.s.util[i] = max(0.0, level)
    for g in range(p.nominal_w.shape[1]):
        watt = idle_w
        if level > 0.0:
            watt += (p.u.tdp_w[i] * iaas_power(p, i, g) - idle_w) * level
        p.nominal_w[i, g] = 0.0 if p.s.down[i, g] else watt


@bare
def iaas_power(p: Site, i: int, g: int) -> float:
    """Busy power of an opaque tenant's GPU at its clock, relative."""
    t, mhz = p.tenants, p.s.clock_mhz[i, g]
    if mhz != t.iaas_clock_mhz[i, g]:
        t.iaas_clock_mhz[i, g] = mhz
        t.iaas_power[i, g] = t.clock_floor[i] + (1.0 - t.clock_floor[i]) * (mhz / p.u.max_mhz[i]) ** t.clock_exponent[i]
    return float(t.iaas_power[i, g])


@bare
def _instance(v: Serving, p: Site, i: int, k: int, n: int) -> None:
    """Nominal power of the GPUs of instance i over `n` seconds, its spread within them, and what the rows see each second."""
    point = v.points[v.point[i]]
    i_server, row, gpus = v.server[i], p.u.row[v.server[i]], v.gpus[i]
    mean_w, busy_s = 0.0, 0.0
    for j in range(n):
        w = v.work[k + j, i]
        idle_s = max(0.0, 1.0 - w.prefill_s - w.decode_s)
        busy_s += 1.0 - idle_s
        prefill_w = v.power[i] * point.prefill_w
        decode_j = v.power[i] * (point.decode_base_w * w.decode_s + point.decode_span_w * w.load_s)
        watt = prefill_w * w.prefill_s + decode_j + point.loaded_w * idle_s
        mean_w += watt
        p.row_nominal_w[j, row] += watt * gpus
        if j == n - 1:
            square = prefill_w * prefill_w * w.prefill_s + point.loaded_w * point.loaded_w * idle_s
            if w.decode_s > 0.0:
                square += decode_j * decode_j / w.decode_s
            p.row_sd_w[row] += max(0.0, square - watt * watt) * gpus * gpus
    mean_w /= n
    v.watt[i] = mean_w
    p.s.util[i_server] += busy_s / n * gpus / p.nominal_w.shape[1]
    for g in range(v.first_gpu[i], v.first_gpu[i] + gpus):
        p.nominal_w[i_server, g] = mean_w
    if p.held[0] > 0:
        for g in range(v.first_gpu[i], v.first_gpu[i] + gpus):
            if p.s.down[i_server, g]:
                p.nominal_w[i_server, g] = 0.0
