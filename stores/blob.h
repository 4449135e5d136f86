/* SPDX-License-Identifier: MIT */
/*
 * Blobs: pieces of 1 to PAGE_SIZE bytes, packed tightly, for the memory store.
 *
 * Sizes are rounded up to classes of BLOB_STEP bytes.  A *chunk* of 64 KiB is cut into blobs of one
 * class; chunks come out of *extents* of 4 MiB, which come from the machine.  A chunk without
 * blobs goes back to a pool that all classes share, and an extent without chunks goes back to the
 * machine, except one that is kept for the next need.
 *
 * What is known about chunks is beside them, not in them.  All calls may come from several threads
 * at once.  Lock order: none is held while another is taken.
 */
#ifndef VMF_STORES_BLOB_H
#define VMF_STORES_BLOB_H

#include "engine/base/lock.h"
#include "engine/engine.h"

#define BLOB_STEP	64
#define BLOB_CLASSES	(PAGE_SIZE / BLOB_STEP)
#define BLOB_CHUNK	(64UL << 10)
#define BLOB_EXTENT	(4UL << 20)
#define CHUNKS_A_EXTENT (BLOB_EXTENT / BLOB_CHUNK)

/* Where a blob is; chunk 0 is none. */
struct blob {
	u32 chunk; /* its number + 1 */
	u16 index; /* within the chunk */
};

/* Guarded by its class's lock while it belongs to one, by the pool's lock otherwise. */
struct blob_chunk {
	u32 next, prev; /* numbers + 1, in the list of its class or of the pool; 0: end */
	u16 nr_used;	/* blobs in use */
	u16 nr_cut;	/* blobs that were ever in use: later ones are not on the free chain */
	u16 first_free; /* index + 1 of a blob that was freed; it begins with the next one's */
	u8 class;	/* blobs of (class + 1) * BLOB_STEP bytes */
	bool listed;	/* on a list */
};

/* Guarded by the pool's lock. */
struct blob_extent {
	void *memory; /* NULL: none */
	u32 nr_free;  /* chunks in the pool */
	u32 next;     /* while it has no memory: number + 1 of another such */
};

struct blob_class {
	spinlock_t lock;
	u32 partial; /* chunks with room, number + 1; the one that last was full is first */
	char pad[56];
};

struct blobs {
	const struct engine_memory *memory;
	struct blob_chunk *chunks; /* [nr_extents * CHUNKS_A_EXTENT], touched as needed */
	struct blob_extent *extents;
	u32 nr_extents;

	spinlock_t lock;    /* the pool: all below, and the extents */
	u32 pool;	    /* free chunks, last used first */
	u32 extents_used;   /* extents below were used at some time */
	u32 extents_gone;   /* of those, one without memory, number + 1 */
	u32 spare;	    /* the extent without a blob that is kept, number + 1 */
	_Atomic u64 *taken; /* bytes of chunks in use are added here */
	u64 capacity;	    /* *taken stays at or below it */

	struct blob_class classes[BLOB_CLASSES];
};

/*
 * Prepare `b`, all zero, for at most `max_bytes` of blobs.  Chunks in use are counted in *taken,
 * which is not let above `capacity` (0: no limit).  0, -ENOMEM.
 */
int blobs_init(struct blobs *b, const struct engine_memory *memory, u64 max_bytes, u64 capacity,
	       _Atomic u64 *taken);
/* Gives all memory back, blobs in use or not.  Fine after a failed blobs_init. */
void blobs_fini(struct blobs *b);

/* Room for 1 .. PAGE_SIZE bytes; `out->chunk` is 0 and the result -ENOSPC if there is none. */
int blob_alloc(struct blobs *b, unsigned length, struct blob *out);
void blob_free(struct blobs *b, struct blob blob);
/* Its first byte; aligned to BLOB_STEP. */
void *blob_bytes(const struct blobs *b, struct blob blob);

#endif
