/* SPDX-License-Identifier: MIT */
/*
 * Moving pages to other frames while programs use them.
 *
 * What was at the page is at the other frame afterwards, in every entry, in the file's cache and in
 * the swap cache, and nobody notices but for the time: who touches the page meanwhile waits.
 * migrate.c has how, and why it is safe.
 *
 * It needs frames that are directly mapped: can_migrate().  Where the frames of programs are a mere
 * budget (the linux machine) there is no frame to choose, and no page is moved.
 */
#ifndef VMF_MIGRATE_MIGRATE_H
#define VMF_MIGRATE_MIGRATE_H

#include "engine/engine.h"

bool can_migrate(const struct engine *e);

/*
 * A reference to a page that could be moved: one that is on an LRU list, where it stays.  False: it
 * is not (free, a table, being filled, on its way to the swap area or back).  Takes its lruvec's
 * lock.
 */
bool migrate_get(struct engine *e, struct page *page);

/*
 * Move one page, which is locked and of which the caller has a reference, to `to`, which is fresh
 * from page_alloc().  Unlocks the page.  0: it is nobody's now but the caller's; otherwise nothing
 * has changed, and `to` is still fresh:
 *   -ENOENT  it is not in use any more, or on its way to the swap area, or a huge page
 *   -EBUSY   its memory has failed
 *   -EAGAIN  somebody has a reference to it, for now
 * No lock is held but mmap_lock or a VMA's for reading.
 */
int migrate_page(struct engine *e, struct page *page, struct page *to);

enum migrate_mode {
	MIGRATE_ASYNC, /* pages that are locked or in use are left */
	MIGRATE_SYNC,  /* they are waited for, and tried several times */
};

/* Where to move to. */
struct migrate_target {
	/* A frame for the page, as from page_alloc(), or NULL: there is none.  No page is locked.
	 */
	struct page *(*get)(struct engine *e, const struct page *page, void *arg);
	/* It was not needed.  NULL: page_put(). */
	void (*put)(struct engine *e, struct page *to, void *arg);
	void *arg;
};

/*
 * Move `n` pages, each of which has a reference from migrate_get(), which goes.  status[i] is 0,
 * or as migrate_page() says, or -ENOMEM: no frame to move to.  Returns how many were moved.  Locks
 * as above.
 */
unsigned migrate_pages(struct engine *e, struct page **pages, unsigned n,
		       const struct migrate_target *target, enum migrate_mode mode, int *status);

#endif
