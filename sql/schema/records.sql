-- The JSON topics. `ts` is run time; `body` is the record as it stood on the log. All four last columns as on telemetry.
CREATE TABLE IF NOT EXISTS decisions (
    ts TIMESTAMP NOT NULL, decision_id VARCHAR NOT NULL, policy VARCHAR NOT NULL, target VARCHAR NOT NULL, kind VARCHAR,
    max_mhz DOUBLE, no_change VARCHAR NOT NULL, reason VARCHAR NOT NULL, binding_constraint VARCHAR NOT NULL,
    counterfactual VARCHAR NOT NULL, probability DOUBLE, low DOUBLE, high DOUBLE, priority INTEGER NOT NULL,
    expires_at TIMESTAMP, forecast_ids VARCHAR[] NOT NULL, mode VARCHAR NOT NULL, body JSON NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE decisions IS 'what the policies wanted and why; nobody obeys these';
COMMENT ON COLUMN decisions.kind IS 'clock_cap | weights | alert | revert; NULL = no change';
COMMENT ON COLUMN decisions.max_mhz IS 'MHz, of a clock_cap';
COMMENT ON COLUMN decisions.binding_constraint IS 'what forced it, e.g. row-1 power';
COMMENT ON COLUMN decisions.counterfactual IS 'what is expected without it';
COMMENT ON COLUMN decisions.probability IS '0..1, of the violation that it averts';

CREATE TABLE IF NOT EXISTS actions (
    ts TIMESTAMP NOT NULL, action_id VARCHAR NOT NULL, issued_wall TIMESTAMP NOT NULL, node VARCHAR NOT NULL,
    target VARCHAR NOT NULL, kind VARCHAR NOT NULL, max_mhz DOUBLE, lease_s DOUBLE NOT NULL, epoch BIGINT NOT NULL,
    decision_ids VARCHAR[] NOT NULL, policy VARCHAR NOT NULL, reason VARCHAR NOT NULL, low DOUBLE, high DOUBLE,
    mode VARCHAR NOT NULL, renews VARCHAR NOT NULL, body JSON NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE actions IS 'what agents obey: leased, signed, one lease per target';
COMMENT ON COLUMN actions.issued_wall IS 'wall time; the lease ends lease_s later, in wall time';
COMMENT ON COLUMN actions.max_mhz IS 'MHz, of a clock_cap';
COMMENT ON COLUMN actions.lease_s IS 's, wall';
COMMENT ON COLUMN actions.renews IS 'action_id of the first issue where this one only renews its lease; else empty';

CREATE TABLE IF NOT EXISTS outcomes (
    ts TIMESTAMP NOT NULL, action_id VARCHAR NOT NULL, node VARCHAR NOT NULL, target VARCHAR NOT NULL,
    status VARCHAR NOT NULL, before VARCHAR NOT NULL, after VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    latency_s DOUBLE NOT NULL, epoch BIGINT NOT NULL, agent VARCHAR NOT NULL, body JSON NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE outcomes IS 'what became of an action';
COMMENT ON COLUMN outcomes.status IS 'applied | applied_unverified | would_apply | partly | refused | failed | expired | reverted';
COMMENT ON COLUMN outcomes.after IS 'state read back: the evidence';
COMMENT ON COLUMN outcomes.latency_s IS 's, wall, from issue to evidence';

CREATE TABLE IF NOT EXISTS alerts (
    ts TIMESTAMP NOT NULL, alert_id VARCHAR NOT NULL, status VARCHAR NOT NULL, alertname VARCHAR NOT NULL,
    severity VARCHAR NOT NULL, series VARCHAR NOT NULL, probability DOUBLE NOT NULL, lead_s DOUBLE,
    summary VARCHAR NOT NULL, forecast_ids VARCHAR[] NOT NULL, body JSON NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE alerts IS 'predicted violations: a row when one starts, changes or ends';
COMMENT ON COLUMN alerts.status IS 'firing | resolved';
COMMENT ON COLUMN alerts.lead_s IS 's, expected time to the violation';

CREATE TABLE IF NOT EXISTS leadership (
    ts TIMESTAMP NOT NULL, controller VARCHAR NOT NULL, epoch BIGINT NOT NULL, body JSON NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE leadership IS 'claims to be the acting controller; the newest epoch acts';
COMMENT ON COLUMN leadership.epoch IS 'the offset of the claim';

CREATE TABLE IF NOT EXISTS rejected (
    ts TIMESTAMP NOT NULL, topic VARCHAR NOT NULL, source VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    "rows" BIGINT NOT NULL, sample VARCHAR NOT NULL, rejected_by VARCHAR NOT NULL,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE rejected IS 'input that was not accepted, with its reason';
COMMENT ON COLUMN rejected.topic IS 'what it was meant for';
COMMENT ON COLUMN rejected.rejected_by IS 'source = told on the topic rejected, where its place in the log is; history = refused here: place in the log of topic';

CREATE TABLE IF NOT EXISTS brake (
    key VARCHAR NOT NULL, body JSON,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE brake IS 'the power brake: who pulled it, when, why';

CREATE TABLE IF NOT EXISTS state (
    key VARCHAR NOT NULL, body JSON,
    arrived_at TIMESTAMP NOT NULL, k_partition INTEGER NOT NULL, k_offset BIGINT NOT NULL, created_wall TIMESTAMP
);
COMMENT ON TABLE state IS 'every value that state had: topology, plants, profiles, modes, the operator''s requests; NULL = deleted';
