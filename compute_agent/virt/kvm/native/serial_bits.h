/* The registers of a serial port and their bits, under the names of the data sheet. */
#ifndef COMPUTE_AGENT_SERIAL_BITS_H
#define COMPUTE_AGENT_SERIAL_BITS_H

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
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RECEIVER = 0x02, FCR_KEPT = 0xc9, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_DIVISOR = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUTPUTS = 0x0c, MCR_LOOP = 0x10, MCR_KEPT = 0x1f };
enum { LSR_READY = 0x01, LSR_OVERRUN = 0x02, LSR_TRANSMITTER_EMPTY = 0x60 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_RI_CHANGED = 0x04 };

#endif
