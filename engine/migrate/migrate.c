/* SPDX-License-Identifier: MIT */
/*
 * Migration: one page, many places that know it.
 *
 *   1  page and new frame are locked; an anonymous page gets a pin (below);
 *   2  freeze: every entry that maps the page becomes a migration entry, and is flushed;
 *   3  nobody else may have a reference; under the lock of the cache that the page is in, the new
 *      frame takes its place there: the point of no return;
 *   4  the bytes are copied, the new frame takes the page's place on its LRU list;
 *   5  thaw: every migration entry becomes what it was, and names the new frame;
 *   6  both are unlocked, and those that wait go on.
 *
 * If 3 finds a reference too many, 5 gives the entries their own page again.
 *
 * A migration entry (pte_migrating()) is an entry that nobody may access, as for PROT_NONE, with a
 * mark.  It still names the page and counts as a mapping: map count, reference and the space's
 * counts stay as they are, and so do the rights that the entry had.  That is why the rest of the
 * engine hardly knows of it:
 *
 *   munmap, truncation   take it out as they do any mapping; 5 finds one less
 *   mremap               moves it, under the reverse map's lock, with which 2 and 5 walk
 *   fork                 copies it, and takes its right to write; 5 finds the copy, too
 *   mprotect, userfaultfd's write protection
 *                        change its rights and keep the mark; what allows any access at all is the
 *                        VMA's to say at 5, under the page-table lock, before or after mprotect
 *   a fault              waits for the page lock, with no reference
 *   reclaim, MADV_FREE, UFFDIO_MOVE
 *                        need the page lock
 *
 * Why no write is lost: after 2 no CPU writes by way of an entry that the page has.  An unmapper
 * that took one away before, and that has not flushed it, has a reference until it has, and 3 finds
 * it.  Whoever looks the page up in a cache gets a reference under the lock that 3 holds: either
 * before, and 3 finds it, or after, and gets the new frame, which is locked until the bytes are
 * there.  New entries for the page come by its lock only, or by fork, from one that is frozen.
 *
 * Why every entry is found: a walk that sees no migration entry, during which fork has copied none,
 * leaves none.  (For a page that moved the map count says the same.)
 *
 * The pin is a mapping of ours without an entry.  Who unmaps the last entry of an anonymous page
 * takes it off the LRU and frees it; with the pin that is us, on both sides: the page keeps its
 * place until the new frame has it, and the new frame, of which one entry may go while the next
 * one is yet to come, does so until all have come.
 *
 * A page that is shared is not made anybody's alone meanwhile (wp.c asks for the page lock, and a
 * pin is a mapping more).  One that is exclusive has one entry; whether it still is, is looked at
 * when that thaws, under its page-table lock, for fork may have come between.
 */
#include "engine/migrate/migrate.h"

#include "engine/backing/page_cache.h"
#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"

/* So often a page is tried that somebody uses, if it is waited for or not. */
#define SYNC_PASSES  10
#define ASYNC_PASSES 3

/* What a page is, beyond where it is: goes to the new frame. */
#define PG_MOVES                                                                                   \
	(PG_REFERENCED | PG_PREFETCHED | PG_WORKINGSET | PG_LAZYFREE | PG_MLOCKED | PG_RECLAIM)

bool can_migrate(const struct engine *e)
{
	return e->zones[ZONE_USER].direct_map;
}

bool migrate_get(struct engine *e, struct page *page)
{
	struct lruvec *v;
	bool listed;

	if (!can_migrate(e) || page->zone == ZONE_TABLE)
		return false;
	/* A page on a list has a reference while it is there. */
	v = lruvec_relock(e, page, NULL);
	listed = page_test(page, PG_LRU) && page_tryget(page);
	spin_unlock(&v->lock);
	return listed;
}

/* ---- the pin ---- */

