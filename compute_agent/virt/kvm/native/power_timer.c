#include "power_timer.h"

#include <time.h>

#define TICKS_PER_SECOND 3579545u
#define NANOSECONDS_PER_SECOND 1000000000u

static uint64_t host_ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (uint64_t)TICKS_PER_SECOND +
           now.tv_nsec * (uint64_t)TICKS_PER_SECOND / NANOSECONDS_PER_SECOND;
}

/* vCPUs read while another thread may set it: atomic, and no lock. */

uint32_t power_timer_ticks(const struct power_timer *timer)
{
    return host_ticks() - __atomic_load_n(&timer->start, __ATOMIC_RELAXED);
}

void power_timer_set(struct power_timer *timer, uint32_t ticks)
{
    __atomic_store_n(&timer->start, host_ticks() - ticks, __ATOMIC_RELAXED);
}
