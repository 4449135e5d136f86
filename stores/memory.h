/* SPDX-License-Identifier: MIT */
/*
 * The memory store: evicted pages compressed in RAM.
 *
 * All its memory comes from the functions it is given; it calls no allocator and makes no system
 * call, so that it can work inside a process whose own memory it holds.
 */
#ifndef VMF_STORES_MEMORY_H
#define VMF_STORES_MEMORY_H

#include "engine/backing/store.h"
#include "engine/engine.h"

enum compression { COMPRESS_NONE, COMPRESS_LZ4, COMPRESS_ZSTD };

/* "lz4", "zstd", "none"; -EINVAL for others. */
int compression_parse(const char *name, enum compression *out);

/*
 * A store of up to nr_slots pages that takes at most capacity_bytes (0: no limit).
 * `threads` is how many threads may call it at once (each call names none; the store finds a
 * free compression state, waiting for one if all are busy).
 * 0, -ENOMEM, -EINVAL.
 */
int memory_store_create(const struct engine_memory *memory, enum compression how, u64 nr_slots,
			u64 capacity_bytes, unsigned threads, struct store **out);
void memory_store_destroy(struct store *store);

/* For tests of corruption: the very bytes that are kept for a slot, and how many; NULL: empty. */
void *memory_store_blob(struct store *store, u64 slot, unsigned *length);

#endif
