-- The page: how many actions of the last hour ended how, and how long until the evidence.
-- $since: run time, naive UTC; an hour ago
SELECT status, count(*) AS n, quantile_cont(latency_s, 0.5) AS latency_p50_s, quantile_cont(latency_s, 0.99) AS latency_p99_s,
    arg_max(target, (ts, k_offset)) AS newest_target, arg_max(reason, (ts, k_offset)) AS newest_reason, max(ts) AS newest_at
FROM outcomes WHERE arrived_at > $since
GROUP BY status
ORDER BY n DESC, status
