-- Which model speaks for which series and horizons, since when, and what the others' errors were beside it.
-- $hours = 24: how far back
SELECT ts, target, kind, band, model, previous, reason, models, ratios
FROM forecast_choices
WHERE ts > (SELECT ts FROM run_now) - to_hours($hours::BIGINT) AND reason <> 'kept'
ORDER BY ts DESC, target, kind, band
