CREATE OR REPLACE VIEW alerts_open AS
SELECT alert_id, alertname, severity, series, probability, lead_s, summary, ts AS since, forecast_ids
FROM alerts
QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY ts DESC, arrived_at DESC, k_offset DESC) = 1 AND status = 'firing';
COMMENT ON VIEW alerts_open IS 'alerts that fire now';
COMMENT ON COLUMN alerts_open.since IS 'newest change, run time';
COMMENT ON COLUMN alerts_open.lead_s IS 's, expected time to the violation, at that moment';
