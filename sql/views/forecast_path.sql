-- Lists taken apart: values are row-major, values[(step - 1) * levels + level].
CREATE OR REPLACE VIEW forecast_path AS
SELECT forecast_id, target, series, model, champion, issued_at, data_until, valid_at[1 + k // width] AS valid_at,
    date_diff('second', issued_at, valid_at[1 + k // width]) AS lead_s, levels[1 + k % width] AS level, value, unit, arrived_at
FROM (
    SELECT forecast_id, target, series, model, champion, ts AS issued_at, data_until, unit, arrived_at, valid_at, levels,
        len(levels) AS width, unnest("values") AS value, unnest(range(len("values"))) AS k
    FROM forecasts
);
COMMENT ON VIEW forecast_path IS 'one row per forecast, time and quantile level';
COMMENT ON COLUMN forecast_path.issued_at IS 'when it was made, run time';
COMMENT ON COLUMN forecast_path.valid_at IS 'the time that the value is for';
COMMENT ON COLUMN forecast_path.lead_s IS 's, issue to valid_at';
COMMENT ON COLUMN forecast_path.level IS 'quantile level: 0.5 median, 0.99 upper';
COMMENT ON COLUMN forecast_path.value IS 'in unit: load 1/s, inlet and gpu_temp degC, power and headroom W, airflow CFM';
