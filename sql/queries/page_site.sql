-- The page: the site's name, what is left when a UPS or an air handler is lost, the modes, and who controls.
WITH newest AS (
    SELECT key, body FROM state WHERE key IN ('topology', 'modes')
    QUALIFY row_number() OVER (PARTITION BY key ORDER BY arrived_at DESC, k_offset DESC) = 1
),
leader AS (SELECT controller, epoch FROM leadership ORDER BY epoch DESC LIMIT 1)
SELECT
    max(body->>'$.site') FILTER (key = 'topology') AS site,
    max((body->>'$.ups_lost_share')::DOUBLE) FILTER (key = 'topology') AS ups_lost_share,
    max((body->>'$.ahu_lost_share')::DOUBLE) FILTER (key = 'topology') AS ahu_lost_share,
    max(body::VARCHAR) FILTER (key = 'modes') AS modes,
    (SELECT controller FROM leader) AS controller, (SELECT epoch FROM leader) AS epoch
FROM newest
