-- What the forecaster ran: how often, how long, and the last thing that went wrong.
-- $hours = 24: how far back
SELECT job, count(*) AS runs, count(*) FILTER (status <> 'ok') AS not_ok, max(ts) AS last, arg_max(status, ts) AS last_status,
    quantile_cont(took_s, 0.5) AS median_s, max(took_s) AS longest_s, any_value(budget_s) AS budget_s, sum(cpu_s) AS cpu_s,
    arg_max(series, ts) AS series, arg_max(detail, ts) FILTER (status <> 'ok') AS last_trouble
FROM forecast_jobs
WHERE ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT)
GROUP BY job
ORDER BY job
