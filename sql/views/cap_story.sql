-- The minute before the cap beside the five minutes after it; joined by minute, so that no row is compared with every cap.
CREATE OR REPLACE VIEW cap_story AS
WITH minutes AS (
    SELECT row, date_trunc('minute', ts - INTERVAL 1 MICROSECOND) AS minute, avg(power_w) AS power_w,
        max(coalesce(power_max_w, power_w)) AS max_w, any_value(limit_w) AS limit_w
    FROM row_power WHERE ts > (SELECT min(ts) - INTERVAL 5 MINUTE FROM actions) GROUP BY ALL
),
around AS (
    SELECT c.action_id, avg(m.power_w) FILTER (c.k = -1) AS before_w, avg(m.power_w) FILTER (c.k BETWEEN 1 AND 5) AS after_w,
        max(m.max_w) FILTER (c.k BETWEEN 1 AND 5) AS after_max_w, any_value(m.limit_w) AS limit_w
    FROM (SELECT action_id, row, unnest(range(-1, 6)) AS k, date_trunc('minute', ts) + to_minutes(k) AS minute FROM caps) AS c
    JOIN minutes AS m ON m.row = c.row AND m.minute = c.minute GROUP BY c.action_id
),
cause AS (
    SELECT c.action_id, p.forecast_id, any_value(p.target) AS forecast_target, any_value(p.series) AS forecast_series,
        any_value(p.model) AS model, any_value(p.issued_at) AS issued_at, any_value(p.unit) AS unit, max(p.level) AS level,
        arg_max(p.value, (p.level, CASE WHEN p.target = 'headroom' THEN -p.value ELSE p.value END)) AS predicted,
        arg_max(p.valid_at, (p.level, CASE WHEN p.target = 'headroom' THEN -p.value ELSE p.value END)) AS predicted_for
    FROM (SELECT action_id, unnest(forecast_ids) AS forecast_id FROM caps) AS c JOIN forecast_path AS p USING (forecast_id)
    WHERE p.level <= 0.99
    GROUP BY c.action_id, p.forecast_id
)
SELECT c.action_id, c.ts, c.node, c.row, c.max_mhz, c.policy, c.reason, f.forecast_id, f.forecast_target, f.forecast_series,
    f.model, f.issued_at, f.level, f.predicted, f.predicted_for, f.unit, c.counterfactual, c.probability, c.outcome,
    c.outcome_at, a.before_w, a.after_w, a.after_max_w, a.limit_w, a.after_w - a.before_w AS change_w, c.ended_as, c.ended_at
FROM caps AS c LEFT JOIN cause AS f USING (action_id) LEFT JOIN around AS a USING (action_id);
COMMENT ON VIEW cap_story IS 'a frequency cap, the forecast that caused it, and its row''s power before and after; a row per forecast used';
COMMENT ON COLUMN cap_story.predicted IS 'in unit: the worst value of the path at the highest level up to 0.99';
COMMENT ON COLUMN cap_story.predicted_for IS 'the time of that value';
COMMENT ON COLUMN cap_story.level IS 'quantile level of predicted';
COMMENT ON COLUMN cap_story.before_w IS 'W, mean row power in the minute before the one of the cap';
COMMENT ON COLUMN cap_story.after_w IS 'W, mean row power in the five minutes after the one of the cap';
COMMENT ON COLUMN cap_story.after_max_w IS 'W, highest row power in those five minutes';
COMMENT ON COLUMN cap_story.change_w IS 'W, after less before';
