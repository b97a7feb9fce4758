/* The devices of a machine that are answered without Python: what a guest uses often, or in a hurry. */
#ifndef COMPUTE_AGENT_BOARD_H
#define COMPUTE_AGENT_BOARD_H

#include <linux/kvm.h>

#include "power_timer.h"
#include "serial.h"

struct board {
    struct serial serial;
    struct power_timer timer;
};

/* The descriptors stay the caller's; `log` may be -1. */
void board_init(struct board *board, int vm, int log);

/* Whether a KVM_EXIT_IO was for these devices; then the vCPU can go on. */
bool board_answer(struct board *board, struct kvm_run *run);

#endif
