/* The wires of the serial port: to the host, and to the interrupt controllers. */
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serial_bits.h"
#include "serial_inside.h"

static void drive_line(struct serial *serial, bool is_high)
{
    struct kvm_irq_level level = {.irq = SERIAL_GSI, .level = is_high};

    ioctl(serial->vm, KVM_IRQ_LINE, &level); /* refused by a machine without interrupt controllers, which polls */
    serial->is_interrupting = is_high;
}

static void set_line(struct serial *serial, bool is_high)
{
    if (is_high != serial->is_interrupting)
        drive_line(serial, is_high);
}

void serial_update_line(struct serial *serial)
{
    set_line(serial, serial_pending(serial) != IIR_NONE);
}

void serial_lower_line(struct serial *serial)
{
    set_line(serial, false);
}

static void write_log(struct serial *serial)
{
    if (serial->log >= 0 && write(serial->log, serial->batch, serial->batched) < 0)
        return; /* the guest must not suffer from a full disk */
}

static void send_to_client(struct serial *serial)
{
    ssize_t sent;

    if (serial->client < 0)
        return;
    sent = send(serial->client, serial->batch, serial->batched, MSG_DONTWAIT | MSG_NOSIGNAL);
    serial->counters.dropped += serial->batched - (sent > 0 ? sent : 0);
}

void serial_flush(struct serial *serial)
{
    if (serial->batched == 0)
        return;
    write_log(serial);
    send_to_client(serial);
    serial->counters.transmitted += serial->batched;
    serial->batched = 0;
}

void serial_init(struct serial *serial, int vm, int log)
{
    memset(serial, 0, sizeof(*serial));
    pthread_mutex_init(&serial->lock, NULL);
    serial->vm = vm;
    serial->log = log;
    serial->client = -1;
    serial_reset(serial);
}

size_t serial_receive(struct serial *serial, const uint8_t *bytes, size_t length)
{
    size_t taken = 0;

    pthread_mutex_lock(&serial->lock);
    if (!serial_is_looped_back(serial))
        taken = queue_put(&serial->input, bytes, length);
    serial->counters.received += taken;
    serial_update_line(serial);
    pthread_mutex_unlock(&serial->lock);
    return taken;
}

void serial_attach(struct serial *serial, int client)
{
    pthread_mutex_lock(&serial->lock);
    serial->client = client;
    pthread_mutex_unlock(&serial->lock);
}

void serial_reset(struct serial *serial)
{
    static const struct serial_registers switched_on = {.divisor_low = 12}; /* 9600 baud, as firmware leaves it */

    serial_restore(serial, &switched_on, NULL, 0);
}

size_t serial_save(struct serial *serial, struct serial_registers *registers, uint8_t *input)
{
    size_t length;

    pthread_mutex_lock(&serial->lock);
    *registers = serial->registers;
    length = queue_copy(&serial->input, input);
    pthread_mutex_unlock(&serial->lock);
    return length;
}

void serial_restore(struct serial *serial, const struct serial_registers *registers, const uint8_t *input,
                    size_t length)
{
    pthread_mutex_lock(&serial->lock);
    serial->registers = *registers;
    queue_clear(&serial->input);
    queue_put(&serial->input, input, length);
    drive_line(serial, serial_pending(serial) != IIR_NONE); /* whatever KVM believes the line to be */
    pthread_mutex_unlock(&serial->lock);
}
