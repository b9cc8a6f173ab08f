-- The newest value of each column within the last 15 min, so that a silent server shows as silent and no old value poses as new.
CREATE OR REPLACE VIEW server_now AS
SELECT coalesce(t.node, s.node) AS node, t.row, t.aisle, t.tenant, t.endpoint, t.priority, s.ts,
    date_diff('millisecond', s.ts, (SELECT ts FROM run_now)) / 1000 AS age_s,
    s.inlet_c, s.power_w, s.gpu_power_w, s.gpu_max_c, s.fan_pct, t.slowdown_c - s.gpu_max_c AS margin_k
FROM topology AS t FULL JOIN (
    SELECT node, max(ts) AS ts, arg_max(inlet_c, ts) AS inlet_c, arg_max(power_w, ts) AS power_w,
        arg_max(gpu_power_w, ts) AS gpu_power_w, arg_max(gpu_max_c, ts) AS gpu_max_c, arg_max(fan_pct, ts) AS fan_pct
    FROM server WHERE ts > (SELECT max(ts) - INTERVAL 15 MINUTE FROM server) GROUP BY node
) AS s ON s.node = t.node;
COMMENT ON VIEW server_now IS 'every server with its newest telemetry; NULL = silent for 15 min';
COMMENT ON COLUMN server_now.age_s IS 's, of the newest row';
COMMENT ON COLUMN server_now.inlet_c IS 'degC, intake air';
COMMENT ON COLUMN server_now.power_w IS 'W, at the wall';
COMMENT ON COLUMN server_now.gpu_max_c IS 'degC, hottest GPU';
COMMENT ON COLUMN server_now.margin_k IS 'K, from the hottest GPU to hardware slowdown';
