/* What a test sees and sets from outside: one file, mapped by the library and by the test (state.py mirrors it). */
#ifndef STANDIN_STATE_H
#define STANDIN_STATE_H

#include <stdint.h>

#define STANDIN_MAGIC 0x4c4d564eu
#define STANDIN_GPUS 16

/* bits of `unsupported` */
#define NO_POWER_INSTANT 0x1u
#define NO_MEMORY_TEMP 0x2u
#define NO_ENERGY 0x4u
#define NO_TEMPERATURE 0x8u
#define NO_UTILISATION 0x10u
#define NO_REASONS 0x20u
#define NO_LOCKED_CLOCKS 0x40u
#define NO_SUPPORTED_CLOCKS 0x80u

typedef struct {
    char uuid[96];
    char name[64];
    /* set by the test */
    double load;         /* 0..1 */
    double inlet_c;      /* air that cools it */
    double settle_s;     /* how long a new clock takes */
    uint32_t lost;       /* every call answers GPU_IS_LOST */
    uint32_t hang;       /* calls wait until it is 0 again */
    uint32_t deaf;       /* locked clocks are accepted and ignored */
    uint32_t unsupported;
    uint32_t set_error;  /* what the setters return, 0 = they work */
    uint32_t read_error; /* what the event reasons return, 0 = they work */
    /* the card */
    uint32_t min_clock_mhz, max_clock_mhz, idle_clock_mhz, clock_step_mhz;
    uint32_t tdp_mw, idle_mw, min_limit_mw;
    uint32_t slowdown_c, shutdown_c;
    uint64_t memory_b, memory_used_b;
    /* what the driver holds; no getter tells the lock */
    uint32_t lock_min_mhz, lock_max_mhz; /* 0 = none */
    uint32_t limit_mw;
    uint32_t locks, resets, calls;       /* how often they were called */
    /* physics */
    double clock_before_mhz, changed_at_s;
    double temp_c, energy_mj, updated_at_s;
} standin_gpu;

typedef struct {
    uint32_t magic;
    uint32_t gpus;
    uint32_t no_permission; /* setters answer NO_PERMISSION */
    uint32_t no_driver;     /* nvmlInit answers DRIVER_NOT_LOADED */
    standin_gpu gpu[STANDIN_GPUS];
} standin_state;

#endif
