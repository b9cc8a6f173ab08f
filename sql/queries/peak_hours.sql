-- When rows are fullest: the highest share of the limit by row and hour of day (UTC).
-- $days = 7: how far back
SELECT row, hour(ts - INTERVAL 1 MICROSECOND) AS hour, max(share) AS max_share, avg(share) AS mean_share, min(headroom_w) AS min_headroom_w
FROM row_power
WHERE ts > (SELECT ts FROM run_now) - to_days($days::INTEGER)
GROUP BY ALL
ORDER BY max_share DESC, row, hour
