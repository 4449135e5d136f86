/* SPDX-License-Identifier: MIT */
/*
 * Time slices: of several threads, each of which makes the calls of one program, one goes on at a
 * time, for SLICE_CALLS calls; so all are in the middle of something, and what comes of it is the
 * same each time.  Threads that a program has beside that one belong to its slice.
 */
#ifndef VMF_EXOKERNEL_SLICES_H
#define VMF_EXOKERNEL_SLICES_H

#include <pthread.h>

#include "engine/base/types.h"

#define SLICE_CALLS 32
#define SLICES_MOST 4

struct slices {
	pthread_mutex_t lock; /* guards turn and runs */
	pthread_cond_t next;
	unsigned n, turn;
	bool runs[SLICES_MOST];
	/* A slice of that program is over (`ends`: it has no other).  By its thread; nobody else
	 * goes on meanwhile. */
	void (*over)(void *arg, unsigned program, bool ends);
	void *arg;
};

void slices_init(struct slices *s, void (*over)(void *arg, unsigned program, bool ends), void *arg);
void slices_fini(struct slices *s);
/* Do run(arg, i) for each i < n, each in a thread of its own, in turns.  0; -EAGAIN (the host has
 * no thread): then none was done. */
int slices_run(struct slices *s, unsigned n, void (*run)(void *arg, unsigned program), void *arg);
/* The program's thread makes a call: it may have to wait.  Others, and all while nobody is in
 * slices_run(), do not. */
void slices_call(struct slices *s);

#endif
