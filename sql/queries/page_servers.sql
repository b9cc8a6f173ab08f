-- The page: every server of the topology with its newest telemetry; NULL = silent since $slow.
-- $slow: run time, naive UTC; older telemetry is not shown
SELECT t.node, t.row, t.rack, t.slot, t.tenant, t.endpoint, t.priority, t.slowdown_c, t.max_clock_mhz,
    s.ts, s.created_wall, s.inlet_c, s.power_w, s.gpu_max_c
FROM topology AS t LEFT JOIN (
    SELECT node, max(ts) AS ts, arg_max(created_wall, ts) AS created_wall, arg_max(inlet_c, ts) AS inlet_c,
        arg_max(power_w, ts) AS power_w, arg_max(gpu_max_c, ts) AS gpu_max_c
    FROM server WHERE ts > $slow GROUP BY node
) AS s USING (node)
ORDER BY t.row, t.rack, t.slot, t.node
