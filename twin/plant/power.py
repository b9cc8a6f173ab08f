"""What boards, servers and rows draw."""

from twin.compiled import seldom
from twin.plant.units import Floats, State, Units


@seldom
def boards(u: Units, s: State, nominal_w: Floats, dt_s: float) -> None:
    """Set the power of every GPU for a step, its sum per server, and count its energy.

    Own factor, leakage at the last die temperature, never above TDP (the board's power limit); nothing where shut down.
    """
    servers, gpus = nominal_w.shape
    for i in range(servers):
        per_k = u.leakage_per_k[i]
        cold = 1.0 - per_k * u.leakage_at_c[i]
        limit_w = u.tdp_w[i]
        for g in range(gpus):
            watts = nominal_w[i, g] * u.power_factor[i, g] * (cold + per_k * s.die_c[i, g])
            s.gpu_w[i, g] = 0.0 if s.down[i, g] else min(watts, limit_w)
    energy_j, gpu_w = s.energy_j.reshape(-1), s.gpu_w.reshape(-1)
    for n in range(len(gpu_w)):
        energy_j[n] += gpu_w[n] * dt_s
    for i in range(servers):
        total_w = 0.0
        for g in range(gpus):
            total_w += s.gpu_w[i, g]
        s.gpus_w[i] = total_w


@seldom
def servers(u: Units, s: State) -> tuple[float, float]:
    """Set the power of servers at the wall, of rows, and the air that aisles draw; return the site's W and share of TDP."""
    s.row_w[:] = 0.0
    s.airflow_cfm[:] = 0.0
    site_w = gpus_w = rated_w = 0.0
    for i in range(len(s.server_w)):
        duty = s.duty[i]
        watts = (s.gpus_w[i] + u.overhead_w[i] + u.fans_w[i] * duty * duty * duty) / u.psu_share[i]
        s.server_w[i] = watts
        s.row_w[u.row[i]] += watts
        s.airflow_cfm[u.aisle[i]] += duty * u.cfm_full[i]
        site_w += watts
        gpus_w += s.gpus_w[i]
        rated_w += u.tdp_w[i]
    return site_w, gpus_w / (rated_w * s.gpu_w.shape[1])
