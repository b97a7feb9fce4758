/* A 16550A serial port. Source: National Semiconductor, PC16550D data sheet.
 *
 * To the guest it is a port whose line is infinitely fast: what it transmits is gone at once, and what is received
 * waits in a queue as long as the guest likes. All functions may be called from any thread.
 */
#ifndef COMPUTE_AGENT_SERIAL_H
#define COMPUTE_AGENT_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue.h"

#define SERIAL_PORT 0x3f8
#define SERIAL_REGISTERS 8
#define SERIAL_GSI 4
#define SERIAL_BATCH 4096

struct serial_registers {
    uint8_t interrupts_enabled; /* IER */
    uint8_t fifo_control;       /* FCR */
    uint8_t line_control;       /* LCR */
    uint8_t modem_control;      /* MCR */
    uint8_t scratch;            /* SCR */
    uint8_t divisor_low, divisor_high;
    uint8_t errors;             /* in LSR, until it is read */
    uint8_t modem_changes;      /* in MSR, until it is read */
    uint8_t is_emptied;         /* the transmitter interrupts, until IIR is read */
};

struct serial_counters {
    uint64_t transmitted, received;
    uint64_t dropped; /* that the client did not take */
};

struct serial {
    pthread_mutex_t lock;
    int vm, log, client; /* descriptors; -1: none. Not the port's own */
    bool is_interrupting;
    struct serial_registers registers;
    struct serial_counters counters;
    struct queue input;
    size_t batched;
    uint8_t batch[SERIAL_BATCH]; /* transmitted in the access under way */
};

/* An access of the guest's: `count` times `size` bytes from the register on. */
struct serial_access {
    bool is_read;
    unsigned first, size, count;
    uint8_t *data;
};

void serial_init(struct serial *serial, int vm, int log);
void serial_access(struct serial *serial, const struct serial_access *access);

/* The host's side. */

/* How many of the bytes have found room; none does while the port is looped back. */
size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t length);

/* Send what the guest transmits to a socket, too; -1: to none. The one before is not used any more on return. */
void serial_attach(struct serial *serial, int client);

/* As when the machine is switched on. */
void serial_reset(struct serial *serial);

/* `input` has room for QUEUE_SIZE; how much is in it. */
size_t serial_save(struct serial *serial, struct serial_registers *registers, uint8_t *input);
void serial_restore(struct serial *serial, const struct serial_registers *registers, const uint8_t *input,
                    size_t length);

#endif
