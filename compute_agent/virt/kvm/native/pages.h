/* Sets of a guest's pages: a bit for each, the lowest first, as KVM and vhost log what is written. */
#ifndef COMPUTE_AGENT_PAGES_H
#define COMPUTE_AGENT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096

/* Add the pages from `first` to before `end`, while others do so, too. */
void pages_add(uint64_t *set, size_t first, size_t end);

/* Move all that is in `from` to `to`, while others add to `from`. */
void pages_move(uint64_t *from, uint64_t *to, size_t words);

/* How many are in it. */
size_t pages_count(const uint64_t *set, size_t words);

/* The first page from `from` on that is in the set, and where the run of such pages ends; `pages` where there is none. */
size_t pages_run(const uint64_t *set, size_t pages, size_t from, size_t *end);

/* How many of the pages, from the first one on, are all zeros; or, as `are_zeros` tells, are not. */
size_t pages_alike(const uint8_t *memory, size_t pages, int *are_zeros);

#endif
