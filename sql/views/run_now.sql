CREATE OR REPLACE VIEW run_now AS
SELECT greatest((SELECT max(ts) FROM server), (SELECT max(ts) FROM facility), (SELECT max(ts) FROM gpu), (SELECT max(ts) FROM endpoints)) AS ts;
COMMENT ON VIEW run_now IS 'the newest telemetry: what "now" means in the run''s time, which may differ from the wall''s';
