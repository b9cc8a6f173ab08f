-- Input that was not accepted, by topic, source and reason, with the newest sample.
-- $hours = 24: how far back
SELECT topic, source, reason, rejected_by, count(*) AS times, sum("rows")::BIGINT AS "rows", min(ts) AS first_at, max(ts) AS last_at,
    arg_max(sample, ts) AS sample
FROM rejected
WHERE ts > (SELECT max(ts) FROM rejected) - to_hours($hours::BIGINT)
GROUP BY topic, source, reason, rejected_by
ORDER BY last_at DESC, times DESC
