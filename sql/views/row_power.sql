-- Meters where a row has one, else the sum of its servers: only where every server of the row told its power at that time.
CREATE OR REPLACE VIEW row_power AS
SELECT f.ts, f.unit AS row, f.power_w, f.power_max_w, r.limit_w, r.limit_w - f.power_w AS headroom_w,
    f.power_w / r.limit_w AS share, coalesce(f.source, 'meter') AS source, coalesce(f.backfilled, false) AS backfilled
FROM facility AS f LEFT JOIN topology_rows AS r ON r.row = f.unit
WHERE f.kind = 'row' AND f.power_w IS NOT NULL
UNION ALL
SELECT s.ts, r.row, sum(s.power_w)::DOUBLE AS power_w, NULL AS power_max_w, r.limit_w, r.limit_w - sum(s.power_w) AS headroom_w,
    sum(s.power_w) / r.limit_w AS share, 'sum' AS source, bool_or(coalesce(s.backfilled, false)) AS backfilled
FROM server AS s JOIN topology AS t USING (node) JOIN topology_rows AS r ON r.row = t.row
WHERE s.power_w IS NOT NULL
    AND r.row NOT IN (SELECT unit FROM facility WHERE kind = 'row' AND power_w IS NOT NULL)
GROUP BY s.ts, r.row, r.limit_w, r.servers
HAVING count(*) = r.servers;
COMMENT ON VIEW row_power IS 'power of each row beside its limit, over all time';
COMMENT ON COLUMN row_power.ts IS 'end of the interval, run time, UTC';
COMMENT ON COLUMN row_power.power_w IS 'W, mean of the interval';
COMMENT ON COLUMN row_power.power_max_w IS 'W, highest 1 s power within the interval, where the meter tells';
COMMENT ON COLUMN row_power.limit_w IS 'W, while no UPS is lost';
COMMENT ON COLUMN row_power.headroom_w IS 'W, limit less power; below 0 = over the limit';
COMMENT ON COLUMN row_power.share IS 'power / limit';
COMMENT ON COLUMN row_power.source IS 'meter | sum (of its servers)';
