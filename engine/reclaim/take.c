/* SPDX-License-Identifier: MIT */
/*
 * The first step of reclaim: taking pages away, a segment at a time.
 *
 *   1. a victim that the policy names; its page lock is tried, not waited for;
 *   2. from it to its entry (anon_vma lock for reading), and the page-table lock;
 *   3. its neighbours in the same aligned group of entries that may go as well (lru->joinable),
 *      are unlocked and not young join it; the young ones get their second chance at the same
 * price;
 *   4. all leave the LRU, get a slot each and enter the swap cache;
 *   5. one call of the machine takes them; what it took goes to the write-out list, the rest back.
 *
 * From 2 to 5 the page-table lock is held: nobody else sees a page that is mapped and off the
 * lists, nor an entry that names a slot before the swap cache knows its page.
 *
 * A page that several entries map is taken alone, from one entry after the other, each under its
 * page-table lock (take_shared).  With its page lock held no entry of it comes that is not copied
 * from one that it has; so the one whose entry is the last takes it off the list.
 */
#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

#define VICTIM_TRIES 16

/* Pages looked at for one that needs no slot, when there are none. */
#define FILE_LOOK 1024

struct group {
	struct vma *vma;
	struct mm *mm;	     /* its */
	struct page *victim; /* locked by the caller, or NULL */
	unsigned at;	     /* where in the group the victim is */
	nodemask_t nodes;    /* from which its neighbours may join it */
	struct page *pages[MMU_BATCH];
	struct mmu_take takes[MMU_BATCH];
	unsigned n;
	struct page *young[MMU_BATCH];
	unsigned nr_young;
};

/* May a neighbour of the victim go with it? */
static bool may_join(struct engine *e, const struct group *g, const struct page *page)
{
	u32 lists = atomic_load_explicit(&page_lruvec(e, page)->joinable, memory_order_relaxed);

	return node_isset(page_nid(page), g->nodes) && lists >> page_list(page) & 1;
}

/* Who may go?  Page-table lock held. */
static void collect(struct engine *e, struct group *g, u64 va, pte_t *ptep, unsigned n, bool all,
		    bool force)
{
	u32 not_these = PG_MLOCKED | (all ? PG_FILE : PG_FILE | PG_UNEVICTABLE);

	for (unsigned i = 0; i < n; i++, va += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);
		struct page *page;

		if (!pte_mapped(pte) || pte_special(pte))
			continue;
		page = pfn_page(e, pte_pfn(pte));
		if (page != g->victim &&
		    (page_test(page, not_these) || !(all || may_join(e, g, page))))
			continue;
		if (unlikely(page_mapcount(page) > 1))
			continue;
		if (e->mmu->test_and_clear_young(g->mm, va, ptep) && !all && !force) {
			g->young[g->nr_young++] = page;
			continue;
		}
		if (page != g->victim && !page_trylock(page))
			continue;
		/* Another may have found it by its slot before it was locked; not any more. */
		if (unlikely(page_mapcount(page) > 1)) {
			if (page != g->victim)
				page_unlock(page);
			continue;
		}
		g->takes[g->n] = (struct mmu_take){ .va = va, .ptep = ptep, .page = page };
		g->pages[g->n++] = page;
	}
}

/*
 * Where each run of neighbours has its price (the machine's flush of other CPUs), a group of many
 * would be a long time to wait for: of [*from, *to), the runs from the victim's on, and before it,
 * up to config.runs.
 */
static void narrow(struct engine *e, const pte_t *ptep, unsigned victim, unsigned *from,
		   unsigned *to)
{
	unsigned most = e->config.runs, runs = 0, i;
	bool in_run = false, mapped;

	for (i = victim; i < *to; i++) {
		mapped = pte_mapped(pte_read(ptep + i));
		if (mapped && !in_run && runs++ == most)
			break;
		in_run = mapped;
	}
	*to = i;
	if (runs > most)
		runs = most;
	in_run = true; /* the victim's */
	for (i = victim; i > *from; i--) {
		mapped = pte_mapped(pte_read(ptep + i - 1));
		if (mapped && !in_run && runs++ == most)
			break;
		in_run = mapped;
	}
	*from = i;
}

