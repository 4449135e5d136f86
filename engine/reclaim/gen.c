/* SPDX-License-Identifier: MIT */
/*
 * Generations by birth, as Linux's multi-gen LRU has them (without its tiers).
 *
 * Pages that come belong to a generation, numbered on; the oldest there is gives up its pages
 * first. When so many have been born as an eighth of memory holds, or the generations come to an
 * end, all page tables are walked: what was used since the last walk moves to the youngest
 * generation, and a new one begins after it.  Each node has generations of its own, and a walk is
 * for one node.  So a page is as old as the last walk that found it
 * used, and a walk reads thousands of accessed bits in a row, where the other policies go back from
 * each page to its entry. A page that is found used only when it is next to go becomes young, too.
 *
 *     seq    min_seq ............. max_seq - 1    max_seq
 *            evicted from its tail  new pages      used since the walk before, missed soon
 *
 * There are MIN_NR_GENS at least, so that new pages are watched from one walk to the next, and as
 * many as lists at most: the oldest two become one when a new one has to begin.
 *
 * Where the machine shows no use there is nothing to walk for, and generations are of births alone.
 */
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

#define MIN_NR_GENS 2

/* Births to a generation: this part of all frames. */
#define BIRTHS 8

/* Pages that are moved under one hold of the lock. */
#define BATCH 64

static u64 seq_read(const _Atomic u64 *seq)
{
	return atomic_load_explicit(seq, memory_order_relaxed);
}

static unsigned list_of(u64 seq)
{
	return seq % MAX_NR_GENS;
}

/* the lock held, or nobody else is there. */
static void set_seqs(struct lruvec *v, u64 min_seq, u64 max_seq)
{
	u32 joinable = 0;

	atomic_store_explicit(&v->min_seq, min_seq, memory_order_relaxed);
	atomic_store_explicit(&v->max_seq, max_seq, memory_order_relaxed);
	for (u64 seq = min_seq; seq == min_seq || seq + MIN_NR_GENS <= max_seq; seq++)
		joinable |= 1u << list_of(seq);
	lru_set_joinable(v, joinable);
}

static void gen_init(struct lruvec *v)
{
	set_seqs(v, 0, MIN_NR_GENS - 1);
}

static unsigned gen_place(struct lruvec *v, struct page *page, enum page_arrival why)
{
	u64 min_seq = seq_read(&v->min_seq), max_seq = seq_read(&v->max_seq);

	(void)page;
	switch (why) {
	case ARRIVED_NEW:
		stat_add(&v->born, 1);
		return list_of(max_seq - 1);
	case ARRIVED_HOT:
		stat_add(&v->born, 1);
		return list_of(max_seq);
	case ARRIVED_IN_USE:
		return list_of(max_seq);
	case ARRIVED_SPARED:
		return list_of(min_seq + 1);
	case ARRIVED_NEXT:
		break;
	}
	return list_of(min_seq);
}

static void gen_young(struct lruvec *v, struct page *page)
{
	unsigned youngest = list_of(seq_read(&v->max_seq));

	if (page_list(page) != youngest)
		lru_activate(v, page, youngest);
	else
		lru_move(v, page, youngest);
}

/* The first page behind `after` of its list, and so on with the next younger list. */
static struct page *gen_next(struct lruvec *v, struct page *after)
{
	u64 min_seq = seq_read(&v->min_seq), max_seq = seq_read(&v->max_seq), seq = min_seq;
	struct page *page;

	if (after)
		while (list_of(seq) != page_list(after))
			seq++;
	else
		while (!lru_length(v, list_of(min_seq)) && min_seq + MIN_NR_GENS <= max_seq)
			min_seq++;
	if (!after && min_seq != seq)
		set_seqs(v, seq = min_seq, max_seq);
	while (!(page = lru_from_tail(v, list_of(seq), after)) && seq < max_seq) {
		after = NULL;
		seq++;
	}
	return page;
}

/* ---- aging ---- */

/* The page that an entry maps, if it is the node's. */
static struct page *page_of(const struct lruvec *v, pte_t pte)
{
	struct page *page;

	if (!pte_mapped(pte) || pte_special(pte))
		return NULL;
	page = pfn_page(v->engine, pte_pfn(pte));
	return page_lruvec(v->engine, page) == v ? page : NULL;
}

static void found_young(struct lruvec *v, struct page **pages, unsigned n)
{
	spin_lock(&v->lock);
	for (unsigned i = 0; i < n; i++)
		lru_found_young_locked(v, pages[i]);
	spin_unlock(&v->lock);
}

/* What is used in [va, the end of its table) is young.  The table's lock is held. */
static void walk_table(struct lruvec *v, struct mm *mm, u64 va, u64 end, pte_t *ptep)
{
	const struct mmu_ops *mmu = v->engine->mmu;
	struct page *young[BATCH], *page;
	unsigned n = 0;

	for (; va < end; va += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);

		if (pte_young(pte) && (page = page_of(v, pte)) &&
		    mmu->test_and_clear_young(mm, va, ptep))
			young[n++] = page;
		if (n < BATCH && (va + PAGE_SIZE < end || !n))
			continue;
		found_young(v, young, n);
		n = 0;
	}
}

