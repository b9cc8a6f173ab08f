-- What stands where: the newest topology on the topic `state`, taken apart. Older ones stand in the table state.
CREATE TABLE IF NOT EXISTS topology (
    node VARCHAR NOT NULL, slot INTEGER NOT NULL, rack VARCHAR NOT NULL, row VARCHAR NOT NULL, aisle VARCHAR NOT NULL,
    upses VARCHAR[] NOT NULL, tenant VARCHAR NOT NULL, endpoint VARCHAR, customer VARCHAR, priority VARCHAR NOT NULL,
    hardware VARCHAR NOT NULL, gpus INTEGER NOT NULL, max_power_w DOUBLE NOT NULL, max_clock_mhz DOUBLE NOT NULL,
    min_clock_mhz DOUBLE NOT NULL, slowdown_c DOUBLE NOT NULL, row_limit_w DOUBLE NOT NULL, aisle_limit_cfm DOUBLE NOT NULL
);
COMMENT ON TABLE topology IS 'one row per server, with its tenant and its limits';
COMMENT ON COLUMN topology.slot IS 'position in the rack';
COMMENT ON COLUMN topology.tenant IS 'saas | iaas | free';
COMMENT ON COLUMN topology.max_power_w IS 'W, nameplate of the server';
COMMENT ON COLUMN topology.max_clock_mhz IS 'MHz, SM clock';
COMMENT ON COLUMN topology.min_clock_mhz IS 'MHz, lowest SM clock that a cap may ask for';
COMMENT ON COLUMN topology.slowdown_c IS 'degC, hardware slowdown of the GPU';
COMMENT ON COLUMN topology.row_limit_w IS 'W, of the whole row while nothing is lost';
COMMENT ON COLUMN topology.aisle_limit_cfm IS 'CFM, of the whole aisle while nothing is lost';

CREATE TABLE IF NOT EXISTS topology_rows (row VARCHAR NOT NULL, aisle VARCHAR NOT NULL, upses VARCHAR[] NOT NULL, limit_w DOUBLE NOT NULL, servers INTEGER NOT NULL);
COMMENT ON TABLE topology_rows IS 'rows, also those without servers';
COMMENT ON COLUMN topology_rows.limit_w IS 'W, while nothing is lost';

CREATE TABLE IF NOT EXISTS topology_aisles (aisle VARCHAR NOT NULL, ahus VARCHAR[] NOT NULL, limit_cfm DOUBLE NOT NULL);
COMMENT ON TABLE topology_aisles IS 'cold aisles and their air handlers';

CREATE TABLE IF NOT EXISTS topology_upses (ups VARCHAR NOT NULL, limit_w DOUBLE NOT NULL);
COMMENT ON TABLE topology_upses IS 'UPSes';

CREATE TABLE IF NOT EXISTS topology_endpoints (endpoint VARCHAR NOT NULL, model VARCHAR NOT NULL, ttft_slo_s DOUBLE NOT NULL, tbt_slo_s DOUBLE NOT NULL, priority VARCHAR NOT NULL);
COMMENT ON TABLE topology_endpoints IS 'inference services and their objectives (P99)';
