-- The page: the newest champion forecast of every row's power and every endpoint's load; values are row-major [time][level].
-- $issued: run time, naive UTC; older forecasts are not shown
SELECT target, series, model, ts AS issued_at, data_until, valid_at, levels, "values", degradations
FROM forecasts
WHERE ts > $issued AND champion AND target IN ('power', 'load') AND NOT contains(series, '/')
QUALIFY row_number() OVER (PARTITION BY target, series ORDER BY ts DESC, arrived_at DESC, k_offset DESC) = 1
ORDER BY target, series
