-- The page: per server the hottest GPU, and how many are lost or slowed by temperature or power, in the newest samples.
-- NVML's bits: 0x8 hardware slowdown, 0x20 and 0x40 thermal, 0x80 power brake.
-- $recent: run time, naive UTC; older samples are not shown
SELECT node, max(ts) AS ts, max(created_wall) AS created_wall, max(temp_c) AS gpu_max_c, arg_max(gpu, temp_c) AS hottest_gpu,
    count(*) FILTER (state = 'lost') AS lost, count(*) FILTER (reasons & 232 <> 0) AS slowed
FROM (
    SELECT node, gpu, max(ts) AS ts, arg_max(created_wall, ts) AS created_wall, arg_max(state, ts) AS state,
        arg_max(temp_c, ts) AS temp_c,
        coalesce(arg_max(clock_event_reasons, ts), 0) AS reasons
    FROM gpu WHERE ts > $recent GROUP BY node, gpu
)
GROUP BY node
ORDER BY node
