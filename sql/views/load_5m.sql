CREATE OR REPLACE VIEW load_5m AS
SELECT ts, endpoint, count(*) AS instances, sum(requests_rps) AS requests_rps, sum(prompt_tok_s) AS prompt_tok_s,
    sum(output_tok_s) AS output_tok_s, sum(running) AS running, sum(waiting) AS waiting, max(ttft_p99_s) AS ttft_p99_s,
    max(tbt_p99_s) AS tbt_p99_s, sum(slo_ok_pct * requests_rps) / nullif(sum(requests_rps) FILTER (slo_ok_pct IS NOT NULL), 0) AS slo_ok_pct
FROM (
    SELECT time_bucket(INTERVAL 5 MINUTE, ts - INTERVAL 1 MICROSECOND) + INTERVAL 5 MINUTE AS ts, endpoint, node,
        avg(requests_rps) AS requests_rps, avg(prompt_tok_s) AS prompt_tok_s, avg(output_tok_s) AS output_tok_s,
        avg(running) AS running, avg(waiting) AS waiting, max(ttft_p99_s) AS ttft_p99_s, max(tbt_p99_s) AS tbt_p99_s,
        avg(slo_ok_pct) AS slo_ok_pct
    FROM endpoints GROUP BY ALL
)
GROUP BY ts, endpoint;
COMMENT ON VIEW load_5m IS 'load of each service in intervals of 5 min: means per instance, summed over instances';
COMMENT ON COLUMN load_5m.ts IS 'end of the interval; the last one may be incomplete';
COMMENT ON COLUMN load_5m.requests_rps IS '1/s';
COMMENT ON COLUMN load_5m.ttft_p99_s IS 's, worst P99 of any instance and interval within';
COMMENT ON COLUMN load_5m.tbt_p99_s IS 's, worst P99 of any instance and interval within';
COMMENT ON COLUMN load_5m.slo_ok_pct IS '%, weighted by requests';
