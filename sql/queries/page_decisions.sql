-- The page: the newest decisions of every policy in the last hour, each with what became of it.
-- $since: run time, naive UTC; an hour ago
-- $most = 150: at most so many of each policy
WITH recent AS (
    SELECT * FROM decisions WHERE arrived_at > $since
    QUALIFY row_number() OVER (PARTITION BY policy ORDER BY ts DESC, k_offset DESC) <= $most::BIGINT
),
acted AS (
    SELECT decision_id, any_value(action_id) AS action_id, any_value(mode) AS mode
    FROM (SELECT unnest(decision_ids) AS decision_id, action_id, mode FROM actions WHERE arrived_at > $since AND renews = '')
    GROUP BY decision_id
),
result AS (
    -- How it began counts, not that a lease ended later; an action that lifts has only its end.
    SELECT action_id, min(latency_s) AS latency_s,
        coalesce(arg_max(status, (ts, k_offset)) FILTER (status NOT IN ('expired', 'reverted')), max(status)) AS status
    FROM outcomes WHERE arrived_at > $since GROUP BY action_id
)
SELECT r.ts, r.policy, r.target, r.kind, r.max_mhz, r.no_change, r.reason, r.binding_constraint, r.counterfactual, r.probability,
    a.mode, o.status AS outcome, o.latency_s
FROM recent AS r LEFT JOIN acted AS a USING (decision_id) LEFT JOIN result AS o USING (action_id)
ORDER BY r.ts DESC, r.k_offset DESC