static void isolate(struct engine *e, struct group *g)
{
	struct lruvec *v = NULL;

	for (unsigned i = 0; i < g->n; i++) {
		v = lruvec_relock(e, g->pages[i], v);
		lru_isolate(v, g->pages[i]);
	}
	for (unsigned i = 0; i < g->nr_young; i++) {
		v = lruvec_relock(e, g->young[i], v);
		lru_found_young_locked(v, g->young[i]);
	}
	lruvec_unlock(v);
}

/* Those of the group that stay go back to their lists.  `n` takes were tried; the pages after them
 * got no slot.  Returns how many will never go. */
static unsigned put_back(struct engine *e, struct group *g, unsigned n, struct taken *t)
{
	unsigned untakeable = 0;
	struct lruvec *v = NULL;

	for (unsigned i = 0; i < g->n; i++) {
		struct page *page = g->pages[i];
		int result = i < n ? g->takes[i].result : -EAGAIN;

		if (!result || result == -ENOENT)
			continue;
		if (result == -EAGAIN) {
			t->not_now |= i < n;
		} else {
			untakeable++;
			page_set(page, PG_UNEVICTABLE);
		}
		v = lruvec_relock(e, page, v);
		lru_putback(v, page);
	}
	lruvec_unlock(v);
	return untakeable;
}

/* Sort out what the machine did with the first n. */
static void settle(struct engine *e, struct group *g, unsigned n, struct taken *t,
		   struct page **gone)
{
	struct page *leaving[MMU_BATCH];
	unsigned untakeable;

	for (unsigned i = 0; i < n; i++) {
		struct page *page = g->pages[i];
		int result = g->takes[i].result;

		if (result && result != -ENOENT) {
			swap_cancel_out(e, page);
			continue;
		}
		page_remove_rmap(page); /* the only one */
		if (result) {
			swap_cancel_out(e, page);
			page_clear(page, PG_ISOLATED);
			gone[t->freed++] = page;
			continue;
		}
		if (g->takes[i].dirty)
			page_set(page, PG_DIRTY);
		leaving[t->taken++] = page;
	}
	/* The mappings' references are the list's now. */
	writeout_add(e, leaving, t->taken);
	untakeable = t->taken + t->freed < g->n ? put_back(e, g, n, t) : 0;

	if (t->taken || t->freed)
		atomic_fetch_sub_explicit(&g->mm->rss, (s64)(t->taken + t->freed),
					  memory_order_relaxed);
	if (t->taken)
		atomic_fetch_add_explicit(&g->mm->swapped, (s64)t->taken, memory_order_relaxed);
	if (untakeable)
		stat_add(&e->stats->untakeable, untakeable);
}

/* What takes the place of a mapped entry.  PTL held. */
static pte_t swap_pte(const struct engine *e, swp_entry_t slot, const pte_t *ptep)
{
	pte_t pte = swp_to_pte(slot), was = pte_read(ptep);

	if (unlikely(!page_test(pfn_page(e, pte_pfn(was)), PG_ANON_EXCLUSIVE)))
		pte = pte_with(pte, PTE_SWP_COMMON);
	return unlikely(pte_uffd_wp(was)) ? pte_mkuffd_wp(pte) : pte;
}

/* Take what can be taken of `n` entries from ptep on.  False: nothing, for the VMA is locked.  No
 * page-table lock held, but something that keeps the VMA. */
static bool take_group(struct engine *e, struct group *g, u64 va, pte_t *ptep, spinlock_t *ptl,
		       unsigned n, bool all, bool force, struct taken *t)
{
	struct page *gone[MMU_BATCH];
	swp_entry_t left[MMU_BATCH];
	unsigned slots = 0, from = 0;

	*t = (struct taken){ 0 };
	spin_lock(ptl);
	if (unlikely(vma_is_locked(g->vma))) {
		spin_unlock(ptl);
		return false;
	}
	if (g->victim && e->config.runs)
		narrow(e, ptep, g->at, &from, &n);
	collect(e, g, va + from * PAGE_SIZE, ptep + from, n - from, all, force);
	t->looked_at = g->n + g->nr_young;
	t->aged = g->nr_young;
	if (t->looked_at)
		isolate(e, g);
	if (g->n) {
		slots = swap_begin_out(e, g->pages, g->n, left);
		t->no_slots = slots < g->n;
		for (unsigned i = 0; i < slots; i++)
			g->takes[i].left = swap_pte(e, left[i], g->takes[i].ptep);
		if (slots) {
			e->mmu->take(g->mm, g->takes, slots);
			stat_add(&e->stats->segments, 1);
		}
		settle(e, g, slots, t, gone);
	}
	for (unsigned i = 0; i < t->freed; i++)
		if (page_test(gone[i], PG_SWAPCACHE))
			swap_cache_del(e, gone[i]);
	/* Before the page-table lock goes: a page that stayed is kept by its mapping alone, and
	 * that may end as soon as somebody else gets the lock. */
	for (unsigned i = 0; i < g->n; i++)
		if (g->pages[i] != g->victim)
			page_unlock(g->pages[i]);
	spin_unlock(ptl);

	for (unsigned i = 0; i < t->freed; i++)
		page_put(e, gone[i]);
	return true;
}

