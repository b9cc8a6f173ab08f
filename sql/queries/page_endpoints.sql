-- The page: every endpoint with its objectives and the newest of its instances' gauges; NULL = no gauges since $slow.
-- $slow: run time, naive UTC; older gauges are not shown
SELECT coalesce(t.endpoint, g.endpoint) AS endpoint, t.model, t.priority, t.ttft_slo_s, t.tbt_slo_s,
    g.instances, g.ts, g.created_wall, g.requests_rps, g.running, g.waiting, g.kv_cache_pct, g.ttft_p99_s, g.slo_ok_pct
FROM topology_endpoints AS t FULL JOIN (
    SELECT endpoint, count(*) AS instances, max(ts) AS ts, max(created_wall) AS created_wall,
        sum(requests_rps)::DOUBLE AS requests_rps, sum(running)::DOUBLE AS running, sum(waiting)::DOUBLE AS waiting,
        avg(kv_cache_pct) AS kv_cache_pct, max(ttft_p99_s) AS ttft_p99_s,
        sum(slo_ok_pct * requests_rps) FILTER (slo_ok_pct IS NOT NULL)
            / nullif(sum(requests_rps) FILTER (slo_ok_pct IS NOT NULL), 0) AS slo_ok_pct
    FROM (
        SELECT endpoint, node, max(ts) AS ts, arg_max(created_wall, ts) AS created_wall,
            arg_max(requests_rps, ts) AS requests_rps, arg_max(running, ts) AS running, arg_max(waiting, ts) AS waiting,
            arg_max(kv_cache_pct, ts) AS kv_cache_pct, arg_max(ttft_p99_s, ts) AS ttft_p99_s, arg_max(slo_ok_pct, ts) AS slo_ok_pct
        FROM endpoints WHERE ts > $slow GROUP BY endpoint, node
    )
    GROUP BY endpoint
) AS g ON g.endpoint = t.endpoint
ORDER BY endpoint
