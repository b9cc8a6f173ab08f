-- The page: what arrived in the last minute of wall time, and how long it took from creation to commit.
-- $minute: wall time, naive UTC; a minute ago
SELECT topic, max(committed_at) AS committed_at, sum("rows")::BIGINT AS "rows", quantile_cont(freshness_s, 0.99) AS p99_s
FROM commits WHERE committed_at > $minute
GROUP BY topic
ORDER BY topic
