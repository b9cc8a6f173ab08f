-- What has no forecast at present, and why.
SELECT target, series, reason, since
FROM (
    SELECT target, series, reason, ts AS since FROM forecast_absent
    QUALIFY row_number() OVER (PARTITION BY target, series ORDER BY ts DESC, k_offset DESC) = 1
)
WHERE reason IS NOT NULL
ORDER BY target, series
