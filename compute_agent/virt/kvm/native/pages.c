#include "pages.h"

#include <string.h>

#define BITS 64

void pages_add(uint64_t *set, size_t first, size_t end)
{
    for (size_t page = first; page < end; page++) {
        __atomic_fetch_or(&set[page / BITS], UINT64_C(1) << page % BITS, __ATOMIC_SEQ_CST);
    }
}

void pages_move(uint64_t *from, uint64_t *to, size_t words)
{
    for (size_t word = 0; word < words; word++) {
        if (__atomic_load_n(&from[word], __ATOMIC_RELAXED)) {
            to[word] |= __atomic_exchange_n(&from[word], 0, __ATOMIC_SEQ_CST);
        }
    }
}

size_t pages_count(const uint64_t *set, size_t words)
{
    size_t count = 0;
    for (size_t word = 0; word < words; word++) {
        count += (size_t)__builtin_popcountll(set[word]);
    }
    return count;
}

/* The first page from `from` on whose bit is 1 in the set; of the complement, where `flip` is all ones. */
static size_t find(const uint64_t *set, size_t pages, size_t from, uint64_t flip)
{
    while (from < pages) {
        uint64_t bits = (set[from / BITS] ^ flip) >> from % BITS;
        if (bits) {
            size_t found = from + (size_t)__builtin_ctzll(bits);
            return found < pages ? found : pages;
        }
        from += BITS - from % BITS;
    }
    return pages;
}

size_t pages_run(const uint64_t *set, size_t pages, size_t from, size_t *end)
{
    size_t first = find(set, pages, from, 0);
    *end = find(set, pages, first, ~UINT64_C(0));
    return first;
}

/* Each byte is the one before it, and the first is zero. */
static int is_zeros(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE_BYTES - 1);
}

size_t pages_alike(const uint8_t *memory, size_t pages, int *are_zeros)
{
    size_t count = 1;
    *are_zeros = is_zeros(memory);
    while (count < pages && is_zeros(memory + count * PAGE_BYTES) == *are_zeros) {
        count++;
    }
    return count;
}
