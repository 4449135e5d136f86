/* SPDX-License-Identifier: MIT */
/*
 * The same operations on userfaultfd and on memory that it watches, done in this process with the
 * kernel's, and by the engine.  See userfault.c.
 */
#ifndef VMF_TESTS_USERFAULT_H
#define VMF_TESTS_USERFAULT_H

#include "engine/base/types.h"

/* Pages of the window that all is about, and of the file. */
enum { UF_PAGES = 32, UF_FILE_PAGES = 12, UF_CONTEXTS = 2 };
#define UF_BASE 0x20000000ULL

enum uf_kind {
	/* of the program, in its own thread: it may fault, and wait */
	UF_MAP,
	UF_UNMAP,
	UF_PROTECT,
	UF_DONTNEED,
	UF_REMAP, /* to page2 */
	UF_READ,
	UF_WRITE,
	UF_FILE_WRITE, /* page, of the file */
	UF_FILE_PUNCH,
	UF_FORK, /* a child touches the pages, mode 1: writes; the sum of what it found */
	/* of the monitor */
	UF_REGISTER,
	UF_UNREGISTER,
	UF_WAKE,
	UF_COPY,
	UF_ZEROPAGE,
	UF_CONTINUE,
	UF_MOVE, /* from page2 */
	UF_WRITEPROTECT,
	UF_POISON,
	UF_KINDS
};
enum uf_backing { UF_ANON, UF_SHARED, UF_PRIVATE, UF_SHARED_ANON, UF_BACKINGS };

struct uf_op {
	u32 kind; /* enum uf_kind */
	u32 ctx;
	u32 page, n, page2;
	u32 mode; /* of the operation; of UF_REGISTER; PROT_ of UF_MAP and UF_PROTECT */
	u32 backing;
	u8 byte;
	u8 crooked; /* the length is not one of pages */
	u64 luck;   /* what the faults that it leads to are answered with */
};

/* One touch more goes into what a child tells. */
static inline s64 uf_sum(s64 sum, s64 touch)
{
	return (sum * 31 + touch + 5000) % 1000003;
}

static inline u64 uf_at(unsigned page)
{
	return UF_BASE + page * PAGE_SIZE;
}
static inline u64 uf_len(const struct uf_op *op)
{
	return op->n * PAGE_SIZE + (op->crooked ? 100 : 0);
}

/* A message, in the kernel's numbers. */
struct uf_msg {
	unsigned ctx, event; /* of a child's contexts: UF_CONTEXTS more */
	u64 a, b, c;	     /* flags and address; start and end; from, to and len */
};

/* What a touch gives instead of a byte. */
enum { UF_BUS = -1001, UF_MAPERR = -1002, UF_ACCERR = -1003 };

enum uf_look { UF_PRESENT = 1, UF_WP = 2, UF_OTHER = 4 /* an entry that maps nothing */ };

struct uf_side {
	const char *name;
	/* An empty window, a file of holes, and fresh contexts.  False: it cannot be done here. */
	bool (*begin)(const u64 *features);
	void (*end)(void);
	/* Begin an operation of the program. */
	void (*start)(const struct uf_op *op);
	/* Wait: true: a message; false: the operation is over, with this result. */
	bool (*next)(struct uf_msg *msg, s64 *result);
	/* Do an operation of the monitor: what it returns, and tells as done. */
	s64 (*monitor)(const struct uf_op *op, s64 *done);
	/* enum uf_look of each page, and the areas: first page and pages of each, how many. */
	unsigned (*look)(u8 *pages, u8 (*areas)[2]);
};

extern const struct uf_side uf_real, uf_engine;

#endif
