/* Running a vCPU until Python is needed, and stopping it from another thread. */
#ifndef COMPUTE_AGENT_VCPU_H
#define COMPUTE_AGENT_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "board.h"

#define VCPU_REASONS 64

struct vcpu_counters {
    uint64_t exits;
    uint64_t answered;             /* by the board */
    uint64_t passed[VCPU_REASONS]; /* on to Python, by the kernel's reason */
};

struct vcpu {
    pthread_mutex_t lock;
    int fd;
    struct kvm_run *run;
    struct board *board; /* NULL: none */
    bool is_running;
    pthread_t runner;
    struct vcpu_counters counters; /* written by the runner only */
};

void vcpu_init(struct vcpu *vcpu, int fd, struct kvm_run *run, struct board *board);

/* Before `run` goes away: from now on kicks do nothing. */
void vcpu_retire(struct vcpu *vcpu);

/* The reason of the exit that Python has to answer; KVM_EXIT_INTR: kicked, or a signal has come; or -errno. */
int vcpu_run(struct vcpu *vcpu);

/* Let vcpu_run return soon, and each later one at once, until the kick is cleared. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_clear_kick(struct vcpu *vcpu);

#endif
