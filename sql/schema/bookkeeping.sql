-- What the history knows about itself. Times here are wall time, UTC. No keys and no indexes: one process writes, and checks.
CREATE TABLE IF NOT EXISTS meta (key VARCHAR NOT NULL, value VARCHAR NOT NULL);
COMMENT ON TABLE meta IS 'the version of these tables';

CREATE TABLE IF NOT EXISTS offsets (
    cluster_id VARCHAR NOT NULL, topic VARCHAR NOT NULL, k_partition INTEGER NOT NULL, next_offset BIGINT NOT NULL
);
COMMENT ON TABLE offsets IS 'first record of each partition that is not yet in the history; commits together with the rows';
COMMENT ON COLUMN offsets.next_offset IS 'where reading goes on';

CREATE TABLE IF NOT EXISTS commits (
    committed_at TIMESTAMP NOT NULL, topic VARCHAR NOT NULL, records BIGINT NOT NULL, "rows" BIGINT NOT NULL,
    backfilled_rows BIGINT NOT NULL, oldest_created TIMESTAMP, freshness_s DOUBLE, commit_s DOUBLE NOT NULL
);
COMMENT ON TABLE commits IS 'one row per topic and commit; written with the next commit, when its end is known';
COMMENT ON COLUMN commits.committed_at IS 'end of the commit, wall time';
COMMENT ON COLUMN commits.records IS 'records of the log';
COMMENT ON COLUMN commits.backfilled_rows IS 'of rows: written after the fact';
COMMENT ON COLUMN commits.oldest_created IS 'creation of the oldest live record (header ce_time), wall time; NULL where none tells';
COMMENT ON COLUMN commits.freshness_s IS 's, creation of the oldest live record to the end of its commit: the slowest of the commit';
COMMENT ON COLUMN commits.commit_s IS 's, duration of the whole transaction';

CREATE TABLE IF NOT EXISTS sources (topic VARCHAR NOT NULL, name VARCHAR NOT NULL);
COMMENT ON TABLE sources IS 'who has ever appeared: nodes in gpu, endpoints in requests; spares scans of large tables';
