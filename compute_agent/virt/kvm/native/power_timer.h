/* ACPI's power management timer, 32 bits wide. Source: ACPI 6.4, 4.8.3.3. */
#ifndef COMPUTE_AGENT_POWER_TIMER_H
#define COMPUTE_AGENT_POWER_TIMER_H

#include <stdint.h>

struct power_timer {
    uint64_t start; /* what the host's clock says less what the guest sees, in ticks */
};

uint32_t power_timer_ticks(const struct power_timer *timer);
void power_timer_set(struct power_timer *timer, uint32_t ticks);

#endif
