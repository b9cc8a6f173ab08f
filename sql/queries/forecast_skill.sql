-- How good the issued forecasts were in the trailing week, by target, kind of series, horizon and model; naive = 1 in vs_persistence.
-- $target = '%': load, inlet, power, ... (a pattern)
SELECT target, kind, horizon_s, model, champion, points, mae, vs_persistence, vs_seasonal, 100 * coverage_90 AS coverage_90_pct,
    100 * coverage_98 AS coverage_98_pct, 100 * below_99 AS below_99_pct, width_90, worst_series,
    100 * worst_below_99 AS worst_below_99_pct, worst_day, 100 * worst_day_coverage_90 AS worst_day_coverage_90_pct, ts
FROM forecast_scores
WHERE target LIKE $target
QUALIFY row_number() OVER (PARTITION BY target, kind, horizon_s, model, champion ORDER BY ts DESC, k_offset DESC) = 1
ORDER BY target, kind, horizon_s, champion DESC, mae
