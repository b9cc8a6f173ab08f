-- The page: power of a row without a meter, the sum of its servers, where every server of the row told its power.
-- $since: run time, naive UTC; an hour ago
-- $bucket_s: s, width of the intervals
WITH node_power AS (
    SELECT t.row, s.node, ceil(epoch_us(s.ts) / ($bucket_s::DOUBLE * 1e6)) AS bucket,
        max(s.ts) AS ts, max(s.created_wall) AS created_wall, avg(s.power_w) AS power_w
    FROM server AS s JOIN topology AS t USING (node)
    WHERE s.ts > $since AND s.power_w IS NOT NULL
    GROUP BY ALL
)
SELECT n.row, max(n.ts) AS ts, max(n.created_wall) AS created_wall, sum(n.power_w)::DOUBLE AS power_w
FROM node_power AS n JOIN topology_rows AS r ON r.row = n.row
GROUP BY n.row, n.bucket, r.servers
HAVING count(*) = r.servers
ORDER BY n.row, ts
