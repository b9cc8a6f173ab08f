CREATE OR REPLACE VIEW gpu_now AS
SELECT g.node, g.gpu, t.row, t.aisle, t.tenant, t.priority, g.ts,
    date_diff('millisecond', g.ts, (SELECT ts FROM run_now)) / 1000 AS age_s, g.state, g.power_w, g.temp_c, g.mem_temp_c,
    g.sm_clock_mhz, g.util_pct, g.clock_event_reasons, t.slowdown_c - g.temp_c AS margin_k
FROM (
    SELECT node, gpu, max(ts) AS ts, arg_max(state, ts) AS state, arg_max(power_w, ts) AS power_w,
        arg_max(temp_c, ts) AS temp_c, arg_max(mem_temp_c, ts) AS mem_temp_c, arg_max(sm_clock_mhz, ts) AS sm_clock_mhz,
        arg_max(util_pct, ts) AS util_pct, arg_max(clock_event_reasons, ts) AS clock_event_reasons
    FROM gpu WHERE ts > (SELECT max(ts) - INTERVAL 5 MINUTE FROM gpu) GROUP BY node, gpu
) AS g LEFT JOIN topology AS t USING (node);
COMMENT ON VIEW gpu_now IS 'every GPU that reported within the last 5 min, with its newest telemetry';
COMMENT ON COLUMN gpu_now.power_w IS 'W, board';
COMMENT ON COLUMN gpu_now.temp_c IS 'degC, core';
COMMENT ON COLUMN gpu_now.sm_clock_mhz IS 'MHz';
COMMENT ON COLUMN gpu_now.clock_event_reasons IS 'bits of NVML: 0x4 power cap, 0x8 hardware slowdown, 0x20 and 0x40 thermal, 0x80 power brake';
COMMENT ON COLUMN gpu_now.margin_k IS 'K, to hardware slowdown';
