-- The servers whose hottest GPU is nearest to hardware slowdown now.
-- $n = 10: how many
SELECT node, row, tenant, priority, gpu_max_c, margin_k, inlet_c, power_w, age_s
FROM (
    SELECT s.node, s.row, s.tenant, s.priority, coalesce(s.gpu_max_c, g.gpu_max_c) AS gpu_max_c,
        coalesce(s.margin_k, g.margin_k) AS margin_k, s.inlet_c, s.power_w, s.age_s
    FROM server_now AS s
    LEFT JOIN (SELECT node, max(temp_c) AS gpu_max_c, min(margin_k) AS margin_k FROM gpu_now GROUP BY node) AS g USING (node)
)
WHERE gpu_max_c IS NOT NULL
ORDER BY margin_k NULLS LAST, gpu_max_c DESC, node
LIMIT $n::BIGINT
