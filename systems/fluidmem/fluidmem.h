/* SPDX-License-Identifier: MIT */
/*
 * FluidMem's monitor (Caldwell et al.): memory of several spaces that one process serves, by
 * userfaultfd, from a key-value store.
 *
 *   a page is   UNSEEN    never touched: zeros
 *               RESIDENT  mapped, and on the LRU list, which is as long as the capacity allows
 *               MOVING    in somebody's hands, on its way in or out
 *               ZEROS     went out, and was nothing but zeros: there is nothing to keep
 *               WRITING   went out, and is on the write list: its bytes are in a buffer
 *               STORED    the store has it
 *
 *   UNSEEN, ZEROS -> MOVING -> RESIDENT     UFFDIO_ZEROPAGE
 *   STORED        -> MOVING -> RESIDENT     read from the store, UFFDIO_COPY
 *   WRITING       -> MOVING -> RESIDENT     stolen: its buffer is copied, whether or not it is just
 *                                           being written
 *   RESIDENT      -> MOVING -> ZEROS or WRITING     UFFDIO_MOVE to the stage, read there, dropped
 *   WRITING       -> STORED                 by the writer
 *   any           -> ZEROS                  the program has unmapped or dropped it
 *
 * So there is one copy of the truth at any time.  The list is of pages in the order in which they
 * came: userfaultfd does not tell when they are used.  A fault is answered before room is made for
 * it; so for that moment one page more than the capacity (and those prefetched) is there.
 *
 * Events of the layout are followed (follow.c): what is unmapped or dropped is forgotten, what is
 * moved moves, and a child begins with all that its parent has, bytes in flight and in the store
 * shared between them.
 *
 * Threads: one handler for each space, one writer.  All state is guarded by one lock, which is held
 * neither while the store works nor in an operation of userfaultfd.
 */
#ifndef VMF_SYSTEMS_FLUIDMEM_H
#define VMF_SYSTEMS_FLUIDMEM_H

#include "engine/backing/store.h"
#include "engine/space/mm.h"
#include "systems/timing.h"

struct fluidmem;
struct fluidmem_space;

/* What takes time: FluidMem's names. */
enum fluidmem_bucket {
	HANDLE_USERFAULT_ZERO, /* from the message read to the faulting thread woken */
	HANDLE_USERFAULT_COPY,
	HANDLE_USERFAULT_STEAL,
	EVICT_TO_EXTERNRAM, /* all of an eviction, but for the writer's part */
	READ_PAGE,
	WRITE_PAGE,
	UFFD_ZEROPAGE,
	UFFD_COPY,
	UFFD_MOVE,
	ZEROPAGE_COMPARE,
	PREFETCH,
	NR_FLUIDMEM_BUCKETS
};

extern const char *const fluidmem_bucket_names[NR_FLUIDMEM_BUCKETS];

struct fluidmem_stats {
	u64 resident, writing, stored;			  /* pages now */
	u64 faults, evictions, stolen, prefetched, zeros; /* ever */
	u64 store_errors;
	struct timing timing[NR_FLUIDMEM_BUCKETS];
};

/* Calls of the kernel, and requests to the store. */
enum fluidmem_call {
	FLUIDMEM_READ, /* of a fault */
	FLUIDMEM_READ_EVENT,
	FLUIDMEM_ZEROPAGE,
	FLUIDMEM_COPY,
	FLUIDMEM_MOVE,
	FLUIDMEM_DROP, /* madvise() of the stage */
	FLUIDMEM_WAKE,
	FLUIDMEM_POISON,
	FLUIDMEM_UNREGISTER,
	FLUIDMEM_OPEN, /* userfaultfd() */
	FLUIDMEM_API,
	FLUIDMEM_MAP_STAGE,
	FLUIDMEM_EMPTY_STAGE, /* of a child, which has its parent's */
	FLUIDMEM_REGISTER,
	FLUIDMEM_CLONE, /* of a handler, until it sleeps */
	FLUIDMEM_BEGIN, /* the handler's; it only returns */
	FLUIDMEM_STORE_READ,
	FLUIDMEM_STORE_WRITE,
	NR_FLUIDMEM_CALLS
};

/* Who wants to know what the monitor does; each by the thread that does it. */
struct fluidmem_watch {
	void (*begin)(struct fluidmem_watch *w); /* a thread's first */
	void (*called)(struct fluidmem_watch *w, enum fluidmem_call call);
	/* A read that was made as FLUIDMEM_READ may return as FLUIDMEM_READ_EVENT. */
	void (*returned)(struct fluidmem_watch *w, enum fluidmem_call call);
};

struct fluidmem_config {
	u64 capacity;	   /* pages that are resident at most, of all spaces; at least 1 */
	unsigned prefetch; /* pages that are read ahead with one that is */
	unsigned batch;	   /* the writer begins when so many wait for it; 0: with the first */
	u64 max_unwritten; /* more than these are not sent away; 0: there is no end */
	struct fluidmem_watch *watch; /* or NULL */
	struct store *store;	      /* has slots for all pages that may be out */
};

/* Bytes of a page of the space, which is mapped: by the machine's means.  False: it was not. */
typedef bool (*fluidmem_read_fn)(void *arg, u64 va, void *bytes);

/* 0, -EINVAL, -ENOMEM. */
int fluidmem_create(const struct fluidmem_config *config, struct fluidmem **fm);
/* All spaces are detached. */
void fluidmem_destroy(struct fluidmem *fm);
/* Serve a space.  `read` is called by one thread at a time. */
int fluidmem_attach(struct fluidmem *fm, struct mm *mm, fluidmem_read_fn read, void *arg,
		    struct fluidmem_space **space);
/* Bring all of its pages back, whatever the capacity, and serve it no more.  -EIO: not all could be
 * had; it is served on. */
int fluidmem_detach(struct fluidmem_space *space);
/* The space is about to end: serve it no more, and forget its pages. */
void fluidmem_drop(struct fluidmem_space *space);
/*
 * fork() has returned, and child_mm has areas that are registered as their parent's are: serve
 * them, too, before the child runs.  0; -ENOMEM: what the store has of it cannot be had, and it
 * must not run.
 */
int fluidmem_adopt(struct fluidmem_space *space, struct mm *child_mm, fluidmem_read_fn read,
		   void *arg, struct fluidmem_space **child);
/* An area of anonymous memory, private and writable, is served from now on; what is there of it
 * must be nothing.  0, or as userfaultfd_register(), -ENOMEM. */
int fluidmem_add_region(struct fluidmem_space *space, u64 start, u64 len);
/* At any time; returns when no more pages are resident. */
void fluidmem_resize(struct fluidmem *fm, u64 capacity);
/* Send away what can go of the range. */
void fluidmem_evict(struct fluidmem_space *space, u64 start, u64 len);
/* The store works again: what it has kept from the program comes in.  Nothing is attached or
 * detached meanwhile. */
void fluidmem_store_works(struct fluidmem *fm);
/* Is there nothing that any of its threads has to do? */
bool fluidmem_is_idle(struct fluidmem *fm);
/* Wait until nothing is on the write list, or the store fails. */
void fluidmem_flush(struct fluidmem *fm);
void fluidmem_stats(struct fluidmem *fm, struct fluidmem_stats *stats);
/* The buckets are empty from now on. */
void fluidmem_reset_timing(struct fluidmem *fm);

#endif
