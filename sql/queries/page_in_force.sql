-- The page: what is leased now: the newest unexpired action of every target, why, and what the agent read back.
-- $leases: run time, naive UTC; leases last issued before are over
-- $wall: wall time, naive UTC; leases count in it
WITH live AS (
    SELECT *, CASE WHEN renews = '' THEN action_id ELSE renews END AS first_id FROM actions
    WHERE arrived_at > $leases AND NOT starts_with(target, 'alert/')
    QUALIFY row_number() OVER (PARTITION BY target ORDER BY epoch DESC, arrived_at DESC, k_offset DESC) = 1
),
evidence AS (
    SELECT target, action_id, arg_max(struct_pack(status, after, reason, latency_s), (ts, k_offset)) AS told
    FROM outcomes WHERE arrived_at > $leases GROUP BY target, action_id
)
SELECT n.target, n.node, n.kind, t.row, t.tenant, t.endpoint, n.max_mhz, n.body->'$.value.shares' AS shares, n.policy, n.reason, n.mode,
    f.ts AS since, n.issued_wall + to_milliseconds((n.lease_s * 1000)::BIGINT) AS until_wall,
    e.told.status AS outcome, e.told.after AS evidence, e.told.reason AS outcome_reason, e.told.latency_s AS latency_s,
    d.counterfactual, d.binding_constraint, d.probability
FROM live AS n
LEFT JOIN actions AS f ON f.action_id = n.first_id AND f.arrived_at > $leases
LEFT JOIN evidence AS e ON e.action_id = n.first_id
LEFT JOIN topology AS t ON t.node = n.node
LEFT JOIN decisions AS d ON d.decision_id = f.decision_ids[1] AND d.arrived_at > $leases
WHERE n.kind <> 'revert' AND n.issued_wall + to_milliseconds((n.lease_s * 1000)::BIGINT) > $wall
ORDER BY n.kind, t.row, t.rack, t.slot, n.target
