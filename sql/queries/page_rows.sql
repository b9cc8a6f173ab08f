-- The page: every row with its limit while nothing is lost.
SELECT row, aisle, upses, limit_w, servers FROM topology_rows ORDER BY rowid
