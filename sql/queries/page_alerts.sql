-- The page: alerts that fire, and those that ended within the last hour; each in its newest state.
-- $day: run time, naive UTC; alerts silent since then are forgotten
-- $since: run time, naive UTC; an hour ago
WITH told AS (
    -- An alert bears one id however often it comes back: each time counts for itself.
    SELECT *, count(*) FILTER (status = 'resolved') OVER (
        PARTITION BY alert_id ORDER BY ts, arrived_at, k_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS episode
    FROM alerts WHERE arrived_at > $day
),
newest AS (
    SELECT alert_id, any_value(alertname) AS alertname, arg_max(severity, place) AS severity, any_value(series) AS series,
        arg_max(probability, place) AS probability, arg_max_null(lead_s, place) AS lead_s, arg_max(summary, place) AS summary,
        arg_max(status, place) AS status, max(ts) AS ts, min(ts) AS began_at, arg_min_null(lead_s, place) AS first_lead_s
    FROM (SELECT *, (ts, arrived_at, k_offset) AS place FROM told)
    GROUP BY alert_id, episode
    QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY max(place) DESC) = 1
)
SELECT * FROM newest WHERE status = 'firing' OR ts > $since
ORDER BY status, severity, lead_s NULLS LAST, ts DESC, alert_id
