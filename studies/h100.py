"""The demo's H100 server as plain numbers: what its profile and its serving calibration say."""

import numpy as np

from twin import hardware, models
from twin.actuators import OUT_OF_BAND_S

TP = 4
_P = hardware.load("h100")
POINT = models.load("llama2-70b-2023").point("llama2-70b", "h100", TP)
GPUS, TDP_W, MAX_MHZ, SLOWDOWN_C = _P.sheet.gpus, _P.sheet.gpu_tdp_w, _P.sheet.max_clock_mhz, _P.sheet.slowdown_c
LOADED_W, GPU_POWER_SD, INSTANCE_POWER_SD = _P.power.loaded_w, _P.power.gpu_sd, _P.power.instance_sd
CLOCK_POWER_FLOOR, CLOCK_POWER_EXPONENT = _P.power.clock_floor, _P.power.clock_exponent
LEAKAGE_PER_K, LEAKAGE_AT_C = _P.power.leakage_per_k, _P.power.leakage_at_c
OVERHEAD_W, FANS_W, PSU_SHARE = _P.power.overhead_w, _P.power.fans_w, _P.power.psu_share
CFM_AT_FULL_DUTY, IDLE_DUTY = _P.fans.cfm_full, _P.fans.idle_duty
FAN_HOT_C, FAN_HOT_DUTY, FAN_PER_K = _P.fans.hot_c, _P.fans.hot_duty, _P.fans.per_k
RESISTANCE_MEAN, RESISTANCE_SD = _P.heat.resistance_mean, _P.heat.resistance_sd
DIE_K_PER_W, SINK_K_PER_W = _P.heat.die_k_per_w, _P.heat.sink_k_per_w
DIE_J_PER_K, SINK_J_PER_K = _P.heat.die_j_per_k, _P.heat.sink_j_per_k
AIR_OFFSET_C, AIR_SLOPE = _P.heat.air_offset_c, _P.heat.air_slope
POSITION_C, POSITION_AT_W = np.array(_P.heat.position_c), _P.heat.position_at_w
SENSOR_BIAS_SD_C = _P.sensors.gpu_sd_c
PREFILL_W, DECODE_BASE_W, DECODE_SPAN_W = POINT.prefill_w, POINT.decode_base_w, POINT.decode_span_w
DECODE_HALF_BATCH = POINT.decode_half_batch
OUT_OF_BAND_MEAN_S = sum(OUT_OF_BAND_S) / 2
