CREATE OR REPLACE VIEW freshness AS
SELECT topic, sum(records)::BIGINT AS records, sum("rows")::BIGINT AS "rows", quantile_cont(freshness_s, 0.5) AS p50_s,
    quantile_cont(freshness_s, 0.99) AS p99_s, max(freshness_s) AS max_s, max(committed_at) AS last_commit
FROM commits GROUP BY topic;
COMMENT ON VIEW freshness IS 'how long records take from creation to commit, by topic; back-filled rows left out of the times';
COMMENT ON COLUMN freshness.p99_s IS 's, wall, over commits, each by its slowest record';
COMMENT ON COLUMN freshness.last_commit IS 'wall time';
