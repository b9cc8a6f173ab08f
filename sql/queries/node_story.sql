-- All that happened to one node, newest first: what was decided, ordered, done, and what it led to in alerts.
-- $node: the server
-- $hours = 6: how far back
-- $n = 100: how many
SELECT ts, what, kind, detail, reason FROM (
    SELECT ts, 'decision' AS what, coalesce(kind, 'no change') AS kind, concat_ws(' ', policy, target, max_mhz || ' MHz', binding_constraint) AS detail,
        concat_ws(': ', nullif(reason, ''), nullif(no_change, ''), nullif(counterfactual, '')) AS reason
    FROM decisions WHERE target LIKE '%/' || $node OR target LIKE '%/' || $node || '/%'
    UNION ALL
    SELECT ts, 'action', kind, concat_ws(' ', mode, target, max_mhz || ' MHz'), reason FROM actions WHERE node = $node AND renews = ''
    UNION ALL
    SELECT ts, 'outcome', status, concat_ws(' -> ', before, after), reason FROM outcomes WHERE node = $node
    UNION ALL
    SELECT ts, 'alert', status, alertname, summary FROM alerts WHERE series = $node OR series = (SELECT row FROM topology WHERE node = $node)
    UNION ALL
    SELECT ts, 'gpu lost', 'gpu ' || gpu, NULL, NULL FROM gpu WHERE node = $node AND state = 'lost'
)
WHERE ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT)
ORDER BY ts DESC, what
LIMIT $n::BIGINT
