/* SPDX-License-Identifier: MIT */
/* When reclaim runs, and for how long. */
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

/* Young pages that are spared without an old one coming before young ones are taken, too; and
 * segments tried without any good before direct reclaim gives up.  Where an allocation may exceed
 * the limit, giving up soon is right. */
#define SPARED_BEFORE_FORCE 1024
#define TRIES_BEFORE_END    32
/* Dirty pages of files that it meets before it waits for the flusher. */
#define DIRTY_BEFORE_WAIT 16

/* So many pages that could not be taken are tried again each time that so many others were. */
#define RETRY_BATCH 64
#define RETRY_EVERY 4096

static void lruvec_init(struct engine *e, struct lruvec *v)
{
	v->engine = e;
	spin_init_class(&v->lock, LOCK_LRU);
	for (unsigned i = 0; i < NR_LRU_LISTS; i++)
		list_init(&v->lists[i]);
	list_init(&v->unevictable);
	e->lru.policy->init(v);
}

void reclaim_init(struct engine *e)
{
	struct lru *lru = &e->lru;

	spin_init(&lru->aging);
	spin_init_class(&lru->writeout_lock, LOCK_LRU);
	list_init(&lru->writeout);
	lru->policy = e->config.policy ? e->config.policy : &policy_default;
	lru->watch = e->mmu->never_young ? NULL : lru->policy->watch;
	for (unsigned i = 0; i < e->numa.nr; i++)
		lruvec_init(e, &lru->nodes[i]);
	e->reclaim = reclaim_nodes;
}

static u64 nr_free(struct engine *e)
{
	return zone_free_pages(e, ZONE_USER);
}

static u64 nr_free_on(struct engine *e, unsigned nid)
{
	return atomic_load_explicit(&node_zone(e, nid)->nr_free, memory_order_relaxed);
}

/* As a share of what is taken, so that it never costs much. */
static void retry_in_time(struct lruvec *v)
{
	u64 age = atomic_load_explicit(&v->age, memory_order_relaxed);
	u64 last = atomic_load_explicit(&v->retried_at, memory_order_relaxed);

	if (age - last >= RETRY_EVERY && atomic_compare_exchange_strong(&v->retried_at, &last, age))
		lruvec_retry_unevictable(v, RETRY_BATCH);
}

/* There is no room for what needs any: does something go without? */
static bool free_without_slot(struct engine *e, u64 *freed)
{
	struct taken t;

	if (!take_without_slot(e, &t))
		return false;
	*freed += t.freed;
	return t.freed || (t.dirty && flusher_wait_for_round(e));
}

/* Nodes that have less than their share of so many frames free.  Where there is one node it is not
 * asked: the whole is. */
static nodemask_t nodes_below(struct engine *e, u64 mark)
{
	nodemask_t nodes = 0;

	for (unsigned nid = 0; e->numa.nr > 1 && nid < e->numa.nr; nid++)
		if (nr_free_on(e, nid) < node_share(e, nid, mark))
			nodes |= 1u << nid;
	return nodes;
}

/* Free about `want` frames of these nodes, or as many as there are.  *not_now is set if there may
 * be more soon. */
static u64 reclaim(struct engine *e, u64 want, nodemask_t nodes, bool *not_now)
{
	u64 freed = 0, tries = 0, spared = 0, dirty = 0, slotless = 0, most = TRIES_BEFORE_END;
	bool full, retried = false;

	if (!e->config.may_exceed)
		most += lru_evictable(e) /
			8; /* everything may be looked at twice, before it is "no" */
	for (unsigned i = 0; i < e->numa.nr; i++)
		retry_in_time(&e->lru.nodes[i]);
	freed = huge_zero_shrink(e);
	while (freed < want) {
		struct taken t;
		u64 n = writeout(e, want - freed, &full);

		freed += n;
		if (freed >= want)
			break;
		if (full) {
			if (!free_without_slot(e, &freed))
				break;
			continue;
		}
		if (n)
			continue;
		if (!take_segment(e, spared >= SPARED_BEFORE_FORCE, nodes, &t)) {
			if (retried)
				break;
			retried = true;
			lru_retry_unevictable(e, RETRY_BATCH);
			continue;
		}
		freed += t.freed;
		*not_now |= t.not_now;
		if (t.taken || t.freed)
			tries = spared = 0;
		else if (t.aged)
			spared += t.aged;
		else if (t.dirty && (++dirty % DIRTY_BEFORE_WAIT || flusher_wait_for_round(e)))
			continue;
		else if (++tries > most)
			break;
		else if (t.no_slots && !lru_drop_kept(e) && !free_without_slot(e, &freed) &&
			 ++slotless > TRIES_BEFORE_END)
			break; /* (another node's next may have been given up: lazyfree.c) */
	}
	if (freed || *not_now)
		stat_add(&e->lru.hopeful, 1);
	return freed;
}

/*
 * Where an allocation may exceed the limit, reclaim that freed nothing (all is pinned, locked or in
 * use) is not tried again at every fault: after n failures in a row, n calls are passed over.
 */
