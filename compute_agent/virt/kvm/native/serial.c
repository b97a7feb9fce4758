/* The registers: what the guest sees. */
#include "serial.h"

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum { IER_RECEIVED = 0x01, IER_EMPTIED = 0x02, IER_ERRORS = 0x04, IER_MODEM = 0x08, IER_KEPT = 0x0f };
enum {
    IIR_MODEM = 0x00,
    IIR_NONE = 0x01,
    IIR_EMPTIED = 0x02,
    IIR_RECEIVED = 0x04,
    IIR_ERRORS = 0x06,
    IIR_TIME_OUT = 0x0c,
    IIR_FIFOS = 0xc0
};
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RECEIVER = 0x02, FCR_KEPT = 0xc9 };
enum { LCR_DIVISOR = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUTPUTS = 0x0c, MCR_LOOP = 0x10, MCR_KEPT = 0x1f };
enum { LSR_READY = 0x01, LSR_OVERRUN = 0x02, LSR_TRANSMITTER_EMPTY = 0x60 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_RI_CHANGED = 0x04 };

static const uint8_t triggers[] = {1, 4, 8, 14};

static bool has_fifos(const struct serial *serial)
{
    return serial->registers.fifo_control & FCR_ENABLE;
}

static bool has_divisor_shown(const struct serial *serial)
{
    return serial->registers.line_control & LCR_DIVISOR;
}

static bool is_triggered(const struct serial *serial)
{
    return serial->input.length >= (has_fifos(serial) ? triggers[serial->registers.fifo_control >> 6] : 1);
}

/* What IIR says, without its highest bits. */
static uint8_t pending(const struct serial *serial)
{
    const struct serial_registers *registers = &serial->registers;
    uint8_t enabled = registers->interrupts_enabled;

    if (enabled & IER_ERRORS && registers->errors)
        return IIR_ERRORS;
    if (enabled & IER_RECEIVED && serial->input.length)
        return is_triggered(serial) ? IIR_RECEIVED : IIR_TIME_OUT;
    if (enabled & IER_EMPTIED && registers->is_emptied)
        return IIR_EMPTIED;
    if (enabled & IER_MODEM && registers->modem_changes)
        return IIR_MODEM;
    return IIR_NONE;
}

bool serial_has_interrupt(const struct serial *serial)
{
    return pending(serial) != IIR_NONE;
}

bool serial_is_looped_back(const struct serial *serial)
{
    return serial->registers.modem_control & MCR_LOOP;
}

static uint8_t modem_lines(uint8_t control)
{
    if (control & MCR_LOOP)
        return (control & MCR_RTS) << 3 | (control & MCR_DTR) << 5 | (control & MCR_OUTPUTS) << 4;
    return MSR_CTS | MSR_DSR | MSR_DCD;
}

static void control_modem(struct serial *serial, uint8_t control)
{
    uint8_t before = modem_lines(serial->registers.modem_control), after = modem_lines(control & MCR_KEPT);
    uint8_t changes = (before ^ after) >> 4;

    if (after & MSR_RI) /* of the ring indicator, only the end counts */
        changes &= ~MSR_RI_CHANGED;
    serial->registers.modem_changes |= changes;
    serial->registers.modem_control = control & MCR_KEPT;
}

static void control_fifos(struct serial *serial, uint8_t control)
{
    uint8_t switched = (control ^ serial->registers.fifo_control) & FCR_ENABLE;

    if (switched || (control & FCR_ENABLE && control & FCR_CLEAR_RECEIVER))
        queue_clear(&serial->input);
    serial->registers.fifo_control = control & FCR_ENABLE ? control & FCR_KEPT : 0;
}

static void enable_interrupts(struct serial *serial, uint8_t enabled)
{
    uint8_t newly = enabled & ~serial->registers.interrupts_enabled;

    if (newly & IER_EMPTIED) /* the transmitter is empty, even if IIR has been read since it became so */
        serial->registers.is_emptied = true;
    serial->registers.interrupts_enabled = enabled & IER_KEPT;
}

static void loop_back(struct serial *serial, uint8_t byte)
{
    size_t depth = has_fifos(serial) ? 16 : 1;

    if (serial->input.length < depth)
        queue_put(&serial->input, &byte, 1);
    else
        serial->registers.errors |= LSR_OVERRUN;
}

static void transmit(struct serial *serial, uint8_t byte)
{
    /* A full holding register does not interrupt: who waits for an edge gets a new one when the byte is gone. */
    serial->registers.is_emptied = false;
    serial_set_line(serial, serial_has_interrupt(serial));
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
    if (!has_fifos(serial) || !is_triggered(serial))
        serial_set_line(serial, false);
    return byte;
}

static uint8_t identify_interrupt(struct serial *serial)
{
    uint8_t cause = pending(serial);

    if (cause == IIR_EMPTIED)
        serial->registers.is_emptied = false;
    return cause | (has_fifos(serial) ? IIR_FIFOS : 0);
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
    return changes | modem_lines(serial->registers.modem_control);
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
        enable_interrupts(serial, value);
        break;
    case IIR_FCR:
        control_fifos(serial, value);
        break;
    case LCR:
        serial->registers.line_control = value;
        break;
    case MCR:
        control_modem(serial, value);
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
    serial_set_line(serial, serial_has_interrupt(serial));
    pthread_mutex_unlock(&serial->lock);
}
