/* When the serial port interrupts, and why. */
#include "serial_bits.h"
#include "serial_inside.h"

static const uint8_t triggers[] = {1, 4, 8, 14};

bool serial_has_fifos(const struct serial *serial)
{
    return serial->registers.fifo_control & FCR_ENABLE;
}

bool serial_is_looped_back(const struct serial *serial)
{
    return serial->registers.modem_control & MCR_LOOP;
}

bool serial_is_triggered(const struct serial *serial)
{
    uint8_t control = serial->registers.fifo_control;

    return serial->input.length >= (control & FCR_ENABLE ? triggers[control >> FCR_TRIGGER_SHIFT] : 1);
}

uint8_t serial_pending(const struct serial *serial)
{
    const struct serial_registers *registers = &serial->registers;
    uint8_t enabled = registers->interrupts_enabled;

    if (enabled & IER_ERRORS && registers->errors)
        return IIR_ERRORS;
    if (enabled & IER_RECEIVED && serial->input.length)
        return serial_is_triggered(serial) ? IIR_RECEIVED : IIR_TIME_OUT;
    if (enabled & IER_EMPTIED && registers->is_emptied)
        return IIR_EMPTIED;
    if (enabled & IER_MODEM && registers->modem_changes)
        return IIR_MODEM;
    return IIR_NONE;
}

void serial_enable_interrupts(struct serial *serial, uint8_t enabled)
{
    uint8_t newly = enabled & ~serial->registers.interrupts_enabled;

    if (newly & IER_EMPTIED) /* the transmitter is empty, even if IIR has been read since it became so */
        serial->registers.is_emptied = true;
    serial->registers.interrupts_enabled = enabled & IER_KEPT;
}

uint8_t serial_modem_lines(uint8_t modem_control)
{
    if (modem_control & MCR_LOOP)
        return (modem_control & MCR_RTS) << 3 | (modem_control & MCR_DTR) << 5 | (modem_control & MCR_OUTPUTS) << 4;
    return MSR_CTS | MSR_DSR | MSR_DCD;
}

void serial_control_modem(struct serial *serial, uint8_t control)
{
    uint8_t before = serial_modem_lines(serial->registers.modem_control), after = serial_modem_lines(control);
    uint8_t changes = (before ^ after) >> 4;

    if (after & MSR_RI) /* of the ring indicator, only the end counts */
        changes &= ~MSR_RI_CHANGED;
    serial->registers.modem_changes |= changes;
    serial->registers.modem_control = control & MCR_KEPT;
}
