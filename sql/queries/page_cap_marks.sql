-- The page: when frequency caps were issued and lifted in the last hour, per row and interval (advice counts, it is marked).
-- $since: run time, naive UTC; an hour ago
-- $bucket_s: s, width of the intervals
SELECT t.row, max(a.ts) AS ts, count(*) FILTER (a.kind = 'clock_cap') AS capped, count(*) FILTER (a.kind = 'revert') AS lifted,
    min(a.max_mhz) AS min_mhz, count(*) FILTER (a.mode = 'enforce') AS enforced, string_agg(DISTINCT a.policy, ', ' ORDER BY a.policy) AS policies
FROM actions AS a JOIN topology AS t USING (node)
WHERE a.arrived_at > $since AND a.ts > $since AND a.renews = '' AND starts_with(a.target, 'clock_cap/')
GROUP BY t.row, ceil(epoch_us(a.ts) / ($bucket_s::DOUBLE * 1e6))
ORDER BY t.row, ts
