-- One node's caps: the forecast that caused each, and its row's power before and after.
-- $node: the server; % = all
-- $n = 50: how many, newest first
SELECT ts, node, row, max_mhz, policy, reason, forecast_target, forecast_series, model, issued_at, level, predicted, predicted_for,
    unit, outcome, before_w, after_w, after_max_w, limit_w, ended_as, ended_at, action_id, forecast_id
FROM cap_story
WHERE node LIKE $node
ORDER BY ts DESC, node, forecast_id
LIMIT $n::BIGINT
