/* SPDX-License-Identifier: MIT */
/*
 * A store keeps evicted pages: slots of one page each, numbered by the engine.  It never touches
 * managed memory and never allocates with the program's allocator.
 *
 * A slot is saved once, loaded any number of times and dropped once; it is never rewritten.
 * Every slot carries a checksum: load() gives exactly the bytes saved or an error, never others.
 * All calls may come from several threads at once, but not two for one slot, except that load()
 * and same() of one slot may run side by side.
 */
#ifndef VMF_BACKING_STORE_H
#define VMF_BACKING_STORE_H

#include "engine/base/types.h"

struct store;

struct store_ops {
	const char *kind; /* "lz4", "zstd", "none", ... */
	/* Keep the PAGE_SIZE bytes as `slot`, which is empty.
	 * 0; 1: kept and all bytes were the same (no room taken); -ENOSPC: full; -EIO. */
	int (*save)(struct store *s, u64 slot, const void *bytes);
	/* Give the bytes of `slot` back.  0; -EBADMSG: the checksum is wrong; -EIO: not to be had;
	 * -ENOENT: never saved. */
	int (*load)(struct store *s, u64 slot, void *bytes);
	/* Are these the very bytes of `slot`?  False when in doubt. */
	bool (*same)(struct store *s, u64 slot, const void *bytes);
	/* Forget `slot`; nothing if it is empty. */
	void (*drop)(struct store *s, u64 slot);
	/* Wait until what was saved is safe.  0, -EIO. */
	int (*flush)(struct store *s);
};

/* Written by the store, read by anybody. */
struct store_stats {
	_Atomic u64 raw_bytes;	  /* of pages in it now, before compression */
	_Atomic u64 stored_bytes; /* what they take, headers and slack included */
	_Atomic u64 saved, loaded, same_filled, dropped; /* slots, ever */
};

struct store {
	const struct store_ops *ops;
	u64 nr_slots; /* valid slots are 0 .. nr_slots - 1 */
	struct store_stats stats;
};

#endif