/* ---- a page with several entries ---- */

enum whose { YOUNG_NOWHERE, YOUNG_SOMEWHERE, LOCKED_SOMEWHERE };

static bool test_and_clear_young(struct engine *e, struct rmap_walk *w)
{
	return w->huge ? e->mmu->test_and_clear_young_huge(w->vma->mm, w->va, w->ptep)
		       : e->mmu->test_and_clear_young(w->vma->mm, w->va, w->ptep);
}

/* Look at all its entries, and make them old. */
static enum whose look_at_all(struct engine *e, struct rmap_walk *w)
{
	enum whose found = YOUNG_NOWHERE;

	while (rmap_next(w)) {
		if (vma_is_locked(w->vma))
			found = LOCKED_SOMEWHERE;
		spin_lock(w->ptl);
		if (rmap_is_at(w) && test_and_clear_young(e, w) && found == YOUNG_NOWHERE)
			found = YOUNG_SOMEWHERE;
		spin_unlock(w->ptl);
	}
	return found;
}

bool page_referenced(struct engine *e, struct page *page)
{
	struct rmap_walk w;
	enum whose found;

	if (page_test(page, PG_FILE))
		return file_page_referenced(page);
	if (!rmap_begin(e, page, &w))
		return false;
	found = look_at_all(e, &w);
	rmap_end(&w);
	return found != YOUNG_NOWHERE;
}

/* Take the page from one entry.  0, or why it stays: -ENOSPC (no slot), -EBUSY (locked), or as the
 * machine says.
 * Page-table lock held. */
static int take_entry(struct engine *e, struct rmap_walk *w, struct taken *t)
{
	struct mm *mm = w->vma->mm;
	struct page *page = w->page;
	struct mmu_take take = { .va = w->va, .ptep = w->ptep, .page = page };
	swp_entry_t left;

	if (vma_is_locked(w->vma)) /* by now */
		return -EBUSY;
	if (!swap_begin_out(e, &page, 1, &left))
		return -ENOSPC;
	take.left = swap_pte(e, left, w->ptep);
	e->mmu->take(mm, &take, 1);
	stat_add(&e->stats->segments, 1);
	if (take.result) {
		swap_cancel_out(e, page);
		return take.result;
	}
	atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&mm->swapped, 1, memory_order_relaxed);
	if (take.dirty)
		page_set(page, PG_DIRTY);
	if (page_remove_rmap(page)) {
		lru_write_out(e, page);
		t->taken = 1;
	} else {
		page_put(e, page);
	}
	return 0;
}

/* The family's lock is held for reading; the page is locked. */
static void take_shared(struct engine *e, struct rmap_walk *w, bool force, struct taken *t)
{
	enum whose young = look_at_all(e, w);
	int err = 0;

	t->looked_at = 1;
	if (young == LOCKED_SOMEWHERE) {
		lru_make_unevictable(e, w->page);
		return;
	}
	if (young == YOUNG_SOMEWHERE && !force) {
		t->aged = 1;
		lru_found_young(e, w->page);
		return;
	}
	while (!err && rmap_next(w)) {
		spin_lock(w->ptl);
		if (rmap_is_at(w))
			err = take_entry(e, w, t);
		spin_unlock(w->ptl);
	}
	t->no_slots = err == -ENOSPC;
	t->not_now = err == -EAGAIN;
	if (err && !t->no_slots && !t->not_now) {
		stat_add(&e->stats->untakeable, 1);
		lru_make_unevictable(e, w->page);
	} else if (!t->taken) {
		lru_rotate(e, w->page, ARRIVED_SPARED);
	}
}

/* ---- a huge page ---- */

