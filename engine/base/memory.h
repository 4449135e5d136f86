/* SPDX-License-Identifier: MIT */
/* Where the engine's own structures come from: never from the program's allocator. */
#ifndef VMF_BASE_MEMORY_H
#define VMF_BASE_MEMORY_H

#include "engine/base/types.h"

/* Both may be called under any lock of the engine. */
struct engine_memory {
	/* bytes of zeroed memory, 64-byte aligned, never moved; NULL: none */
	void *(*alloc)(void *ctx, u64 bytes);
	void (*free)(void *ctx, void *p, u64 bytes);
	void *ctx;
};

#endif
