-- Wall energy per million tokens (prompt and output) of each service, by hour: from the power of the servers that serve it.
-- $hours = 24: how far back
WITH energy AS (
    SELECT date_trunc('hour', s.ts - INTERVAL 1 MICROSECOND) AS hour, t.endpoint, t.node, avg(s.power_w) AS power_w,
        count(DISTINCT date_trunc('minute', s.ts)) AS minutes
    FROM server AS s JOIN topology AS t USING (node)
    WHERE t.endpoint IS NOT NULL AND s.power_w IS NOT NULL AND s.ts > (SELECT max(ts) FROM server) - to_hours($hours::BIGINT)
    GROUP BY ALL
),
tokens AS (
    SELECT date_trunc('hour', ts - INTERVAL 1 MICROSECOND) AS hour, endpoint, node, avg(prompt_tok_s) AS prompt_tok_s, avg(output_tok_s) AS output_tok_s
    FROM endpoints WHERE ts > (SELECT max(ts) FROM server) - to_hours($hours::BIGINT)
    GROUP BY ALL
)
SELECT e.hour, e.endpoint, count(*) AS servers, sum(e.power_w) AS power_w, sum(t.prompt_tok_s) AS prompt_tok_s,
    sum(t.output_tok_s) AS output_tok_s,
    sum(e.power_w) / nullif(sum(coalesce(t.prompt_tok_s, 0) + coalesce(t.output_tok_s, 0)), 0) * 1e6 / 3.6e6 AS kwh_per_mtok
FROM energy AS e JOIN tokens AS t ON t.hour = e.hour AND t.endpoint = e.endpoint AND t.node = e.node
GROUP BY e.hour, e.endpoint
ORDER BY e.hour DESC, e.endpoint
