/* A stand-in for libnvidia-ml.so.1: the part of NVML that coldaisle calls, over cards that live in a mapped file.
 *
 * Numbers of fields, clocks, errors and layouts of structs are those of nvml.h as nvidia-ml-py 13 declares them. There is no
 * getter that the real library lacks: a lock of the clocks can be seen in the SM clock only.
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, VERSION_MISMATCH = 25, UNKNOWN = 999
};
enum { FIELD_MEMORY_TEMP = 82, FIELD_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { TYPE_UINT = 1, TYPE_ULL = 3 };
enum { CLOCK_GRAPHICS = 0, CLOCK_SM = 1, CLOCK_MEM = 2 };
enum { REASON_IDLE = 0x1, REASON_POWER_CAP = 0x4, REASON_HW_SLOWDOWN = 0x8, REASON_HW_THERMAL = 0x40 };
#define MEMORY_CLOCK_MHZ 2619u
#define SLOWDOWN_MHZ 345u
#define POWER_EXPONENT 2.4 /* dynamic power over clock, between the linear and the cubic law */
#define HEAT_C_PER_W 0.065 /* about 45 K above the intake at 700 W */
#define HEAT_TAU_S 5.0

typedef standin_gpu *device;
typedef struct { unsigned version; unsigned sensor; int temperature; } temperature_v1;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned gpu, memory; } utilisation;
typedef union { double d; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } any_value;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp, latency_us;
    unsigned type, result;
    any_value value;
} field_value;

static standin_state *state;
static unsigned users;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- physics ------------------------------------------------------------------------------------------------------- */

static double power_at(const standin_gpu *g, double clock_mhz) {
    return g->idle_mw + (g->tdp_mw - (double)g->idle_mw) * g->load * pow(clock_mhz / g->max_clock_mhz, POWER_EXPONENT);
}

static double clock_target(const standin_gpu *g, unsigned *reasons) {
    double clock = g->load > 0 ? g->max_clock_mhz : g->idle_clock_mhz;
    *reasons = g->load > 0 ? 0 : REASON_IDLE;
    if (g->lock_max_mhz && !g->deaf) {
        if (clock > g->lock_max_mhz) clock = g->lock_max_mhz;
        if (g->load > 0 && clock < g->lock_min_mhz) clock = g->lock_min_mhz;
    }
    if (power_at(g, clock) > g->limit_mw) {
        double share = (g->limit_mw - (double)g->idle_mw) / ((g->tdp_mw - (double)g->idle_mw) * g->load);
        clock = fmax(g->min_clock_mhz, g->max_clock_mhz * pow(fmax(share, 0.0), 1.0 / POWER_EXPONENT));
        *reasons |= REASON_POWER_CAP;
    }
    if (g->temp_c >= g->slowdown_c && clock > SLOWDOWN_MHZ) {
        clock = SLOWDOWN_MHZ;
        *reasons |= REASON_HW_SLOWDOWN | REASON_HW_THERMAL;
    }
    return clock;
}

static double clock_now(const standin_gpu *g, unsigned *reasons) {
    double target = clock_target(g, reasons);
    if (g->load > 0 && now_s() - g->changed_at_s < g->settle_s) return g->clock_before_mhz;
    return target;
}

/* Bring temperature and energy up to now, at the clock that stands now. */
static void advance(standin_gpu *g) {
    unsigned reasons;
    double now = now_s(), dt = now - g->updated_at_s, power_mw = power_at(g, clock_now(g, &reasons));
    double steady_c = g->inlet_c + HEAT_C_PER_W * power_mw / 1000.0;
    if (g->updated_at_s == 0) g->temp_c = steady_c;
    else {
        g->temp_c = steady_c + (g->temp_c - steady_c) * exp(-dt / HEAT_TAU_S);
        g->energy_mj += power_mw * dt;
    }
    g->updated_at_s = now;
}

/* --- every call on a card begins here: what stands in the way of an answer ----------------------------------------- */

static unsigned enter(device g) {
    if (!state) return UNINITIALIZED;
    if (!g) return INVALID_ARGUMENT;
    while (*(volatile uint32_t *)&g->hang) usleep(5000);
    pthread_mutex_lock(&lock);
    g->calls++;
    if (g->lost) {
        pthread_mutex_unlock(&lock);
        return GPU_IS_LOST;
    }
    advance(g);
    return OK;
}

static unsigned leave(unsigned result) {
    pthread_mutex_unlock(&lock);
    return result;
}

#define ENTER(g) do { unsigned refused = enter(g); if (refused) return refused; } while (0)

/* --- library ------------------------------------------------------------------------------------------------------- */

unsigned nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    if (users == 0) {
        const char *path = getenv("NVML_STANDIN_STATE");
        int file = path ? open(path, O_RDWR) : -1;
        if (file < 0) return leave(DRIVER_NOT_LOADED);
        state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (state == MAP_FAILED || state->magic != STANDIN_MAGIC || state->no_driver) {
            state = NULL;
            return leave(DRIVER_NOT_LOADED);
        }
    }
    users++;
    return leave(OK);
}

