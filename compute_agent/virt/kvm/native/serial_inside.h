/* What the parts of the serial port know of each other; all with the lock held. */
#ifndef COMPUTE_AGENT_SERIAL_INSIDE_H
#define COMPUTE_AGENT_SERIAL_INSIDE_H

#include "serial.h"

/* What IIR says of the interrupt that comes first, without its highest bits. */
uint8_t serial_pending(const struct serial *serial);

bool serial_has_fifos(const struct serial *serial);
bool serial_is_looped_back(const struct serial *serial);

/* Whether as many bytes as the guest wants at once wait for it. */
bool serial_is_triggered(const struct serial *serial);

void serial_enable_interrupts(struct serial *serial, uint8_t enabled);
void serial_control_modem(struct serial *serial, uint8_t control);
uint8_t serial_modem_lines(uint8_t modem_control);

/* Make the interrupt line what is pending, or low. */
void serial_update_line(struct serial *serial);
void serial_lower_line(struct serial *serial);

/* Hand on what has been transmitted. */
void serial_flush(struct serial *serial);

#endif
