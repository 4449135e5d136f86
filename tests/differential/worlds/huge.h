/* SPDX-License-Identifier: MIT */
/* Huge pages in a window of a few of them: one operation at a time, here and in the engine. */
#ifndef VMF_DIFFERENTIAL_HUGE_H
#define VMF_DIFFERENTIAL_HUGE_H

#include "engine/base/types.h"

enum { WINDOW = 4 * 512 }; /* pages */
#define WINDOW_BASE 0x20000000ULL

enum huge_kind {
	OP_MAP,
	OP_UNMAP,
	OP_PROTECT,
	OP_ADVISE,
	OP_REMAP,	 /* to page2; n2: to so many pages, 0: as many as they are */
	OP_WATCH,	 /* by a userfaultfd: enum watch of prot, none: not any more */
	OP_WRITEPROTECT, /* prot: PROT_WRITE: take it back */
	OP_MOVE,	 /* to page2, which is watched; prot: PROT_READ: holes, too */
	OP_READ,
	OP_WRITE,
	OP_FORK, /* a child touches a page; prot: PROT_WRITE: it writes */
	OP_KINDS
};

struct huge_step {
	u32 kind;
	u32 page, n, page2, n2, prot;
	u32 advice;
	u32 byte;
};

/* What a touch gives instead of a byte. */
enum { TOUCH_MAPERR = -1001, TOUCH_ACCERR = -1002, TOUCH_BUS = -1003 };

/* Where it watches. */
enum watch { WATCH_MISSING = 1, WATCH_WP = 2 };
/* What it can, by the byte of the first OP_WATCH of a sequence; SIGBUS in any case: nobody waits.
 */
enum watch_feature { WATCH_ASYNC = 1, WATCH_UNPOPULATED = 2 };

/* The features and modes in the kernel's numbers. */
u64 huge_watch_features(const struct huge_step *op);
u64 huge_watch_modes(const struct huge_step *op);

struct outcome {
	s64 result;
	s64 faults;
	u64 anon_bytes; /* in huge pages that are not the zero page */
	u8 present[WINDOW], huge[WINDOW];
	u8 marked[WINDOW]; /* write-protected by the userfaultfd */
};

static inline u64 huge_at(unsigned page)
{
	return WINDOW_BASE + page * PAGE_SIZE;
}

/* Of each page: is it there?  2: there is no area. */
void huge_see_present(bool (*ask)(unsigned page, unsigned n, u8 *vec), u8 *present, unsigned page,
		      unsigned n);

/* The kernel's side: this process.  open(): NULL, or why not. */
const char *huge_real_open(void);
void huge_real_begin(void);
/* `engine`: what came of it there; *o: what came of it here. */
void huge_real_do(const struct huge_step *op, const struct outcome *engine, struct outcome *o);
/* How often the kernel found no huge page, or made one by itself, in whatever process. */
u64 huge_real_disturbances(void);
/* enum thp_mode as the kernel has it; -1: it has none. */
int huge_real_mode(void);

/* The engine's.  `mode`: enum thp_mode. */
const char *huge_engine_open(int mode);
void huge_engine_begin(void);
void huge_engine_do(const struct huge_step *op, struct outcome *o);
/* Huge pages split since the machine was made. */
u64 huge_engine_splits(void);
void huge_engine_end(void);

#endif
