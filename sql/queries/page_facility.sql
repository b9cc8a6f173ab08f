-- The page: the newest of every meter, UPS, air handler, aisle and the weather within the last hour.
-- $since: run time, naive UTC; an hour ago
SELECT kind, unit, max(ts) AS ts, arg_max(created_wall, ts) AS created_wall, arg_max(state, ts) AS state,
    arg_max(power_w, ts) AS power_w, arg_max(airflow_cfm, ts) AS airflow_cfm, arg_max(outside_c, ts) AS outside_c,
    coalesce(arg_max(source, ts), 'meter') AS source
FROM facility
WHERE ts > $since AND (state IS NOT NULL OR power_w IS NOT NULL OR airflow_cfm IS NOT NULL OR outside_c IS NOT NULL)
GROUP BY kind, unit
ORDER BY kind, unit
