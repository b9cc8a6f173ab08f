-- Headroom of each row: now, and the least that the champion forecasts leave within the next hour.
-- $level = 0.99: quantile of row power that counts
WITH now AS (
    SELECT row, max(ts) AS ts, arg_max(power_w, ts) AS power_w, arg_max(limit_w, ts) AS limit_w
    FROM row_power WHERE ts > (SELECT ts - INTERVAL 15 MINUTE FROM run_now) GROUP BY row
),
newest AS (
    SELECT series, max(ts) AS issued_at FROM forecasts WHERE target = 'power' AND champion GROUP BY series
),
ahead AS (
    SELECT p.series AS row, max(p.value) AS forecast_w, arg_max(p.valid_at, p.value) AS worst_at, max(p.issued_at) AS issued_at
    FROM forecast_path AS p JOIN newest AS n ON n.series = p.series AND n.issued_at = p.issued_at
    WHERE p.target = 'power' AND p.champion AND p.level = $level::DOUBLE AND p.lead_s <= 3600
    GROUP BY p.series
)
SELECT n.row, n.ts, n.power_w, n.limit_w, n.limit_w - n.power_w AS headroom_w, a.forecast_w,
    n.limit_w - a.forecast_w AS headroom_1h_w, a.worst_at, a.issued_at
FROM now AS n LEFT JOIN ahead AS a USING (row)
ORDER BY coalesce(headroom_1h_w, headroom_w)
