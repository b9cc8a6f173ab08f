-- One row per frequency cap as first issued: its renewals, decisions and outcomes folded into it.
CREATE OR REPLACE VIEW caps AS
WITH issued AS (
    SELECT *, lead(ts) OVER w AS replaced_at, lead(kind) OVER w AS replaced_by
    FROM actions WHERE renews = '' AND starts_with(target, 'clock_cap/')
    WINDOW w AS (PARTITION BY target ORDER BY ts, epoch, arrived_at, k_offset)
),
renewed AS (SELECT renews AS action_id, max(ts) AS renewed_at, count(*) AS renewals FROM actions WHERE renews <> '' GROUP BY renews),
same AS (SELECT action_id AS id, action_id FROM actions WHERE renews = '' UNION ALL SELECT action_id, renews FROM actions WHERE renews <> ''),
ended AS (
    SELECT s.action_id, arg_max(o.status, o.ts) FILTER (o.status NOT IN ('expired', 'reverted')) AS outcome,
        arg_max(o.before, o.ts) FILTER (o.status NOT IN ('expired', 'reverted')) AS before,
        arg_max(o.after, o.ts) FILTER (o.status NOT IN ('expired', 'reverted')) AS after,
        min(o.latency_s) FILTER (o.status NOT IN ('expired', 'reverted')) AS latency_s,
        min(o.ts) FILTER (o.status NOT IN ('expired', 'reverted')) AS outcome_at,
        arg_max(o.status, o.ts) FILTER (o.status IN ('expired', 'reverted')) AS ended_as,
        max(o.ts) FILTER (o.status IN ('expired', 'reverted')) AS ended_at
    FROM outcomes AS o JOIN same AS s ON s.id = o.action_id GROUP BY s.action_id
),
why AS (
    SELECT a.action_id, flatten(list(d.forecast_ids)) AS forecast_ids,
        string_agg(DISTINCT d.binding_constraint, '; ') FILTER (d.binding_constraint <> '') AS binding_constraint,
        string_agg(DISTINCT d.counterfactual, '; ') FILTER (d.counterfactual <> '') AS counterfactual, max(d.probability) AS probability
    FROM (SELECT action_id, unnest(decision_ids) AS decision_id FROM issued) AS a JOIN decisions AS d USING (decision_id)
    GROUP BY a.action_id
)
SELECT i.action_id, i.ts, i.node, t.row, t.tenant, t.priority, i.max_mhz, i.mode, i.policy, i.reason, w.binding_constraint,
    w.counterfactual, w.probability, i.decision_ids, coalesce(w.forecast_ids, []) AS forecast_ids, e.outcome, e.outcome_at,
    e.latency_s, e.before, e.after, coalesce(r.renewals, 0) AS renewals, r.renewed_at,
    CASE WHEN e.ended_at IS NOT NULL THEN e.ended_as WHEN i.replaced_by = 'revert' THEN 'reverted' WHEN i.replaced_at IS NOT NULL THEN 'replaced' END AS ended_as,
    least(e.ended_at, i.replaced_at) AS ended_at, i.lease_s, i.epoch
FROM issued AS i LEFT JOIN topology AS t USING (node) LEFT JOIN renewed AS r USING (action_id) LEFT JOIN ended AS e USING (action_id)
LEFT JOIN why AS w USING (action_id)
WHERE i.kind = 'clock_cap';
COMMENT ON VIEW caps IS 'every frequency cap: what, why, by which forecasts, what became of it, until when';
COMMENT ON COLUMN caps.ts IS 'first issue, run time';
COMMENT ON COLUMN caps.max_mhz IS 'MHz, the SM clock may not exceed it';
COMMENT ON COLUMN caps.probability IS '0..1, of the violation that it averts';
COMMENT ON COLUMN caps.outcome IS 'newest status of applying it; NULL = the agent has not answered';
COMMENT ON COLUMN caps.latency_s IS 's, wall, issue to first evidence';
COMMENT ON COLUMN caps.ended_as IS 'expired | reverted | replaced; NULL = in force as far as is known';
COMMENT ON COLUMN caps.ended_at IS 'run time; NULL = in force as far as is known';
