/* Bytes on their way, first in, first out. Zeros are an empty one. */
#ifndef COMPUTE_AGENT_QUEUE_H
#define COMPUTE_AGENT_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#define QUEUE_SIZE 4096

struct queue {
    size_t first, length;
    uint8_t bytes[QUEUE_SIZE];
};

/* How many of the bytes have found room. */
size_t queue_put(struct queue *queue, const uint8_t *bytes, size_t length);

/* The first byte; 0 where there is none. */
uint8_t queue_take(struct queue *queue);

/* Copy all of it, which stays; `bytes` has room for QUEUE_SIZE. */
size_t queue_copy(const struct queue *queue, uint8_t *bytes);

void queue_clear(struct queue *queue);

#endif
