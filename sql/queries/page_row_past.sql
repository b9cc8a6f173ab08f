-- The page: metered row power of the last hour, one point per row and interval, each at its newest sample.
-- $since: run time, naive UTC; an hour ago
-- $bucket_s: s, width of the intervals
SELECT unit AS row, max(ts) AS ts, avg(power_w) AS power_w, max(coalesce(power_max_w, power_w)) AS power_max_w
FROM facility
WHERE ts > $since AND kind = 'row' AND power_w IS NOT NULL
GROUP BY unit, ceil(epoch_us(ts) / ($bucket_s::DOUBLE * 1e6))
ORDER BY row, ts
