#include "queue.h"

static uint8_t *place(struct queue *queue, size_t number)
{
    return &queue->bytes[(queue->first + number) % QUEUE_SIZE];
}

size_t queue_put(struct queue *queue, const uint8_t *bytes, size_t length)
{
    size_t taken = 0;

    while (taken < length && queue->length < QUEUE_SIZE)
        *place(queue, queue->length++) = bytes[taken++];
    return taken;
}

uint8_t queue_take(struct queue *queue)
{
    if (queue->length == 0)
        return 0;
    uint8_t byte = *place(queue, 0);
    queue->first = (queue->first + 1) % QUEUE_SIZE;
    queue->length--;
    return byte;
}

size_t queue_copy(const struct queue *queue, uint8_t *bytes)
{
    for (size_t number = 0; number < queue->length; number++)
        bytes[number] = queue->bytes[(queue->first + number) % QUEUE_SIZE];
    return queue->length;
}

void queue_clear(struct queue *queue)
{
    queue->first = queue->length = 0;
}
