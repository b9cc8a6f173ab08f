"""The site's constants: air, and what differs from place to place. Where the others stand: servers in `profiles/`, serving in
`calibrations/`, the cooling plant and fan control in `plant/`, the control path in `actuators.py`.

[F] fitted, [P] the papers (TAPAS), [A] an engineering assumption without a source.
"""

# Inlet of an average position [P]: 18 degC below 15 outside, flat above 29, +3 from no to full load of the site; between,
# +.80 per degC [F]: TAPAS Fig. 3's three servers rise by .74, .77 and .88.
INLET_COLD_C, OUTSIDE_COLD_C, INLET_PER_C, OUTSIDE_FLAT_C, INLET_LOAD_C = 18.0, 15.0, 0.80, 29.0, 3.0
ROW_SPREAD_C, RACK_SPREAD_C, SERVER_SD_C, HOT_SERVER_C, HOT_SERVER_SHARE = 1.0, 2.0, 0.7, 2.0, 0.02  # [P], share [A]
OVERDRAW_C, OVERDRAW_LAG_S = 10.0, 60.0  # [A] per unit of air drawn beyond the supply
SITE_LOAD_LAG_S = 60.0  # [A]
FAN_LAG_S = 10.0  # [A]
UPS_LOST_SHARE, AHU_LOST_SHARE = 0.75, 0.90  # [P] TAPAS 2.1
