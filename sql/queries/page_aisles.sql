-- The page: every cold aisle with its air handlers and the airflow that they give while none is lost.
SELECT aisle, ahus, limit_cfm FROM topology_aisles ORDER BY rowid