/* It is not taken as it is: its single pages take its place on the list.  Page lock and a reference
 * held. */
static void take_huge(struct engine *e, struct page *head, bool force, struct taken *t)
{
	struct rmap_walk w;
	enum whose young;

	if (!rmap_begin(e, head, &w)) {
		lru_rotate(e, head, ARRIVED_SPARED);
		return;
	}
	young = look_at_all(e, &w);
	rmap_end(&w);
	t->looked_at = 1;
	if (young == LOCKED_SOMEWHERE) {
		lru_make_unevictable(e, head);
	} else if (young == YOUNG_SOMEWHERE && !force) {
		t->aged = 1;
		lru_found_young(e, head);
	} else if (split_huge_page(e, head)) {
		t->not_now = true;
		lru_rotate(e, head, ARRIVED_SPARED);
	}
}

/* ---- choosing ---- */

static s64 turn_of(const struct lruvec *v)
{
	return atomic_load_explicit(&v->turn, memory_order_relaxed);
}

static void add_turn(struct lruvec *v, s64 n)
{
	atomic_fetch_add_explicit(&v->turn, n, memory_order_relaxed);
}

/* Which of these nodes gives the next page: they take turns in the proportion of what they have.
 * NULL: none has any. */
static struct lruvec *node_in_turn(struct engine *e, nodemask_t nodes)
{
	struct lruvec *most = NULL;
	u64 all = 0;

	for (unsigned i = 0; i < e->numa.nr; i++) {
		struct lruvec *v = &e->lru.nodes[i];
		u64 n = node_isset(i, nodes) ? lruvec_evictable(v) : 0;

		if (!n)
			continue;
		all += n;
		add_turn(v, (s64)n);
		if (!most || turn_of(v) > turn_of(most))
			most = v;
	}
	if (most)
		add_turn(most, -(s64)all);
	return most;
}

/* The node's next page, locked and with a reference, still on its list. */
static struct page *pick_victim(struct lruvec *v)
{
	struct engine *e = v->engine;
	const struct reclaim_policy *policy = e->lru.policy;
	struct page *page = NULL;

	if (policy->age)
		policy->age(v);
	spin_lock(&v->lock);
	for (unsigned i = 0; i < VICTIM_TRIES; i++) {
		page = policy->next(v, NULL);
		if (!page)
			break;
		if (page_trylock(page)) {
			page_get(page);
			break;
		}
		lru_rotate_locked(v, page, ARRIVED_SPARED);
		page = NULL;
	}
	/* All are locked, or are those that the policy cannot move on for they are. */
	if (!page && lruvec_evictable(v))
		stat_add(&e->lru.hopeful, 1);
	spin_unlock(&v->lock);
	return page;
}

/* From these nodes. */
static struct page *pick_victim_on(struct engine *e, nodemask_t nodes)
{
	struct page *page = NULL;
	struct lruvec *v;

	while (!page && (v = node_in_turn(e, nodes))) {
		page = pick_victim(v);
		nodes &= ~(1u << lruvec_nid(v));
	}
	return page;
}

/* The first page of the node that can go without a slot, locked and with a reference. */
static struct page *pick_file_victim(struct lruvec *v)
{
	const struct reclaim_policy *policy = v->engine->lru.policy;
	struct page *page, *found = NULL;
	unsigned look = FILE_LOOK;

	if (policy->age)
		policy->age(v);
	spin_lock(&v->lock);
	for (page = policy->next(v, NULL); page && look--; page = policy->next(v, page)) {
		if (!page_test(page, PG_FILE) || !page_trylock(page))
			continue;
		if (!page->mapping->ops->swap_page) {
			page_get(page);
			found = page;
			break;
		}
		page_unlock(page);
	}
	spin_unlock(&v->lock);
	return found;
}

bool take_without_slot(struct engine *e, struct taken *t)
{
	struct page *victim = NULL;

	*t = (struct taken){ 0 };
	if (!atomic_load_explicit(&e->nr_file_pages, memory_order_relaxed))
		return false;
	for (unsigned i = 0; !victim && i < e->numa.nr; i++)
		victim = pick_file_victim(&e->lru.nodes[i]);
	if (!victim)
		return false;
	take_file_page(e, victim, true, t);
	page_unlock(victim);
	page_put(e, victim);
	return true;
}

