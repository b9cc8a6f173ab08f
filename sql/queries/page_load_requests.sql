-- The page: load of each endpoint in the last hour from its request log, for endpoints without gauges.
-- $since: run time, naive UTC; an hour ago
-- $now: run time, naive UTC; the interval that has not ended is left out
-- $bucket_s: s, width of the intervals
SELECT endpoint, make_timestamp((bucket * $bucket_s::DOUBLE * 1e6)::BIGINT) AS ts,
    sum(weight) / $bucket_s::DOUBLE AS requests_rps
FROM (
    SELECT endpoint, ceil(epoch_us(coalesce(received_at, ts)) / ($bucket_s::DOUBLE * 1e6)) AS bucket, coalesce(weight, 1) AS weight
    FROM requests WHERE ts > $since AND coalesce(received_at, ts) > $since
)
GROUP BY endpoint, bucket
HAVING bucket * $bucket_s::DOUBLE * 1e6 <= epoch_us($now::TIMESTAMP)
ORDER BY endpoint, ts