unsigned nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

unsigned nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    if (users == 0) return leave(UNINITIALIZED);
    if (--users == 0) state = NULL; /* stays mapped: a hanging call may still look at it */
    return leave(OK);
}

const char *nvmlErrorString(unsigned result) { return result == GPU_IS_LOST ? "GPU is lost" : "Unknown Error"; }

unsigned nvmlSystemGetDriverVersion(char *text, unsigned length) {
    if (!state) return UNINITIALIZED;
    strncpy(text, "580.0-standin", length);
    return OK;
}

unsigned nvmlDeviceGetCount_v2(unsigned *count) {
    if (!state) return UNINITIALIZED;
    *count = state->gpus;
    return OK;
}

unsigned nvmlDeviceGetHandleByIndex_v2(unsigned index, device *g) {
    if (!state) return UNINITIALIZED;
    if (index >= state->gpus) return INVALID_ARGUMENT;
    if (state->gpu[index].lost) return GPU_IS_LOST;
    *g = &state->gpu[index];
    return OK;
}

/* --- readings ------------------------------------------------------------------------------------------------------ */

unsigned nvmlDeviceGetUUID(device g, char *text, unsigned length) {
    ENTER(g);
    strncpy(text, g->uuid, length);
    return leave(OK);
}

unsigned nvmlDeviceGetName(device g, char *text, unsigned length) {
    ENTER(g);
    strncpy(text, g->name, length);
    return leave(OK);
}

static void fill(standin_gpu *g, field_value *f) {
    unsigned reasons, missing = 0;
    double power_mw = power_at(g, clock_now(g, &reasons));
    f->result = OK;
    f->type = TYPE_UINT;
    switch (f->field) {
    case FIELD_POWER_INSTANT:
        missing = NO_POWER_INSTANT;
        f->value.ui = (unsigned)power_mw;
        break;
    case FIELD_POWER_AVERAGE: f->value.ui = (unsigned)power_mw; break;
    case FIELD_MEMORY_TEMP:
        missing = NO_MEMORY_TEMP;
        f->value.ui = (unsigned)(g->temp_c + 8.0);
        break;
    case FIELD_ENERGY:
        missing = NO_ENERGY;
        f->type = TYPE_ULL;
        f->value.ull = (unsigned long long)g->energy_mj;
        break;
    default: f->result = INVALID_ARGUMENT;
    }
    if (g->unsupported & missing) f->result = NOT_SUPPORTED;
}

unsigned nvmlDeviceGetFieldValues(device g, int count, field_value *values) {
    ENTER(g);
    for (int i = 0; i < count; i++) fill(g, &values[i]);
    return leave(OK);
}

unsigned nvmlDeviceGetTemperatureV(device g, temperature_v1 *t) {
    ENTER(g);
    if (t->version != (sizeof *t | 1u << 24)) return leave(VERSION_MISMATCH);
    if (g->unsupported & NO_TEMPERATURE) return leave(NOT_SUPPORTED);
    t->temperature = (int)g->temp_c;
    return leave(OK);
}

unsigned nvmlDeviceGetTemperature(device g, unsigned sensor, unsigned *celsius) {
    ENTER(g);
    if (sensor != 0) return leave(INVALID_ARGUMENT);
    if (g->unsupported & NO_TEMPERATURE) return leave(NOT_SUPPORTED);
    *celsius = (unsigned)g->temp_c;
    return leave(OK);
}

unsigned nvmlDeviceGetTemperatureThreshold(device g, unsigned which, unsigned *celsius) {
    ENTER(g);
    if (which > 1) return leave(NOT_SUPPORTED);
    *celsius = which == 0 ? g->shutdown_c : g->slowdown_c;
    return leave(OK);
}

unsigned nvmlDeviceGetPowerUsage(device g, unsigned *power_mw) {
    unsigned reasons;
    ENTER(g);
    *power_mw = (unsigned)power_at(g, clock_now(g, &reasons));
    return leave(OK);
}

unsigned nvmlDeviceGetTotalEnergyConsumption(device g, unsigned long long *energy_mj) {
    ENTER(g);
    if (g->unsupported & NO_ENERGY) return leave(NOT_SUPPORTED);
    *energy_mj = (unsigned long long)g->energy_mj;
    return leave(OK);
}

unsigned nvmlDeviceGetClockInfo(device g, unsigned type, unsigned *clock_mhz) {
    unsigned reasons;
    ENTER(g);
    if (type > CLOCK_MEM) return leave(type > 3 ? INVALID_ARGUMENT : NOT_SUPPORTED);
    *clock_mhz = type == CLOCK_MEM ? MEMORY_CLOCK_MHZ : (unsigned)clock_now(g, &reasons);
    return leave(OK);
}