bool take_segment(struct engine *e, bool force, nodemask_t nodes, struct taken *t)
{
	struct page *victim = pick_victim_on(e, nodes);
	struct rmap_walk w;
	struct group g;
	struct vma *vma;
	spinlock_t *ptl;
	u64 va, start, end;
	pte_t *ptep;

	*t = (struct taken){ 0 };
	if (!victim)
		return false;
	force |= !e->lru.policy->spares_young;
	if (page_test(victim, PG_FILE)) {
		take_file_page(e, victim, force, t);
		goto out;
	}
	if (unlikely(page_test(victim, PG_MLOCKED))) {
		lru_make_unevictable(e, victim);
		t->looked_at = 1;
		goto out;
	}
	if (unlikely(page_test(victim, PG_HEAD))) {
		take_huge(e, victim, force, t);
		goto out;
	}
	if (!rmap_begin(e, victim, &w)) {
		/* It is being unmapped or moved just now. */
		t->not_now = true;
		lru_rotate(e, victim, ARRIVED_SPARED);
		goto out;
	}
	if (unlikely(page_mapcount(victim) > 1)) {
		take_shared(e, &w, force, t);
		goto out_rmap;
	}
	if (!rmap_next(&w)) {
		t->not_now = true;
		lru_rotate(e, victim, ARRIVED_SPARED);
		goto out_rmap;
	}
	vma = w.vma;
	va = w.va;
	if (vma_is_locked(vma)) { /* so far; see take_group() */
		lru_make_unevictable(e, victim);
		t->looked_at = 1;
		goto out_rmap;
	}
	start = va >> PAGE_SHIFT;
	start = (start - start % e->config.segment) << PAGE_SHIFT;
	start = max_of(max_of(start, va & PMD_MASK), vma->start);
	end = min_of(start + e->config.segment * PAGE_SIZE, (va & PMD_MASK) + PMD_SIZE);
	end = min_of(end, vma->end);
	if (unlikely(page_is_lazy(victim, vma))) {
		t->looked_at = 1;
		t->freed = discard_lazy_range(e, vma, start, end, victim, NULL);
		/* It was written to, or could not be had just now. */
		lru_rotate(e, victim, ARRIVED_SPARED);
		goto out_rmap;
	}
	ptep = pte_find(vma->mm, start, &ptl);
	g.vma = vma;
	g.mm = vma->mm;
	g.victim = victim;
	g.nodes = nodes;
	g.at = (va - start) >> PAGE_SHIFT;
	g.n = g.nr_young = 0;
	if (!take_group(e, &g, start, ptep, ptl, (end - start) >> PAGE_SHIFT, false, force, t)) {
		lru_make_unevictable(e, victim);
		t->looked_at = 1;
	}
	if (!t->looked_at)
		lru_rotate(e, victim, ARRIVED_SPARED);
out_rmap:
	rmap_end(&w);
out:
	page_unlock(victim);
	page_put(e, victim);
	return true;
}

static void add_taken(struct taken *to, const struct taken *from)
{
	to->taken += from->taken;
	to->looked_at += from->looked_at;
	to->aged += from->aged;
	to->freed += from->freed;
	to->no_slots |= from->no_slots;
	to->dirty |= from->dirty;
	to->not_now |= from->not_now;
}

void take_range(struct engine *e, struct vma *vma, u64 start, u64 end, struct taken *t)
{
	unsigned n = (unsigned)((end - start) >> PAGE_SHIFT), to;
	struct group g;
	spinlock_t *ptl;
	pte_t *ptep = pte_find(vma->mm, start, &ptl);
	u64 kept = 0;

	*t = (struct taken){ 0 };
	if (!ptep)
		return;
	t->freed = discard_lazy_range(e, vma, start, end, NULL, &kept);
	if (vma->flags & VM_DROPPABLE)
		return;
	g.vma = vma;
	g.mm = vma->mm;
	g.victim = NULL;
	g.nodes = NODE_MASK_ALL;
	/* What was given up and written to again is spared once, as Linux does it: it has just been
	 * found to be in use. */
	for (unsigned from = 0; from < n; from = to + 1) {
		struct taken part;

		for (to = from; to < n && !(kept >> to & 1); to++)
			;
		if (to == from)
			continue;
		g.n = g.nr_young = 0;
		take_group(e, &g, start + from * PAGE_SIZE, ptep + from, ptl, to - from, true, true,
			   &part);
		add_taken(t, &part);
	}
}
