-- What is leased now: the newest unexpired action of every target, by which policy, why, until when, and what the agent read back.
-- $wall: wall time, naive UTC; leases count in it
WITH live AS (
    SELECT *, CASE WHEN renews = '' THEN action_id ELSE renews END AS first_id FROM actions
    WHERE issued_wall > $wall::TIMESTAMP - INTERVAL 1 DAY
    QUALIFY row_number() OVER (PARTITION BY target ORDER BY epoch DESC, issued_wall DESC, k_offset DESC) = 1
),
told AS (SELECT action_id, arg_max(status, ts) AS outcome, arg_max(after, ts) AS evidence FROM outcomes GROUP BY action_id)
SELECT target, coalesce(max_mhz::VARCHAR || ' MHz', (body->'$.value')::VARCHAR) AS value, policy, reason, mode, ts AS since,
    issued_wall + to_milliseconds((lease_s * 1000)::BIGINT) AS until_wall, outcome, evidence, live.action_id
FROM live LEFT JOIN told ON told.action_id = first_id
WHERE kind <> 'revert' AND issued_wall + to_milliseconds((lease_s * 1000)::BIGINT) > $wall::TIMESTAMP
ORDER BY target
