/* Source: Linux's Documentation/virt/kvm/api.rst (KVM_RUN, immediate_exit). */
#include "vcpu.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

#define KICK (SIGRTMIN + 4)

static pthread_once_t kick_installed = PTHREAD_ONCE_INIT;

static void on_kick(int number)
{
    (void)number; /* that KVM_RUN was interrupted is all that is wanted */
}

static void install_kick(void)
{
    struct sigaction action = {.sa_handler = on_kick};

    sigaction(KICK, &action, NULL);
}

void vcpu_init(struct vcpu *vcpu, int fd, struct kvm_run *run, struct board *board)
{
    pthread_once(&kick_installed, install_kick);
    pthread_mutex_init(&vcpu->lock, NULL);
    vcpu->fd = fd;
    vcpu->run = run;
    vcpu->board = board;
}

void vcpu_retire(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    vcpu->run = NULL;
    pthread_mutex_unlock(&vcpu->lock);
}

static void set_kicked(struct vcpu *vcpu, bool is_kicked)
{
    if (vcpu->run)
        __atomic_store_n(&vcpu->run->immediate_exit, is_kicked, __ATOMIC_SEQ_CST);
}

/* While a thread is the runner it is in vcpu_run: whoever holds the lock can send it a signal. */
void vcpu_kick(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    set_kicked(vcpu, true);
    if (vcpu->is_running)
        pthread_kill(vcpu->runner, KICK);
    pthread_mutex_unlock(&vcpu->lock);
}

void vcpu_clear_kick(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    set_kicked(vcpu, false);
    pthread_mutex_unlock(&vcpu->lock);
}

static void set_running(struct vcpu *vcpu, bool is_running)
{
    pthread_mutex_lock(&vcpu->lock);
    vcpu->is_running = is_running;
    vcpu->runner = pthread_self();
    pthread_mutex_unlock(&vcpu->lock);
}

/* Once into the guest; what vcpu_run says. */
static int enter(struct vcpu *vcpu)
{
    while (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
        if (errno == EINTR)
            return KVM_EXIT_INTR;
        if (errno != EAGAIN) /* that is an application processor which has not been started yet */
            return -errno;
    }
    vcpu->counters.exits++;
    return vcpu->run->exit_reason;
}

static bool is_answered(struct vcpu *vcpu, int reason)
{
    if (reason != KVM_EXIT_IO || !vcpu->board || !board_answer(vcpu->board, vcpu->run))
        return false;
    vcpu->counters.answered++;
    return true;
}

int vcpu_run(struct vcpu *vcpu)
{
    int reason;

    set_running(vcpu, true);
    do
        reason = enter(vcpu);
    while (is_answered(vcpu, reason));
    set_running(vcpu, false);
    if (reason >= 0 && reason < VCPU_REASONS)
        vcpu->counters.passed[reason]++;
    return reason;
}
