/* SPDX-License-Identifier: MIT */
/* Compressing one page at a time, with working memory that was given beforehand. */
#ifndef VMF_STORES_PACK_H
#define VMF_STORES_PACK_H

#include "engine/base/lock.h"
#include "engine/engine.h"
#include "stores/memory.h"

/* A page that does not get this small is not worth unpacking. */
#define PACK_MAX (PAGE_SIZE - 64)

/* One thread's working memory. */
struct pack_state {
	spinlock_t busy;
	void *compress;	  /* LZ4_stream_t or ZSTD_CCtx */
	void *decompress; /* ZSTD_DCtx */
	u8 *out;	  /* PACK_MAX bytes */
};

struct packer {
	const struct engine_memory *memory;
	enum compression how;
	unsigned nr;
	struct pack_state *states;
	u8 *room; /* what the states point into */
	u64 room_bytes;
};

/* Prepare `p`, all zero, for `threads` callers at once.  0, -ENOMEM, -EINVAL. */
int packer_init(struct packer *p, const struct engine_memory *memory, enum compression how,
		unsigned threads);
/* Fine after a failed packer_init. */
void packer_fini(struct packer *p);

/* A state of one's own, waiting for one if all are busy; until pack_end(). */
struct pack_state *pack_begin(struct packer *p);
void pack_end(struct pack_state *state);
/* Compress a page to state->out; the length there, or 0: it does not get small. */
unsigned pack(const struct packer *p, struct pack_state *state, const void *page);
/* The page back.  False: these bytes are none of pack()'s. */
bool unpack(struct packer *p, const void *bytes, unsigned length, void *page);

#endif
