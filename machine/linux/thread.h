/* SPDX-License-Identifier: MIT */
/*
 * The agent's threads.  They are made by clone() itself: libc does not know them, they have a
 * stack and a thread pointer of the agent's, and all signals blocked, so that no handler of the
 * program ever runs on them.
 */
#ifndef VMF_LINUX_THREAD_H
#define VMF_LINUX_THREAD_H

#include "engine/base/types.h"

#define MAX_HANDLERS 64
#define AGENT_STACK  (256 * 1024) /* bytes */
/* What libc may take for its descriptor of the thread (2304 with glibc 2.36); bytes. */
#define LIBCS_DESCRIPTOR 3072

struct agent_thread {
	struct agent_thread *self; /* the ABI's: %fs:0 */
	u64 pad[1];
	struct agent_thread *self_too; /* %fs:16: what libc calls the thread's descriptor */
	u64 pad2[2];
	u64 canary;			     /* %fs:40: the stack protector's */
	u64 libcs[LIBCS_DESCRIPTOR / 8 - 6]; /* zeros, but for what its functions leave there */
	int tid;
	unsigned index; /* of the handler */
	char *staging;	/* MMU_BATCH pages to fill before they are set */
	/* The pages that were set here last; their waiters have been woken by that, or
	 * (wakes_later) are to be when no lock is held any more. */
	u64 placed_from, placed_to;
	bool wakes_later;
	void *stack;
	_Atomic u32 busy; /* how deep inside the engine */
	bool has_locale;  /* libc's functions for texts may be called */
	unsigned ahead;	  /* pages written out while waiting, which the next fault need not */
};

/* At start-up, by a thread of libc's: how much room its thread-local variables have to have. */
void thread_measure_libcs(void);
/* Is that known, and there in all threads that thread_new() makes? */
bool thread_is_like_libcs(void);
/* An agent_thread with its stack, from the arena; NULL: no memory. */
struct agent_thread *thread_new(void);
/* Run fn(t) on it.  Its thread id, or a negative errno. */
long thread_start(struct agent_thread *t, void (*fn)(struct agent_thread *t));
/* The thread that runs now; only for the agent's own. */
static inline struct agent_thread *thread_self(void)
{
	struct agent_thread *t;

	__asm__("mov %%fs:0, %0" : "=r"(t));
	return t;
}
/* Run fn() on another stack, for when the present one may be paged out.  stack_top: 16-aligned. */
void thread_on_stack(void *stack_top, void (*fn)(void));

#endif
