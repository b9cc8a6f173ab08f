-- How good forecasts of row power, inlet and load were, by target, model and horizon: error and coverage against what came.
-- $hours = 24: how far back, by issue time
WITH path AS (
    SELECT target, series, model, issued_at, valid_at, lead_s, any_value(value) FILTER (level = 0.5) AS median,
        any_value(value) FILTER (level = 0.05) AS low, any_value(value) FILTER (level = 0.95) AS high,
        any_value(value) FILTER (level = 0.99) AS top
    FROM forecast_path
    WHERE issued_at > (SELECT ts FROM run_now) - to_hours($hours::BIGINT) AND target IN ('power', 'inlet', 'load')
    GROUP BY ALL
),
measured AS (
    SELECT 'power' AS target, row AS series, ts, power_w AS value FROM row_power
    WHERE ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT)
    UNION ALL
    SELECT 'inlet', node, ts, inlet_c FROM server
    WHERE inlet_c IS NOT NULL AND ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT)
    UNION ALL
    SELECT 'load', endpoint, ts, requests_rps FROM load_5m
    WHERE requests_rps IS NOT NULL AND ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT)
),
means AS (
    SELECT target, series, time_bucket(INTERVAL 5 MINUTE, ts - INTERVAL 1 MICROSECOND) + INTERVAL 5 MINUTE AS ts, avg(value) AS value
    FROM measured GROUP BY ALL
),
met AS (
    SELECT p.*, m.value
    FROM path AS p ASOF JOIN means AS m ON m.target = p.target AND m.series = p.series AND m.ts >= p.valid_at
    WHERE m.ts < p.valid_at + INTERVAL 5 MINUTE AND m.ts <= (SELECT ts FROM run_now)
)
SELECT target, model, CASE WHEN lead_s <= 450 THEN '5 min' WHEN lead_s <= 1350 THEN '15 min' WHEN lead_s <= 5400 THEN '1 h' ELSE 'to 24 h' END AS horizon,
    count(*) AS forecasts, avg(abs(value - median)) AS mean_error, avg(value - median) AS bias,
    100 * avg((value BETWEEN low AND high)::INT) AS coverage_90_pct, 100 * avg((value <= top)::INT) AS below_99_pct
FROM met
GROUP BY ALL
ORDER BY target, model, min(lead_s)
