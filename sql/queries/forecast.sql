-- The newest champion forecast of one series: median and bands at every time forecast.
-- $target: load | inlet | power | gpu_temp | headroom
-- $series: endpoint, server or row
WITH newest AS (
    SELECT * FROM forecasts WHERE target = $target AND series = $series AND champion ORDER BY ts DESC, k_offset DESC LIMIT 1
)
SELECT p.valid_at, max(p.value) FILTER (p.level = 0.5) AS median,
    max(p.value) FILTER (p.level = 0.05) AS p05, max(p.value) FILTER (p.level = 0.95) AS p95,
    max(p.value) FILTER (p.level = 0.01) AS p01, max(p.value) FILTER (p.level = 0.99) AS p99,
    any_value(n.unit) AS unit, any_value(n.model) AS model, any_value(n.ts) AS issued_at, any_value(n.data_until) AS data_until,
    any_value(list_aggregate(n.degradations, 'string_agg', '; ')) AS degradations
FROM forecast_path AS p JOIN newest AS n USING (forecast_id)
GROUP BY p.valid_at ORDER BY p.valid_at
