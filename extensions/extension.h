/* SPDX-License-Identifier: MIT */
/*
 * Extensions: pieces of a pager that a user writes, in Lua.
 *
 * An extension answers events (the names are SPIN's):
 *
 *   Reclaim             memory is short: which pages are to go?  The answer is a handle, or several
 *   Repossess           a page has been written out, and its frame is free
 *   InvalidTranslation  nothing is at an address yet: which bytes are to be there?
 *
 * and, where memory services are offered to it (struct extension_services), of its own:
 *
 *   Repossess of a frame  it is to be read for the last time
 *   InvalidTranslation in a range  it may map a frame there
 *
 * It runs in an interpreter that gives it nothing but values, handles of pages (reclaim/chosen.h)
 * and a few functions on them: no pointers, no files, no clock, nothing of the process.  A call may
 * take EXTENSION_STEPS steps, everything together EXTENSION_MEMORY bytes.
 *
 * Whatever it does wrong, the worst that comes of it is a page that another would have kept, and
 * the default handler goes on: what it does is said in one line, and after an error, a call that
 * took too long or an answer that is none it is not asked again.
 *
 * The interpreter calls libc (texts of numbers, setjmp), so the thread that calls here has to be
 * one of libc's, or to look like one to it.
 */
#ifndef VMF_EXTENSIONS_EXTENSION_H
#define VMF_EXTENSIONS_EXTENSION_H

#include "engine/reclaim/chosen.h"

#define EXTENSION_STEPS	 100000 /* instructions; 64 bytes of new memory are one, too */
#define EXTENSION_MEMORY (1u << 20)
#define EXTENSION_TEXT	 (64u << 10) /* bytes, at most */
#define EXTENSION_SAYS	 160

enum extension_event {
	EXTENSION_RECLAIM,
	EXTENSION_REPOSSESS,
	EXTENSION_FAULT,
	EXTENSION_BEGIN,     /* it is given a space */
	EXTENSION_TRANSIENT, /* a frame of its own goes */
	NR_EXTENSION_EVENTS
};

struct extension;

/* What a mapping says of itself. */
struct extension_examined {
	u32 prot; /* VM_READ, VM_WRITE, VM_EXEC */
	bool used, dirty;
};

/*
 * Memory services for scripts: SPIN's (systems/spin/services.h), with their contracts, states and
 * errors.  Handles are numbers of who offers them, who checks them at each call; a script has them
 * as values that it can neither make nor change.  Called while the script is inside: none may ask
 * an extension anything, so none reclaims.
 */
struct extension_services {
	void *arg;
	s64 (*allocate_frame)(void *arg);
	int (*deallocate_frame)(void *arg, s64 frame);
	int (*state)(void *arg, s64 frame);
	int (*change_state)(void *arg, s64 frame, int state);
	int (*change_protection)(void *arg, s64 frame, u32 prot);
	int (*read)(void *arg, s64 frame, u64 at, void *bytes, u64 n);
	int (*write)(void *arg, s64 frame, u64 at, const void *bytes, u64 n);
	s64 (*allocate_range)(void *arg, u64 space, u64 pages);
	int (*deallocate_range)(void *arg, s64 range);
	int (*address)(void *arg, s64 range, u64 *address);
	int (*add_mapping)(void *arg, u64 space, s64 frame, s64 range, u64 page, u32 prot);
	int (*remove_mapping)(void *arg, u64 space, s64 range, u64 page);
	int (*change_mapping)(void *arg, u64 space, s64 range, u64 page, u32 prot);
	int (*examine_mapping)(void *arg, u64 space, u64 va, struct extension_examined *examined);
};

/*
 * Understand and begin an extension: `size` bytes of text, which may be any.  name: of its file,
 * for messages.  The memory's functions may be called by any thread that calls here.  0; -ENOMEM;
 * -EINVAL, -ETIMEDOUT: says (EXTENSION_SAYS bytes) tells in one line what is wrong with it.
 */
int extension_load(const struct engine_memory *memory, const char *name, const char *text,
		   size_t size, struct extension **x, char *says);
void extension_free(struct extension *x);
/* From now on it has these; they live as long as it.  Before it is asked anything. */
void extension_offer(struct extension *x, const struct extension_services *services);

/* Has it a handler of that event? */
bool extension_answers(const struct extension *x, enum extension_event event);
/* Is it not asked any more? */
bool extension_has_failed(const struct extension *x);
/* The first thing that went wrong, one line; "": nothing did.  It does not change any more. */
const char *extension_says(const struct extension *x);

/*
 * Ask it.  By any thread that holds no spinlock; one is inside at a time, the others wait.  Below 0
 * it has given no answer that can be taken: -ENOENT (it has no such handler, or is not asked any
 * more), -EBADF (a page that is gone by now), -EINVAL (an error of its own, or nonsense),
 * -ETIMEDOUT (too many steps), -ENOMEM (too much memory).
 */

/* Up to MMU_BATCH pages of a node that are to go, as reclaim_chooser.choose; 0: it has no
 * opinion. */
int extension_reclaim(struct extension *x, struct lruvec *v, struct page_handle *next,
		      bool *neighbours);
/* The page at (anonymous) that address has been written out.  0. */
int extension_repossess(struct extension *x, u64 address);
/* What is to be at the address, of a page.  1: a page of bytes; 0: it is none of its. */
int extension_fault(struct extension *x, u64 address, bool write, void *bytes);
/* The same in a range of a space: 1: it says that it has mapped a frame there; 0: it has not. */
int extension_range_fault(struct extension *x, u64 space, u64 address, bool write);
/* It is given that space.  0. */
int extension_begin(struct extension *x, u64 space);
/* A frame of its own goes: it may read it for the last time.  0. */
int extension_transient(struct extension *x, s64 frame);

#endif
