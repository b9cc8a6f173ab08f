-- What a run recorded: rows by kind, forecasts, alerts, rejected rows, and how long records took to be committed.
SELECT
    (SELECT coalesce(sum("rows" - backfilled_rows), 0) FROM commits WHERE topic IN ('gpu', 'server', 'facility', 'endpoints'))::BIGINT AS telemetry_rows,
    (SELECT coalesce(sum("rows"), 0) FROM commits WHERE topic = 'requests')::BIGINT AS request_rows,
    (SELECT count(*) FROM forecasts) AS forecasts,
    (SELECT count(*) FROM alerts WHERE status = 'firing') AS alerts,
    (SELECT coalesce(sum("rows"), 0) FROM rejected)::BIGINT AS rejected,
    (SELECT quantile_cont(freshness_s, 0.99) FROM commits) AS freshness_s
