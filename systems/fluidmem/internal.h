/* SPDX-License-Identifier: MIT */
/* What the files of the monitor share; fluidmem.h is for its users. */
#ifndef VMF_SYSTEMS_FLUIDMEM_INTERNAL_H
#define VMF_SYSTEMS_FLUIDMEM_INTERNAL_H

#include <pthread.h>

#include "engine/userfault/userfault.h"
#include "systems/fluidmem/fluidmem.h"

enum fm_state { UNSEEN, RESIDENT, MOVING, ZEROS, WRITING, STORED };

struct fm_page {
	struct list_head
		link; /* RESIDENT: fm->lru; WRITING and not taken by the writer: fm->writes */
	struct fluidmem_space *space;
	u64 va;
	enum fm_state state;
	bool poisoned; /* STORED, WRITING: who touches it is told so, until the store works */
	u64 slot;      /* STORED */
	struct fm_buffer *buffer; /* WRITING */
};

/* Bytes on their way to the store.  Each page that they belong to (a child's, too) has one use of
 * them, and the writer, while it writes them. */
struct fm_buffer {
	unsigned users;
	_Alignas(u64) u8 bytes[PAGE_SIZE]; /* stores look at words */
};

struct fm_region {
	struct fm_region *next;
	u64 start, nr;
	struct fm_page pages[];
};

struct fluidmem_space {
	struct list_head link; /* fm->spaces */
	struct fluidmem *fm;
	struct mm *mm;
	struct userfaultfd_ctx *ctx, *stage_ctx;
	u64 stage;		    /* a page that evicted ones pass through */
	pthread_mutex_t stage_lock; /* outside fm->lock; guards the stage */
	fluidmem_read_fn read;
	void *arg;
	pthread_t handler;
	struct fm_region *regions;
	bool leaving;	     /* its pages stay */
	unsigned walkers;    /* who goes through the regions and drops fm->lock: none goes then */
	_Atomic bool sleeps; /* the handler has found nothing to read */
	struct fluidmem_space *born; /* of the child whose birth was told last; not served yet */
	bool stillborn;		     /* there was no memory for it */
};

struct fluidmem {
	pthread_mutex_t lock;	/* guards all below */
	pthread_cond_t changed; /* a page is not MOVING any more, the write list got shorter */
	pthread_cond_t work;	/* there is something to write, or the end has come */
	struct fluidmem_config config;
	struct list_head lru, writes, spaces;
	u64 *free_slots, nr_free_slots;
	u32 *slot_users;  /* pages, of a parent and its children, that have the same slot */
	u64 nr_unwritten; /* of buffers, with the one that is being written */
	const struct fm_page *in_hand; /* what the writer writes, its own or stolen; or NULL */
	bool end, flushing;
	bool store_down; /* the last write failed: the next is tried when the list is full */
	bool writer_sleeps;
	pthread_t writer;
	struct fluidmem_stats stats;
};

/* ---- fluidmem.c; fm->lock held ---- */

void fm_settle(struct fluidmem *fm, struct fm_page *p, enum fm_state state);
/* A resident page is in our hands. */
void fm_take_off(struct fluidmem *fm, struct fm_page *p);
/* Once it is in nobody's hands. */
void fm_wait_until_settled(struct fluidmem *fm, const struct fm_page *p);
/* The bytes of a page that is on the write list are the caller's now. */
struct fm_buffer *fm_steal(struct fluidmem *fm, struct fm_page *p);
void fm_put_back(struct fluidmem *fm, struct fm_page *p, struct fm_buffer *b);
void fm_buffer_put(struct fm_buffer *b);
/* A stored page needs its slot no more. */
void fm_drop_slot(struct fluidmem *fm, struct fm_page *p);
/* Bring the page in, which is out; see there.  Dropped in between. */
int fm_bring_in(struct fluidmem *fm, struct fm_page *p, bool write, enum fluidmem_bucket *how);
/* Send the page away, which is in our hands.  Dropped in between. */
void fm_evict(struct fluidmem *fm, struct fm_page *p);
bool fm_room_to_write(struct fluidmem *fm);
/* Has the writer something to do? */
bool fm_has_work(const struct fluidmem *fm);
/* Dropped in between. */
void fm_evict_if_needed(struct fluidmem *fm);
/* NULL: no region has it. */
struct fm_page *fm_find_page(struct fluidmem_space *s, u64 va);

/* ---- fluidmem.c; not held ---- */

/* Threads: of a space, of the monitor. */
void *fm_handler(void *space);
void *fm_writer(void *fm);

void fm_called(struct fluidmem *fm, enum fluidmem_call call);
void fm_returned(struct fluidmem *fm, enum fluidmem_call call);

/* ---- attach.c ---- */

/* Of nr pages that are zeros; not in the space's list.  NULL: no memory. */
struct fm_region *fm_region_new(struct fluidmem_space *s, u64 start, u64 nr);
/* The handler runs from here on.  0, -ENOMEM. */
int fm_start(struct fluidmem_space *s);
int fm_open_context(struct fluidmem *fm, struct mm *mm, u64 features, struct userfaultfd_ctx **ctx);
int fm_register_stage(struct fluidmem_space *s);
void fm_free_space(struct fluidmem_space *s);

/* ---- follow.c ---- */

/* What the space's handler has read, which is no fault. */
void fm_follow(struct fluidmem_space *s, const struct userfault_msg *msg);
/* All pages of the space, or those of [start, end), are nothing from now on.  fm->lock held,
 * dropped in between. */
void fm_forget(struct fluidmem_space *s, u64 start, u64 end);

#endif
