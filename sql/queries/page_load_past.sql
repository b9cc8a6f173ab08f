-- The page: load of each endpoint in the last hour, from its instances' gauges: the sum of their means per interval.
-- $since: run time, naive UTC; an hour ago
-- $bucket_s: s, width of the intervals
SELECT endpoint, max(ts) AS ts, sum(requests_rps)::DOUBLE AS requests_rps
FROM (
    SELECT endpoint, node, ceil(epoch_us(ts) / ($bucket_s::DOUBLE * 1e6)) AS bucket, max(ts) AS ts, avg(requests_rps) AS requests_rps
    FROM endpoints WHERE ts > $since AND requests_rps IS NOT NULL GROUP BY endpoint, node, bucket
)
GROUP BY endpoint, bucket
ORDER BY endpoint, ts
