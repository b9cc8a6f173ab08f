-- Decisions that wanted something, by policy.
SELECT policy AS name, count(*) AS n FROM decisions WHERE kind IS NOT NULL GROUP BY policy ORDER BY policy