/* False: it is mapped nowhere. */
static bool pin(struct page *page)
{
	s32 n = page_mapcount(page);

	while (n > 0)
		if (atomic_compare_exchange_weak_explicit(&page->mapcount, &n, n + 1,
							  memory_order_acq_rel,
							  memory_order_acquire)) {
			page_get(page);
			return true;
		}
	return false;
}

/* True: no entry is left, and the pin's reference is the caller's to hand to page_unmapped(), when
 * the page is unlocked. */
static bool unpin(struct engine *e, struct page *page)
{
	if (!page_remove_rmap(page)) {
		page_put(e, page);
		return false;
	}
	lru_del(e, page);
	return true;
}

/* ---- entries ---- */

static bool freeze_entry(struct page *page, struct rmap_entry *entry, void *arg)
{
	struct mm *mm = entry->mm;

	(void)arg;
	if (pte_migrating(entry->pte))
		return false;
	mm->engine->mmu->change(mm, entry->va, entry->ptep, pte_mkmigrating(entry->pte));
	/* No CPU can set the bit any more.  A file is told now, for it is asked in a moment. */
	if (page_test(page, PG_FILE) && pte_dirty(pte_read(entry->ptep)))
		page_mark_dirty(page->mapping, page);
	return pte_present(entry->pte);
}

struct thaw {
	struct engine *e;
	struct page *to; /* may be the page itself */
	bool found;
};

/* One entry more for the new frame, and one less for the page.  PTL held. */
static void change_sides(struct thaw *t, struct page *page)
{
	page_get(t->to);
	atomic_fetch_add_explicit(&t->to->mapcount, 1, memory_order_release);
	if (page_test(page, PG_FILE)) {
		page_remove_file_rmap(page);
	} else {
		if (page_test(page, PG_ANON_EXCLUSIVE))
			page_set(t->to, PG_ANON_EXCLUSIVE);
		page_remove_rmap(page); /* the pin is left */
	}
	page_put(t->e, page); /* we have another */
}

static bool thaw_entry(struct page *page, struct rmap_entry *entry, void *arg)
{
	u64 access = vma_flags(entry->vma) & VM_ACCESS;
	struct thaw *t = arg;
	u64 bits = entry->pte.v & ~(PTE_PFN_MASK | PTE_PRESENT | PTE_GLOBAL | PTE_MIGRATING);

	if (!pte_migrating(entry->pte))
		return false;
	t->found = true;
	bits |= access ? PTE_PRESENT : PTE_GLOBAL;
	if (t->to != page)
		change_sides(t, page);
	t->e->mmu->change(entry->mm, entry->va, entry->ptep, pte_make(page_pfn(t->e, t->to), bits));
	return false;
}

static void thaw(struct engine *e, struct page *page, struct page *to)
{
	struct thaw t = { .e = e, .to = to };
	u64 copied, copies;

	do {
		t.found = false;
		copied = atomic_load(&e->migration_copied);
		copies = atomic_load(&e->migration_copies);
		rmap_walk_all(e, page, thaw_entry, &t);
	} while (t.found || copies != copied || atomic_load(&e->migration_copies) != copies);
	VMF_ASSERT(to == page || page_mapcount(page) == !page_test(page, PG_FILE));
}

/* ---- one page ---- */

/* The new frame takes the page's place where it is found.  False: others are using the page. */
static bool take_place(struct engine *e, struct page *page, struct page *to)
{
	if (page_test(page, PG_FILE)) {
		if (!page_cache_replace(page, to, 1))
			return false;
		shared_copy(e->mmu->bytes(e, to), e->mmu->bytes(e, page), PAGE_SIZE);
	} else {
		if (page_test(page, PG_SWAPCACHE) ? !swap_cache_replace(e, page, to, 1)
						  : !page_refs_are(e, page, 1))
			return false;
		memcpy(e->mmu->bytes(e, to), e->mmu->bytes(e, page), PAGE_SIZE);
		to->anon_vma = page->anon_vma;
		to->index = page->index;
		if (page_test(page, PG_DIRTY))
			page_set(to, PG_DIRTY);
		page_get(to); /* the pin */
		atomic_store_explicit(&to->mapcount, 1, memory_order_release);
	}
	page_set(to, atomic_load(&page->flags) & PG_MOVES);
	atomic_store_explicit(&to->last_nid, atomic_load(&page->last_nid), memory_order_relaxed);
	lru_replace(e, page, to);
	return true;
}

