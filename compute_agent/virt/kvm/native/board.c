#include "board.h"

#include <string.h>

#define TIMER_PORT 0x608
#define TIMER_SIZE 4
#define DELAY_PORT 0x80  /* whose writes only take time */
#define DEBUG_PORT 0x402 /* where firmware looks for a debug console */

void board_init(struct board *board, int vm, int log)
{
    serial_init(&board->serial, vm, log);
    power_timer_set(&board->timer, 0);
}

static void answer_serial(struct board *board, struct kvm_run *run, uint8_t *data)
{
    struct serial_access access = {
        .is_read = run->io.direction == KVM_EXIT_IO_IN,
        .first = run->io.port - SERIAL_PORT,
        .size = run->io.size,
        .count = run->io.count,
        .data = data,
    };

    serial_access(&board->serial, &access);
}

static void answer_timer(struct board *board, struct kvm_run *run, uint8_t *data)
{
    uint32_t ticks = power_timer_ticks(&board->timer) >> 8 * (run->io.port - TIMER_PORT);

    for (unsigned turn = 0; turn < run->io.count; turn++)
        memcpy(data + turn * run->io.size, &ticks, run->io.size);
}

bool board_answer(struct board *board, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    bool is_read = run->io.direction == KVM_EXIT_IO_IN;
    unsigned port = run->io.port, end = port + run->io.size;

    if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_REGISTERS)
        answer_serial(board, run, data);
    else if (is_read && port >= TIMER_PORT && end <= TIMER_PORT + TIMER_SIZE)
        answer_timer(board, run, data);
    else if (is_read && port == DEBUG_PORT)
        memset(data, 0xff, run->io.size * run->io.count);
    else
        return !is_read && port == DELAY_PORT;
    return true;
}
