-- The page: alerts that fire, and those that ended within the last hour; each in its newest state.
-- $day: run time, naive UTC; alerts silent since then are forgotten
-- $since: run time, naive UTC; an hour ago
SELECT alert_id, alertname, severity, series, probability, lead_s, summary, status, ts, began_at, first_lead_s
FROM (
    SELECT *, min(ts) OVER same AS began_at, first_value(lead_s) OVER (same ORDER BY ts, k_offset) AS first_lead_s,
        row_number() OVER (same ORDER BY ts DESC, arrived_at DESC, k_offset DESC) AS back
    FROM alerts WHERE arrived_at > $day
    WINDOW same AS (PARTITION BY alert_id)
)
WHERE back = 1 AND (status = 'firing' OR ts > $since)
ORDER BY status, severity, lead_s NULLS LAST, ts DESC, alert_id
