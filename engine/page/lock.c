/* SPDX-License-Identifier: MIT */
/*
 * The page lock: PG_LOCKED in page->flags, with PG_WAITERS for "somebody sleeps".
 *
 * Sleepers sleep on the whole flags word.  Other flags change meanwhile; that makes machine_wait()
 * return early or not sleep at all, and the sleeper looks again.  It cannot make it miss a wake:
 * the unlocker takes both bits out in one step and wakes all if PG_WAITERS was there.
 */
#include "engine/base/text.h"
#include "engine/machine.h"
#include "engine/page/page.h"

#define WAKE_ALL 0x7fffffffu

static bool try_lock(struct page *page)
{
	return !page_test_set(page, PG_LOCKED);
}

bool page_trylock(struct page *page)
{
	if (likely(try_lock(page)))
		return true;
	lock_count_contention(LOCK_PAGE);
	return false;
}

static void page_lock_slow(struct page *page)
{
	u32 flags;

	lock_count_contention(LOCK_PAGE);
	do {
		flags = atomic_fetch_or_explicit(&page->flags, PG_WAITERS, memory_order_relaxed);
		if (flags & PG_LOCKED)
			machine_wait(&page->flags, flags | PG_WAITERS);
	} while (!try_lock(page));
}

void page_lock(struct page *page)
{
	if (unlikely(!try_lock(page)))
		page_lock_slow(page);
}

void page_unlock(struct page *page)
{
	u32 flags = atomic_fetch_and_explicit(&page->flags, ~(PG_LOCKED | PG_WAITERS),
					      memory_order_release);

	if (!(flags & PG_LOCKED))
		vmf_panic("page_unlock: the page is not locked");
	if (flags & PG_WAITERS)
		machine_wake(&page->flags, WAKE_ALL);
}

void page_wait_unlock(struct page *page, spinlock_t *lock)
{
	u32 flags = atomic_fetch_or_explicit(&page->flags, PG_WAITERS, memory_order_relaxed);

	if (!(flags & PG_LOCKED))
		vmf_panic("page_wait_unlock: the page is not locked");
	spin_unlock(lock);
	machine_wait(&page->flags, flags | PG_WAITERS);
}
