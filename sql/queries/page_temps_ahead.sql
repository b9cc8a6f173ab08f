-- The page: the highest inlet and GPU temperature of every server within the next hour, median and 99 %, by the newest champions.
-- $issued: run time, naive UTC; older forecasts are not shown
-- $now: run time, naive UTC
-- $until: run time, naive UTC; an hour ahead
WITH newest AS (
    SELECT target, max(ts) AS ts FROM forecasts
    WHERE ts > $issued AND champion AND target IN ('inlet', 'gpu_temp') GROUP BY target
),
flat AS (
    SELECT f.target, f.series, f.valid_at, f.levels, len(f.levels) AS width, unnest(f."values") AS value,
        unnest(range(len(f."values"))) AS k
    FROM forecasts AS f JOIN newest AS n ON n.target = f.target AND n.ts = f.ts
    WHERE f.ts > $issued AND f.champion AND NOT contains(f.series, '/')
)
SELECT target, series,
    max(value) FILTER (levels[1 + k % width] = 0.5) AS median_c,
    max(value) FILTER (levels[1 + k % width] = 0.99) AS upper_c
FROM flat
WHERE valid_at[1 + k // width] > $now AND valid_at[1 + k // width] <= $until
GROUP BY target, series
ORDER BY target, series
