"""The numbers behind the twin and where each comes from.

[F] fitted to a public table, [S] read in a public source, [P] the papers (TAPAS, POLCA, DynamoLLM), [A] an engineering
assumption without a source. Latency is the 2023 software's (Splitwise's profiling of Llama-2-70B on eight H100s): it is the
only one at hand with a prompt and a decode phase at TP8 and a frequency response measured on the same model (DynamoLLM).
"""

from typing import NamedTuple

import numpy as np

GPUS = 8
"""GPUs of a server; an instance spans them all (TP8)"""


class Latency(NamedTuple):
    """Seconds of an iteration: prefill = p0 + p1 n + p2 n^2 (n prompt tokens), decode = d0 + d1 b + d2 ctx."""

    p0: float
    p1: float
    p2: float
    d0: float
    d1: float
    d2: float


H100_TP8_2023 = Latency(p0=0.0269, p1=5.8e-5, p2=1.5e-9, d0=0.0298, d1=2.0e-4, d2=1.8e-7)  # [F] splitwise-sim's table

# Clock -> relative time, H100, Llama-2-70B TP8, medians of DynamoLLM's profile [F].
CLOCK_MHZ = np.array([800.0, 1000.0, 1200.0, 1400.0, 1600.0, 1800.0, 1980.0])
DECODE_TIME = np.array([1.72, 1.39, 1.19, 1.09, 1.04, 1.01, 1.0])
PREFILL_TIME = np.array([1.94, 1.54, 1.29, 1.11, 1.04, 1.00, 1.0])
MAX_MHZ = 1980.0  # [S] boost clock of the H100 SXM
# Below 800 MHz, time = (1 - beta) + beta fmax/f with the beta that meets the table at 800 MHz [F].
DECODE_BETA = 0.72 / (MAX_MHZ / 800.0 - 1.0)
PREFILL_BETA = 0.94 / (MAX_MHZ / 800.0 - 1.0)
# P(f)/P(fmax) = .25 + .75 (f/fmax)^1.05 of a busy GPU [F] (MAPE 7-9 %).
CLOCK_POWER_FLOOR, CLOCK_POWER_EXPONENT = 0.25, 1.05

TDP_W = 700.0  # [S] H100 SXM
PREFILL_W = 700.0  # [F] prefill runs at TDP
DECODE_BASE_W, DECODE_SPAN_W, DECODE_HALF_BATCH = 420.0, 250.0, 137.0  # [F] ML.ENERGY v3, 70B; at TP4, used for TP8 [A]
LOADED_W = 110.0  # [P] a loaded model that waits (DynamoLLM: 880 W on eight GPUs)
GPU_POWER_SD, INSTANCE_POWER_SD = 0.03, 0.02  # .03 is the calibration's, .02 [A]
LEAKAGE_PER_K, LEAKAGE_AT_C = 0.002, 65.0  # [A] the dynamic figures are taken as measured at 65 degC

OVERHEAD_W, FANS_W, PSU_SHARE = 2000.0, 1000.0, 0.94  # [A] server = (GPUs + overhead + fans duty^3) / .94
CFM_AT_FULL_DUTY = 1105.0 / 0.8  # [P] 1,105 CFM at 80 % PWM, linear in duty (fan law)
IDLE_DUTY = 0.33  # [A] 456 CFM
FAN_HOT_C, FAN_HOT_DUTY, FAN_PER_K = 73.0, 0.80, 0.03  # [A] 80 % where the hottest GPU stands at 24 degC inlet and full load
FAN_LAG_S = 10.0  # [A]

# Die and sink, die to air .053 K/W in all at 80 % duty [F]; capacities [A].
DIE_K_PER_W, DIE_J_PER_K = 0.020, 180.0
SINK_K_PER_W, SINK_J_PER_K = 0.028, 1100.0
RESISTANCE_MEAN, RESISTANCE_SD = 0.053, 0.006  # [P] spread over more than 3,000 GPUs (TAPAS Fig. 9)
AIR_OFFSET_C, AIR_SLOPE = 2.6, 0.96  # [F] TAPAS Fig. 7: T = 2.6 + .96 inlet + .053 P
# [P] TAPAS Fig. 9: medians of the eight GPUs less Fig. 7's line, at 25 degC and 640 W [A]: even GPUs (2, 4, ...) are cooler.
POSITION_C = np.array([6.7, 2.3, 5.2, 3.5, 6.1, 1.5, 5.1, 3.0])
POSITION_AT_W = 640.0
SLOWDOWN_C, SHUTDOWN_C = 87.0, 92.0  # [S] H100: highest operating temperature, shutdown
SLOWDOWN_HYSTERESIS_C = 10.0  # [A]
SLOWDOWN_MHZ = MAX_MHZ / 2  # [S] hardware slowdown halves the clock
BRAKE_MHZ = 288.0  # [P] POLCA

# Inlet of an average position [P]: 18 degC below 15 outside, flat above 29, +3 from no to full load of the site; between,
# +.80 per degC [F]: TAPAS Fig. 3's three servers rise by .74, .77 and .88.
INLET_COLD_C, OUTSIDE_COLD_C, INLET_PER_C, OUTSIDE_FLAT_C, INLET_LOAD_C = 18.0, 15.0, 0.80, 29.0, 3.0
ROW_SPREAD_C, RACK_SPREAD_C, SERVER_SD_C, HOT_SERVER_C, HOT_SERVER_SHARE = 1.0, 2.0, 0.7, 2.0, 0.02  # [P], share [A]
OVERDRAW_C, OVERDRAW_LAG_S = 10.0, 60.0  # [A] per unit of air drawn beyond the supply
SITE_LOAD_LAG_S = 60.0  # [A]
MEMORY_OFFSET_C, MEMORY_SD_C = 2.0, 4.0  # [P] memory between 2 below and 6 above the GPU
SENSOR_BIAS_SD_C = 0.5  # [A]
UPS_LOST_SHARE, AHU_LOST_SHARE = 0.75, 0.90  # [P] TAPAS 2.1
OUT_OF_BAND_S, BRAKE_S = (10.0, 40.0), 5.0  # [P] at most 40 s, power brake 5 s (POLCA); the lower end [A]
KV_TOKENS = 1_300_000  # [S] (8 x 80 GB - weights) / 320 KiB a token (80 layers, 8 KV heads of 128, 16 bit)