/* May it be moved?  Locked. */
static int look_at(const struct page *page)
{
	if (page_test(page, PG_HWPOISON))
		return -EBUSY;
	if (page_test(page, PG_ISOLATED | PG_WRITEBACK | PG_HEAD))
		return -ENOENT;
	if (page_test(page, PG_FILE))
		return page_test(page, PG_UPTODATE) ? 0 : -ENOENT;
	return page_mapcount(page) ? 0 : -ENOENT;
}

static void finish_file(struct page *page, struct page *to, bool moved)
{
	if (moved)
		page_cache_replaced(page);
	page_unlock(to);
	page_unlock(page);
}

static void finish_anon(struct engine *e, struct page *page, struct page *to, bool moved)
{
	struct page *pinned = moved ? to : page;
	bool gone;

	if (moved) {
		/* mremap() may have set it while we were copying. */
		page_set(to, atomic_load(&page->flags) & PG_MLOCKED);
		page_remove_rmap(page);
		page_put(e, page); /* the pin; off the list it is */
	}
	gone = unpin(e, pinned);
	page_unlock(to);
	page_unlock(page);
	if (gone)
		page_unmapped(e, pinned);
}

int migrate_page(struct engine *e, struct page *page, struct page *to)
{
	bool file = page_test(page, PG_FILE), moved;
	int err = look_at(page);

	if (!err && !file && !pin(page))
		err = -ENOENT;
	if (err) {
		page_unlock(page);
		return err;
	}
	page_init_flags(to, PG_LOCKED);
	rmap_walk_all(e, page, freeze_entry, NULL);
	moved = take_place(e, page, to);
	thaw(e, page, moved ? to : page);
	if (file)
		finish_file(page, to, moved);
	else
		finish_anon(e, page, to, moved);
	return moved ? 0 : -EAGAIN;
}

/* ---- many ---- */

static int move_one(struct engine *e, struct page *page, const struct migrate_target *target,
		    enum migrate_mode mode)
{
	struct page *to = target->get(e, page, target->arg);
	int err = -EAGAIN;

	if (!to)
		return -ENOMEM;
	if (mode == MIGRATE_SYNC)
		page_lock(page);
	if (mode == MIGRATE_SYNC || page_trylock(page))
		err = migrate_page(e, page, to);
	if (err && target->put)
		target->put(e, to, target->arg);
	else
		page_put(e, to); /* whose it is now has his own reference */
	return err;
}

unsigned migrate_pages(struct engine *e, struct page **pages, unsigned n,
		       const struct migrate_target *target, enum migrate_mode mode, int *status)
{
	unsigned passes = mode == MIGRATE_SYNC ? SYNC_PASSES : ASYNC_PASSES, again = n, moved = 0;

	atomic_fetch_add_explicit(&e->migrations, 1, memory_order_relaxed);
	for (unsigned i = 0; i < n; i++)
		status[i] = -EAGAIN;
	while (again && passes--) {
		again = 0;
		for (unsigned i = 0; i < n; i++) {
			if (status[i] != -EAGAIN)
				continue;
			status[i] = move_one(e, pages[i], target, mode);
			again += status[i] == -EAGAIN;
			moved += !status[i];
		}
	}
	for (unsigned i = 0; i < n; i++)
		page_put(e, pages[i]);
	atomic_fetch_sub_explicit(&e->migrations, 1, memory_order_relaxed);
	return moved;
}
