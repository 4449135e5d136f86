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
#define UF_BASE	   0x20000000ULL
#define UF_NOWHERE (UF_BASE - 0x1000000) /* nothing is mapped there */

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
	UF_PAGEOUT,
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
/* UF_READ_ONLY: shared, of the file as it was opened for reading. */
enum uf_backing { UF_ANON, UF_SHARED, UF_PRIVATE, UF_SHARED_ANON, UF_READ_ONLY, UF_BACKINGS };

enum uf_crooked {
	UF_CROOKED_LENGTH = 1, /* it is not one of pages */
	UF_CROOKED_SOURCE,     /* UF_COPY copies from where nothing is */
	UF_CROOKEDS
};

struct uf_op {
	u32 kind; /* enum uf_kind */
	u32 ctx;
	u32 page, n, page2;
	u32 mode; /* of the operation; of UF_REGISTER; PROT_ of UF_MAP and UF_PROTECT */
	u32 backing;
	u32 meanwhile; /* of the program's: what the monitor does when a message waits; 0: nothing
			*/
	u8 byte;
	u8 crooked; /* enum uf_crooked */
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
	return op->n * PAGE_SIZE + (op->crooked == UF_CROOKED_LENGTH ? 100 : 0);
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
	/* Wait: the context that has a message, or -1: the operation is over, with this result. */
	int (*wait)(s64 *result);
	/* That message; false: it is gone, for somebody has answered it. */
	bool (*next)(int ctx, struct uf_msg *msg);
	/* Is there such a context?  Those of a child are there until they are closed. */
	bool (*has)(unsigned ctx);
	void (*close_childs)(void);
	/* Do an operation of the monitor: what it returns, and tells as done. */
	s64 (*monitor)(const struct uf_op *op, s64 *done);
	/* enum uf_look of each page, and the areas: first page and pages of each, how many. */
	unsigned (*look)(u8 *pages, u8 (*areas)[2]);
};

extern const struct uf_side uf_real, uf_engine;

struct script;
/* A sequence (userfault_generate.c).  swap: pages are swapped out, too. */
void uf_generate(struct script *script, bool swap);

#endif