static void look_at_huge(struct lruvec *v, struct mm *mm, u64 va, pte_t *pmdp, spinlock_t *ptl)
{
	struct page *page;

	if (!pmd_trylock_huge(pmdp, ptl))
		return;
	page = page_of(v, pte_read(pmdp));
	if (page && v->engine->mmu->test_and_clear_young_huge(mm, va, pmdp))
		found_young(v, &page, 1);
	spin_unlock(ptl);
}

/* mmap_lock held for reading: tables stay. */
static void walk_mm(struct lruvec *v, struct mm *mm)
{
	u64 va = mm->low, end;
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;

	while ((ptep = pmd_next(mm, &va, mm->high, &ptl, &huge))) {
		end = min_of((va & PMD_MASK) + PMD_SIZE, mm->high);
		if (unlikely(huge)) {
			look_at_huge(v, mm, va & PMD_MASK, ptep, ptl);
			va = end;
			continue;
		}
		spin_lock(ptl);
		walk_table(v, mm, va, end, ptep);
		spin_unlock(ptl);
		va = end;
	}
}

/* A space that this walk has not seen, its mmap_lock held for reading.  One whose lock is wanted
 * for writing is passed over: who is waiting may hold what we would wait for. */
static struct mm *next_mm(struct engine *e, u64 walk)
{
	struct mm *mm, *found = NULL;

	spin_lock(&e->mms_lock);
	list_for_each_entry (mm, &e->mms, link) {
		if (mm->walked == walk)
			continue;
		mm->walked = walk;
		if (down_read_trylock(&mm->mmap_lock)) {
			found = mm;
			break;
		}
	}
	spin_unlock(&e->mms_lock);
	return found;
}

/* The oldest two become one. */
static void merge_oldest(struct lruvec *v)
{
	u64 min_seq;
	bool all;

	do {
		spin_lock(&v->lock);
		min_seq = seq_read(&v->min_seq);
		for (unsigned i = 0; i < BATCH && lru_length(v, list_of(min_seq)); i++)
			lru_move_tail(v, lru_youngest(v, list_of(min_seq)), list_of(min_seq + 1));
		all = !lru_length(v, list_of(min_seq));
		if (all)
			set_seqs(v, min_seq + 1, seq_read(&v->max_seq));
		spin_unlock(&v->lock);
	} while (!all);
}

static void new_generation(struct lruvec *v)
{
	struct engine *e = v->engine;
	struct mm *mm;

	e->lru.walk++;
	while (!e->mmu->never_young && (mm = next_mm(e, e->lru.walk))) {
		walk_mm(v, mm);
		/* The moment that nobody has it the space may go: see mm_destroy(). */
		spin_lock(&e->mms_lock);
		up_read(&mm->mmap_lock);
		spin_unlock(&e->mms_lock);
	}
	if (seq_read(&v->max_seq) - seq_read(&v->min_seq) + 1 == MAX_NR_GENS)
		merge_oldest(v);
	spin_lock(&v->lock);
	set_seqs(v, seq_read(&v->min_seq), seq_read(&v->max_seq) + 1);
	spin_unlock(&v->lock);
	atomic_store_explicit(&v->born, 0, memory_order_relaxed);
}

static bool generation_is_due(const struct lruvec *v)
{
	u64 frames = node_zone(v->engine, lruvec_nid(v))->nr;

	return atomic_load_explicit(&v->born, memory_order_relaxed) > frames / BIRTHS;
}

static void gen_watch(struct lruvec *v)
{
	spinlock_t *aging = &v->engine->lru.aging;

	if (!generation_is_due(v) || !spin_trylock(aging))
		return;
	if (generation_is_due(v))
		new_generation(v);
	spin_unlock(aging);
}

/* Also if all that is left are the youngest, whom nobody has watched. */
static void gen_age(struct lruvec *v)
{
	spinlock_t *aging = &v->engine->lru.aging;
	u64 evictable = lruvec_evictable(v);

	for (u64 seq = seq_read(&v->max_seq), n = 0; n < MIN_NR_GENS - 1; n++, seq--)
		evictable -= min_of(evictable, lru_length(v, list_of(seq)));
	if ((!evictable || generation_is_due(v)) && spin_trylock(aging)) {
		new_generation(v);
		spin_unlock(aging);
	}
}

static u64 gen_shadow(struct lruvec *v)
{
	return seq_read(&v->min_seq);
}

/* Within the time that the generations in memory have lived. */
static bool gen_refault_is_hot(struct lruvec *v, u64 shadow)
{
	return seq_read(&v->max_seq) - shadow < MAX_NR_GENS;
}

const struct reclaim_policy policy_gen = {
	.name = "gen",
	.spares_young = true,
	.init = gen_init,
	.place = gen_place,
	.young = gen_young,
	.accessed = gen_young,
	.next = gen_next,
	.age = gen_age,
	.watch = gen_watch,
	.shadow = gen_shadow,
	.refault_is_hot = gen_refault_is_hot,
};
