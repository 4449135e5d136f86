/* SPDX-License-Identifier: MIT */
/*
 * The policy "chosen": somebody outside of the engine says which pages go next, and names them by
 * handles.
 *
 * A handle is a frame and the stamp that the frame's page got when it came.  It is good as long as
 * that page waits to be evicted; after that it names nothing, whatever has the frame.  So who
 * chooses may keep handles as long as it likes, make them up or give nonsense: it is told -EBADF,
 * and the oldest page goes.
 *
 * Pages are in the order in which they came.  Where nobody chooses this is first in, first out.
 */
#ifndef VMF_RECLAIM_CHOSEN_H
#define VMF_RECLAIM_CHOSEN_H

#include "engine/reclaim/policy.h"

extern const struct reclaim_policy policy_chosen;

struct page_handle {
	u64 pfn, stamp;
};

/* What who chooses may know of a page. */
struct page_facts {
	u64 index;  /* anonymous: its address / PAGE_SIZE when it came; otherwise: in its file */
	u64 stamp;  /* who came later has a higher one */
	bool file;  /* of a file, or of shared memory */
	bool dirty; /* as far as is known without looking at its entries */
};

struct reclaim_chooser {
	/*
	 * Which of the node's go next?  Up to MMU_BATCH of them in next[], the first to go first;
	 * how many; 0: the oldest.  *neighbours (is set): they may take pages around them along.
	 * What is no good handle by now is passed over.  By whoever needs memory, with no lock but
	 * those of reclaim_fn; one call at a time, and only when all that was chosen before is
	 * gone.
	 */
	unsigned (*choose)(struct reclaim_chooser *c, struct lruvec *v, struct page_handle *next,
			   bool *neighbours);
	/* So many that came last are not to be chosen, for an access may need several pages at
	 * once: if the newest could go, one would take the other's place for ever.  0: any may. */
	u64 fresh;
	/* the engine's */
	u64 *stamps;	   /* [nr_pages]; each with the lock of its page's node */
	_Atomic u64 clock; /* the stamp given last */
};

/* From now on `c`, which has its `choose` and `fresh`, is asked; the engine has policy_chosen, and
 * nobody is asked yet.  0, -ENOMEM. */
int chosen_begin(struct engine *e, struct reclaim_chooser *c);
/* Nobody is asked any more, and when this returns nobody is being asked.  No lock held. */
void chosen_end(struct engine *e);

/* ---- by who chooses, for a node; each takes the node's lock for a moment ---- */
/* The pages of other nodes are none here. */

/* Pages to choose from, as many as there are just now. */
u64 chosen_length(const struct lruvec *v);
/* The page that came last but for those that are fresh, or first.  0, -ENOENT: there is none. */
int chosen_newest(struct lruvec *v, struct page_handle *h);
int chosen_oldest(struct lruvec *v, struct page_handle *h);
/* The one that came after it, or before.  0, -ENOENT: there is none, -EBADF: no good handle. */
int chosen_newer(struct lruvec *v, const struct page_handle *h, struct page_handle *next);
int chosen_older(struct lruvec *v, const struct page_handle *h, struct page_handle *next);
/* 0, -EBADF. */
int chosen_look(struct lruvec *v, const struct page_handle *h, struct page_facts *facts);
/* Was it used since this was last asked?  1, 0, -EBADF, -EBUSY: somebody is at the page. */
int chosen_used(struct lruvec *v, const struct page_handle *h);

#endif