#define MOST_PASSED_OVER 256

static bool pass_over(struct engine *e)
{
	struct lru *lru = &e->lru;
	u32 pass = atomic_load_explicit(&lru->pass, memory_order_relaxed);

	if (!e->config.may_exceed || !pass)
		return false;
	/* Two threads may count one call; none may count below zero. */
	atomic_store_explicit(&lru->pass, pass - 1, memory_order_relaxed);
	return true;
}

static void note_outcome(struct engine *e, u64 freed)
{
	struct lru *lru = &e->lru;
	u32 n = freed ? 0 : atomic_load_explicit(&lru->in_vain, memory_order_relaxed) + 1;

	atomic_store_explicit(&lru->in_vain, n, memory_order_relaxed);
	atomic_store_explicit(&lru->pass, n > 2 ? min_of(n, (u32)MOST_PASSED_OVER) : 0,
			      memory_order_relaxed);
}

u64 reclaim_direct(struct engine *e, u64 want)
{
	return reclaim_nodes(e, want, NODE_MASK_ALL);
}

u64 reclaim_nodes(struct engine *e, u64 want, nodemask_t nodes)
{
	bool not_now = false;
	u64 start, freed;

	if (pass_over(e))
		return 0;
	start = machine_now_ns();
	freed = reclaim(e, want, nodes, &not_now);
	if (freed || !not_now)
		note_outcome(e, freed);
	if (freed)
		kswapd_try_again(e);
	stat_add(&e->stats->direct_reclaim_ns, machine_now_ns() - start);
	stat_add(&e->stats->direct_freed, freed);
	return freed;
}

u64 reclaim_write_out(struct engine *e, u64 pages)
{
	bool full;

	return nr_writeout(e) ? writeout(e, pages, &full) : 0;
}

bool reclaim_step(struct engine *e, u64 pages)
{
	const struct watermarks *marks = &e->config.marks;
	bool full = false, progress = false;
	nodemask_t below = nodes_below(e, marks->low);
	u64 free = nr_free(e);

	if (free >= marks->high && !below)
		return false;
	if (nr_writeout(e)) {
		progress = writeout(e, pages, &full) > 0;
		free = nr_free(e);
	}
	if (!full && (below || free + nr_writeout(e) < marks->low)) {
		struct taken t;

		if (take_segment(e, false, below ? below : NODE_MASK_ALL, &t))
			progress |= t.taken || t.freed || t.aged;
	}
	return progress && (below || (free < marks->high && (free < marks->low || nr_writeout(e))));
}

u64 reclaim_balance_node(struct engine *e, unsigned nid)
{
	u64 freed = 0, high = node_share(e, nid, e->config.marks.high), free;

	while ((free = nr_free_on(e, nid)) < high) {
		bool not_now = false;
		u64 n = reclaim(e, min_of(high - free, (u64)MMU_BATCH), 1u << nid, &not_now);

		if (!n)
			break;
		freed += n;
	}
	return freed;
}

u64 reclaim_balance(struct engine *e)
{
	u64 freed = 0;

	for (unsigned nid = 0; nid < e->numa.nr; nid++)
		freed += reclaim_balance_node(e, nid);
	return freed;
}

/* As pte_next_table(), but the huge zero page is passed over: splitting it would free nothing. */
static bool next_table(struct mm *mm, u64 *va, u64 end)
{
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;

	while ((ptep = pmd_next(mm, va, end, &ptl, &huge)) && huge) {
		if (pte_special(pte_read(ptep)))
			*va = (*va & PMD_MASK) + PMD_SIZE;
		else
			split_huge_pmd(mm, *va);
	}
	return ptep;
}

u64 reclaim_range(struct mm *mm, u64 start, u64 end)
{
	struct engine *e = mm->engine;
	u64 freed = 0, taken = 0;
	struct vma *vma;

	start &= PAGE_MASK;
	end = min_of(PAGE_ALIGN(end), mm->high);
	down_read(&mm->mmap_lock);
	for (vma = find_vma(mm, start); vma && vma->start < end; vma = vma_next(vma)) {
		u64 va = max_of(start, vma->start), stop = min_of(end, vma->end);

		if ((vma->flags & (VM_LOCKED | VM_HUGETLB)) || (!vma_anon(vma) && !vma->file))
			continue;
		while (next_table(mm, &va, stop)) {
			u64 next = min_of((va | (MMU_BATCH * PAGE_SIZE - 1)) + 1, stop);
			struct taken t;

			take_range(e, vma, va, next, &t);
			freed += t.freed;
			taken += t.taken;
			if (vma->file)
				freed += take_file_range(e, vma, va, next);
			va = next;
		}
	}
	up_read(&mm->mmap_lock);

	/* Others may have pages in front of ours: write out as many as are there. */
	while (taken) {
		bool full;
		u64 n = writeout(e, min_of(max_of(taken, nr_writeout(e)), (u64)MMU_BATCH), &full);

		if (!n)
			break;
		freed += n;
		if (!nr_writeout(e))
			break;
	}
	return freed;
}