unsigned nvmlDeviceGetMaxClockInfo(device g, unsigned type, unsigned *clock_mhz) {
    ENTER(g);
    if (type > CLOCK_MEM) return leave(NOT_SUPPORTED);
    *clock_mhz = type == CLOCK_MEM ? MEMORY_CLOCK_MHZ : g->max_clock_mhz;
    return leave(OK);
}

unsigned nvmlDeviceGetSupportedMemoryClocks(device g, unsigned *count, unsigned *clocks) {
    ENTER(g);
    if (g->unsupported & NO_SUPPORTED_CLOCKS) return leave(NOT_SUPPORTED);
    if (!clocks || *count < 1) {
        *count = 1;
        return leave(INSUFFICIENT_SIZE);
    }
    clocks[0] = MEMORY_CLOCK_MHZ;
    *count = 1;
    return leave(OK);
}

unsigned nvmlDeviceGetSupportedGraphicsClocks(device g, unsigned memory_mhz, unsigned *count, unsigned *clocks) {
    ENTER(g);
    if (g->unsupported & NO_SUPPORTED_CLOCKS) return leave(NOT_SUPPORTED);
    if (memory_mhz != MEMORY_CLOCK_MHZ) return leave(NOT_FOUND);
    unsigned steps = (g->max_clock_mhz - g->min_clock_mhz) / g->clock_step_mhz + 1;
    if (!clocks || *count < steps) {
        *count = steps;
        return leave(INSUFFICIENT_SIZE);
    }
    for (unsigned i = 0; i < steps; i++) clocks[i] = g->max_clock_mhz - i * g->clock_step_mhz;
    *count = steps;
    return leave(OK);
}

unsigned nvmlDeviceGetUtilizationRates(device g, utilisation *u) {
    ENTER(g);
    if (g->unsupported & NO_UTILISATION) return leave(NOT_SUPPORTED);
    u->gpu = (unsigned)(g->load * 100.0 + 0.5);
    u->memory = u->gpu / 2;
    return leave(OK);
}

unsigned nvmlDeviceGetMemoryInfo(device g, memory_v1 *m) {
    ENTER(g);
    m->total = g->memory_b;
    m->used = g->memory_used_b;
    m->free = m->total - m->used;
    return leave(OK);
}

unsigned nvmlDeviceGetCurrentClocksEventReasons(device g, unsigned long long *mask) {
    unsigned reasons;
    ENTER(g);
    if (g->unsupported & NO_REASONS) return leave(NOT_SUPPORTED);
    if (g->read_error) return leave(g->read_error);
    clock_now(g, &reasons);
    *mask = reasons;
    return leave(OK);
}

/* --- writers ------------------------------------------------------------------------------------------------------- */

static unsigned may_write(const standin_gpu *g) {
    if (state->no_permission) return NO_PERMISSION;
    return g->set_error;
}

static void change_clocks(standin_gpu *g, unsigned min_mhz, unsigned max_mhz) {
    unsigned reasons;
    g->clock_before_mhz = clock_now(g, &reasons);
    g->changed_at_s = now_s();
    g->lock_min_mhz = min_mhz;
    g->lock_max_mhz = max_mhz;
}

unsigned nvmlDeviceSetGpuLockedClocks(device g, unsigned min_mhz, unsigned max_mhz) {
    ENTER(g);
    g->locks++;
    if (g->unsupported & NO_LOCKED_CLOCKS) return leave(NOT_SUPPORTED);
    if (may_write(g)) return leave(may_write(g));
    if (min_mhz > max_mhz || min_mhz < g->min_clock_mhz || max_mhz > g->max_clock_mhz) return leave(INVALID_ARGUMENT);
    change_clocks(g, min_mhz, max_mhz);
    return leave(OK);
}

unsigned nvmlDeviceResetGpuLockedClocks(device g) {
    ENTER(g);
    g->resets++;
    if (g->unsupported & NO_LOCKED_CLOCKS) return leave(NOT_SUPPORTED);
    if (may_write(g)) return leave(may_write(g));
    change_clocks(g, 0, 0);
    return leave(OK);
}

unsigned nvmlDeviceGetPowerManagementLimit(device g, unsigned *limit_mw) {
    ENTER(g);
    *limit_mw = g->limit_mw;
    return leave(OK);
}

unsigned nvmlDeviceGetPowerManagementDefaultLimit(device g, unsigned *limit_mw) {
    ENTER(g);
    *limit_mw = g->tdp_mw;
    return leave(OK);
}

unsigned nvmlDeviceGetPowerManagementLimitConstraints(device g, unsigned *min_mw, unsigned *max_mw) {
    ENTER(g);
    *min_mw = g->min_limit_mw;
    *max_mw = g->tdp_mw;
    return leave(OK);
}

unsigned nvmlDeviceSetPowerManagementLimit(device g, unsigned limit_mw) {
    ENTER(g);
    if (may_write(g)) return leave(may_write(g));
    if (limit_mw < g->min_limit_mw || limit_mw > g->tdp_mw) return leave(INVALID_ARGUMENT);
    g->limit_mw = limit_mw;
    return leave(OK);
}
