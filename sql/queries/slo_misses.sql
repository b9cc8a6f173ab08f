-- Requests that missed their objective, by service and 5 min: rejected and failed ones count as missed.
-- $hours = 1: how far back
SELECT time_bucket(INTERVAL 5 MINUTE, r.ts - INTERVAL 1 MICROSECOND) + INTERVAL 5 MINUTE AS ts, r.endpoint,
    sum(coalesce(r.weight, 1)) AS requests,
    sum(coalesce(r.weight, 1)) FILTER (coalesce(r.status, 'ok') <> 'ok' OR r.ttft_s > e.ttft_slo_s OR r.tbt_s > e.tbt_slo_s) AS missed,
    sum(coalesce(r.weight, 1)) FILTER (coalesce(r.status, 'ok') <> 'ok') AS not_served,
    100 * (1 - coalesce(missed, 0) / requests) AS slo_ok_pct, quantile_cont(r.ttft_s, 0.99) AS ttft_p99_s,
    any_value(e.ttft_slo_s) AS ttft_slo_s, quantile_cont(r.tbt_s, 0.99) AS tbt_p99_s, any_value(e.tbt_slo_s) AS tbt_slo_s
FROM requests AS r LEFT JOIN topology_endpoints AS e USING (endpoint)
WHERE r.ts > (SELECT max(ts) FROM requests) - to_hours($hours::BIGINT)
GROUP BY ALL
HAVING missed > 0
ORDER BY ts DESC, missed DESC
