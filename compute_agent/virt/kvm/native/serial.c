/* The registers of the serial port: what the guest sees. */
#include "serial_bits.h"
#include "serial_inside.h"

static bool has_divisor_shown(const struct serial *serial)
{
    return serial->registers.line_control & LCR_DIVISOR;
}

static void control_fifos(struct serial *serial, uint8_t control)
{
    uint8_t switched = (control ^ serial->registers.fifo_control) & FCR_ENABLE;

    if (switched || (control & FCR_ENABLE && control & FCR_CLEAR_RECEIVER))
        queue_clear(&serial->input);
    serial->registers.fifo_control = control & FCR_ENABLE ? control & FCR_KEPT : 0;
}

static void loop_back(struct serial *serial, uint8_t byte)
{
    size_t depth = serial_has_fifos(serial) ? 16 : 1;

    if (serial->input.length < depth)
        queue_put(&serial->input, &byte, 1);
    else
        serial->registers.errors |= LSR_OVERRUN;
}

static void transmit(struct serial *serial, uint8_t byte)
{
    /* A full holding register does not interrupt: who waits for an edge gets a new one when the byte is gone. */
    serial->registers.is_emptied = false;
    serial_update_line(serial);
    if (serial_is_looped_back(serial)) {
        loop_back(serial, byte);
    } else {
        if (serial->batched == SERIAL_BATCH)
            serial_flush(serial);
        serial->batch[serial->batched++] = byte;
    }
    serial->registers.is_emptied = true;
}

static uint8_t take_received(struct serial *serial)
{
    uint8_t byte = queue_take(&serial->input);

    /* Between two bytes the interrupt goes away, unless a FIFO still holds as many as the guest wants at once. */
    if (!serial_has_fifos(serial) || !serial_is_triggered(serial))
        serial_lower_line(serial);
    return byte;
}

static uint8_t identify_interrupt(struct serial *serial)
{
    uint8_t cause = serial_pending(serial);

    if (cause == IIR_EMPTIED)
        serial->registers.is_emptied = false;
    return cause | (serial_has_fifos(serial) ? IIR_FIFOS : 0);
}

static uint8_t line_status(struct serial *serial)
{
    uint8_t errors = serial->registers.errors;

    serial->registers.errors = 0;
    return errors | LSR_TRANSMITTER_EMPTY | (serial->input.length ? LSR_READY : 0);
}

static uint8_t modem_status(struct serial *serial)
{
    uint8_t changes = serial->registers.modem_changes;

    serial->registers.modem_changes = 0;
    return changes | serial_modem_lines(serial->registers.modem_control);
}

static uint8_t read_register(struct serial *serial, unsigned number)
{
    const struct serial_registers *registers = &serial->registers;

    switch (number) {
    case RBR_THR:
        return has_divisor_shown(serial) ? registers->divisor_low : take_received(serial);
    case IER:
        return has_divisor_shown(serial) ? registers->divisor_high : registers->interrupts_enabled;
    case IIR_FCR:
        return identify_interrupt(serial);
    case LCR:
        return registers->line_control;
    case MCR:
        return registers->modem_control;
    case LSR:
        return line_status(serial);
    case MSR:
        return modem_status(serial);
    case SCR:
        return registers->scratch;
    }
    return 0xff;
}

static void write_divisor(struct serial *serial, unsigned number, uint8_t value)
{
    *(number == RBR_THR ? &serial->registers.divisor_low : &serial->registers.divisor_high) = value;
}

static void write_register(struct serial *serial, unsigned number, uint8_t value)
{
    switch (number) {
    case RBR_THR:
        transmit(serial, value);
        break;
    case IER:
        serial_enable_interrupts(serial, value);
        break;
    case IIR_FCR:
        control_fifos(serial, value);
        break;
    case LCR:
        serial->registers.line_control = value;
        break;
    case MCR:
        serial_control_modem(serial, value);
        break;
    case SCR:
        serial->registers.scratch = value;
        break;
    }
}

static void access_byte(struct serial *serial, bool is_read, unsigned number, uint8_t *byte)
{
    if (is_read)
        *byte = read_register(serial, number);
    else if (has_divisor_shown(serial) && number <= IER)
        write_divisor(serial, number, *byte);
    else
        write_register(serial, number, *byte);
}

void serial_access(struct serial *serial, const struct serial_access *access)
{
    uint8_t *byte = access->data;

    pthread_mutex_lock(&serial->lock);
    for (unsigned turn = 0; turn < access->count; turn++)
        for (unsigned place = 0; place < access->size; place++)
            access_byte(serial, access->is_read, access->first + place, byte++);
    serial_flush(serial);
    serial_update_line(serial);
    pthread_mutex_unlock(&serial->lock);
}
