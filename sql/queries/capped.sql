-- What is capped now: each frequency cap in force, why, and until now with what outcome.
SELECT node, row, tenant, priority, max_mhz, ts AS since, policy, reason, outcome, mode, renewals, action_id
FROM caps
WHERE ended_at IS NULL
ORDER BY ts DESC, node
