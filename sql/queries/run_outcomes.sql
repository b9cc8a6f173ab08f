-- What became of actions, by status.
SELECT status AS name, count(*) AS n FROM outcomes GROUP BY status ORDER BY status
