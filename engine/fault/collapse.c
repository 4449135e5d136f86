/* SPDX-License-Identifier: MIT */
/*
 * Collapsing: 512 single pages become one huge page, at the price of a copy.
 *
 *   1  look (mmap_lock for reading): is there a table, are its entries such as can be collapsed?
 *   2  a huge page is allocated, on the node that has most of the pages, whatever the area's
 *      policy is (as in Linux), and what is swapped out comes back;
 *   3  mmap_lock for writing, and the VMA drained: no fault; the family's lock for writing: nobody
 *      comes by the reverse map.  Is all as it was?
 *   4  the table is unlinked and flushed: no CPU can read or write there;
 *   5  each page is locked, if that can be had at once, and must have no user but its entries;
 *   6  the bytes are copied, the huge entry is set, and the table, empty, becomes the spare one;
 *   7  the pages lose these entries; those that have no other go.
 *
 * What fails before 6 puts the table back, and nothing has happened.  A page that others have, too
 * (after a fork), is read-only for all: it is copied like the others, and stays theirs.
 */
#include "engine/fault/collapse.h"

#include "engine/fault/internal.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

struct collapse {
	struct mm *mm;
	u64 va;		 /* of the huge page to be */
	bool background; /* the limits bind */
	struct page *huge;
	struct vma *vma;
	pte_t *pmdp, *table; /* table: the entries that are to go */
	spinlock_t *pmd_ptl, *ptl;
	u64 mapped; /* pages that were mapped there */
};

static bool is_limited(const struct collapse *c, unsigned n, unsigned most)
{
	return c->background && n > most;
}

/* ---- the area ---- */

/* May it have a huge page at va?  MADV_COLLAPSE asks for no setting, but heeds a "no". */
static enum scan_result check_area(const struct collapse *c, const struct vma *vma)
{
	const struct engine *e = c->mm->engine;

	if (!vma || vma->start > c->va)
		return SCAN_VMA_NULL;
	if (!thp_fits(vma, c->va))
		return SCAN_ADDRESS_RANGE;
	if (vma->file || (vma->flags & (VM_SHARED | VM_NOHUGEPAGE)) || !has_huge_pages(e))
		return SCAN_VMA_CHECK;
	if (c->background && !thp_allowed(vma))
		return SCAN_VMA_CHECK;
	return vma_anon(vma) ? SCAN_SUCCEED : SCAN_VMA_CHECK;
}

static enum scan_result find_area(struct collapse *c)
{
	struct vma *vma = find_vma(c->mm, c->va);
	enum scan_result result = check_area(c, vma);

	c->vma = result == SCAN_SUCCEED ? vma : NULL;
	return result;
}

static enum scan_result find_table(struct collapse *c)
{
	pte_t pmd;

	c->pmdp = pmd_find(c->mm, c->va, &c->pmd_ptl);
	pmd = c->pmdp ? pte_read(c->pmdp) : (pte_t){ 0 };
	if (pmd_is_huge(pmd))
		return SCAN_PMD_MAPPED;
	if (!c->pmdp)
		return SCAN_PMD_NULL;
	if (!pmd_is_table(pmd))
		return SCAN_PMD_NONE;
	c->table = pte_find(c->mm, c->va, &c->ptl);
	return SCAN_SUCCEED;
}

/* ---- step 1 ---- */

struct seen {
	unsigned none, swapped, shared;
	u16 on[MAX_NUMNODES]; /* pages mapped, by node */
	bool young;
};

static enum scan_result look_at_page(const struct collapse *c, pte_t pte, struct seen *seen)
{
	const struct engine_config *config = &c->mm->engine->config;
	struct page *page = pfn_page(c->mm->engine, pte_pfn(pte));

	if (page_mapcount(page) > 1 && is_limited(c, ++seen->shared, config->collapse.max_shared))
		return SCAN_EXCEED_SHARED_PTE;
	if (!page_test(page, PG_LRU))
		return SCAN_PAGE_LRU;
	if (page_test(page, PG_LOCKED))
		return SCAN_PAGE_LOCK;
	seen->on[page_nid(page)]++;
	seen->young |= pte_young(pte) || page_test(page, PG_REFERENCED);
	return SCAN_SUCCEED;
}

static enum scan_result look_at_entry(const struct collapse *c, pte_t pte, struct seen *seen)
{
	const struct engine_config *config = &c->mm->engine->config;

	/* Whether or not it means anything just now: it may again. */
	if (unlikely(pte_uffd_wp(pte)))
		return SCAN_PTE_UFFD_WP;
	if (pte_none(pte) || (pte_mapped(pte) && pte_special(pte))) {
		/* A fault there is somebody's to serve. */
		if ((c->vma->flags & VM_UFFD) ||
		    is_limited(c, ++seen->none, config->collapse.max_none))
			return SCAN_EXCEED_NONE_PTE;
		return SCAN_SUCCEED;
	}
	/* (A marker is found out when it is to be swapped in.) */
	if (!pte_mapped(pte))
		return is_limited(c, ++seen->swapped, config->collapse.max_swap)
			       ? SCAN_EXCEED_SWAP_PTE
			       : SCAN_SUCCEED;
	return look_at_page(c, pte, seen);
}

/* mmap_lock held. */
static enum scan_result scan_pmd(struct collapse *c, struct seen *seen)
{
	enum scan_result result = find_table(c);

	*seen = (struct seen){ 0 };
	if (result != SCAN_SUCCEED)
		return result;
	spin_lock(c->ptl);
	for (unsigned i = 0; i < HUGE_PAGES && result == SCAN_SUCCEED; i++)
		result = look_at_entry(c, pte_read(&c->table[i]), seen);
	spin_unlock(c->ptl);
	if (result == SCAN_SUCCEED && c->background && !seen->young &&
	    !c->mm->engine->mmu->never_young)
		return SCAN_LACK_REFERENCED_PAGE;
	return result;
}

/* ---- step 2 ---- */

/* From the node that has most of the pages: a copy that is far from where they were would slow the
 * program down.  Of several that have as many, from any of these, the first of them first. */
static struct page *alloc_huge(const struct collapse *c, const struct seen *seen)
{
	struct engine *e = c->mm->engine;
	unsigned flags = ALLOC_NORECLAIM | (c->background ? 0 : ALLOC_COMPACT);
	nodemask_t most = 1;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, HUGE_ORDER, flags);
	for (unsigned nid = 1; nid < e->numa.nr; nid++) {
		unsigned before = seen->on[first_node(most)];

		if (seen->on[nid] > before)
			most = 0;
		if (seen->on[nid] >= before)
			most |= 1u << nid;
	}
	return page_alloc_nodes(e, HUGE_ORDER, flags, first_node(most), most);
}

/* mmap_lock is held for reading, and still if it succeeds. */
static enum scan_result swap_in(struct collapse *c)
{
	for (u64 va = c->va; va < c->va + PMD_SIZE; va += PAGE_SIZE) {
		struct fault_result res = { 0 };
		unsigned ret;

		pte_t pte = pte_peek(c->mm, va);

		if (pte_is_marker(pte))
			return SCAN_FAIL;
		if (!pte_is_swap(pte))
			continue;
		ret = handle_mm_fault(c->vma, va, FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_ABSENT, &res);
		if (ret & VM_FAULT_RETRY) {
			enum scan_result result;

			down_read(&c->mm->mmap_lock);
			result = find_area(c);
			if (result == SCAN_SUCCEED)
				result = find_table(c);
			if (result != SCAN_SUCCEED)
				return result;
			va -= PAGE_SIZE;
		} else if (ret & VM_FAULT_ERROR) {
			return SCAN_FAIL;
		}
	}
	return SCAN_SUCCEED;
}

/* ---- steps 4 to 7: mmap_lock and the family's lock for writing ---- */

static void unlink_table(struct collapse *c, pte_t *was)
{
	spin_lock(c->pmd_ptl);
	*was = pte_exchange(c->pmdp, (pte_t){ 0 });
	spin_unlock(c->pmd_ptl);
	c->mm->engine->mmu->flush(c->mm, c->va, c->va + PMD_SIZE);
}

static enum scan_result lock_page(struct collapse *c, pte_t pte)
{
	struct page *page = pfn_page(c->mm->engine, pte_pfn(pte));
	u32 refs;

	if (!page_test(page, PG_LRU))
		return SCAN_PAGE_LRU;
	if (!page_trylock(page))
		return SCAN_PAGE_LOCK;
	refs = (u32)page_mapcount(page) + page_test(page, PG_SWAPCACHE);
	if (atomic_load_explicit(&page->refcount, memory_order_acquire) == refs)
		return SCAN_SUCCEED;
	page_unlock(page);
	return SCAN_PAGE_COUNT;
}

static bool maps_page(pte_t pte)
{
	return pte_mapped(pte) && !pte_special(pte);
}

static void unlock_pages(struct collapse *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (maps_page(c->table[i]))
			page_unlock(pfn_page(c->mm->engine, pte_pfn(c->table[i])));
}

/* All or none. */
static enum scan_result lock_pages(struct collapse *c)
{
	enum scan_result result = SCAN_SUCCEED;

	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		pte_t pte = pte_read(&c->table[i]);
		struct seen seen = { 0 };

		result = look_at_entry(c, pte, &seen);
		if (result == SCAN_PAGE_LOCK) /* it is ours to try */
			result = SCAN_SUCCEED;
		if (result == SCAN_SUCCEED && !pte_none(pte) && !pte_mapped(pte))
			result = SCAN_PTE_NON_PRESENT;
		if (result == SCAN_SUCCEED && maps_page(pte))
			result = lock_page(c, pte);
		if (result != SCAN_SUCCEED) {
			unlock_pages(c, i);
			break;
		}
	}
	return result;
}

static void copy_pages(struct collapse *c)
{
	struct engine *e = c->mm->engine;

	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		void *to = e->mmu->bytes(e, c->huge + i);
		pte_t pte = c->table[i];

		if (maps_page(pte))
			memcpy(to, e->mmu->bytes(e, pfn_page(e, pte_pfn(pte))), PAGE_SIZE);
		else
			memset(to, 0, PAGE_SIZE);
	}
}

/* The huge entry in place of the table `was`, which is kept. */
static int install(struct collapse *c, pte_t was)
{
	struct mm *mm = c->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(c->vma) | PTE_HUGE | PTE_ACCESSED | PTE_DIRTY;
	int err;

	page_set(c->huge, PG_ANON_EXCLUSIVE);
	spin_lock(c->pmd_ptl);
	err = e->mmu->set_huge(mm, c->va, c->pmdp, pte_make(page_pfn(e, c->huge), bits), c->huge);
	if (!err) {
		page_add_anon_rmap(c->huge, c->vma, c->va);
		lru_add(e, c->huge);
		spare_table_put(mm, c->pmdp, pfn_page(e, pte_pfn(was)));
	} else {
		page_clear(c->huge, PG_ANON_EXCLUSIVE);
	}
	spin_unlock(c->pmd_ptl);
	return err;
}

/* The old pages, all locked, lose their entries; the flush is done. */
static void drop_pages(struct collapse *c)
{
	struct engine *e = c->mm->engine;

	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		pte_t pte = c->table[i];
		struct page *page = pfn_page(e, pte_pfn(pte));

		pte_store(&c->table[i], (pte_t){ 0 });
		if (!maps_page(pte))
			continue;
		c->mapped++;
		if (page_remove_rmap(page)) {
			lru_del(e, page);
			page_unlock(page);
			page_unmapped(e, page);
		} else {
			page_unlock(page);
			page_put(e, page);
		}
	}
}

static enum scan_result replace_table(struct collapse *c)
{
	enum scan_result result;
	pte_t was;

	unlink_table(c, &was);
	result = lock_pages(c);
	if (result == SCAN_SUCCEED) {
		copy_pages(c);
		if (install(c, was)) {
			unlock_pages(c, HUGE_PAGES);
			result = SCAN_FAIL;
		}
	}
	if (result != SCAN_SUCCEED) {
		pte_store(c->pmdp, was);
		return result;
	}
	drop_pages(c);
	atomic_fetch_add_explicit(&c->mm->rss, (s64)(HUGE_PAGES - c->mapped), memory_order_relaxed);
	return SCAN_SUCCEED;
}

/* ---- one huge page ---- */

/* mmap_lock held for writing. */
static enum scan_result collapse_locked(struct collapse *c)
{
	enum scan_result result = find_area(c);

	if (result != SCAN_SUCCEED)
		return result;
	vma_drain(c->vma);
	result = find_table(c);
	if (result != SCAN_SUCCEED)
		return result;
	anon_vma_lock_write(c->vma);
	result = replace_table(c);
	anon_vma_unlock_write(c->vma);
	return result;
}

/* ---- where the host does it ---- */

/* What the program is about to have in one piece is worth more than other pages. */
static void make_hot(struct collapse *c)
{
	struct engine *e = c->mm->engine;

	spin_lock(c->ptl);
	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		pte_t pte = pte_read(&c->table[i]);

		if (!maps_page(pte))
			continue;
		page_set(pfn_page(e, pte_pfn(pte)), PG_REFERENCED);
		lru_mark_accessed(e, pfn_page(e, pte_pfn(pte)));
	}
	spin_unlock(c->ptl);
}

/* mmap_lock held for reading; not any more when it was tried. */
static enum scan_result collapse_on_host(struct collapse *c, bool *locked)
{
	struct mm *mm = c->mm;
	int err;

	*locked = false;
	up_read(&mm->mmap_lock);
	err = mm->engine->mmu->collapse(mm, c->va);
	if (err)
		return err == -EEXIST ? SCAN_PMD_MAPPED : SCAN_FAIL;
	down_read(&mm->mmap_lock);
	*locked = true;
	stat_add(&mm->engine->stats->thp_collapse, 1);
	if (find_area(c) == SCAN_SUCCEED && find_table(c) == SCAN_SUCCEED)
		make_hot(c);
	return SCAN_SUCCEED;
}

/* mmap_lock held for reading, c->vma found; *locked: it still is, and nobody has had it for
 * writing. */
static enum scan_result collapse_one(struct collapse *c, bool *locked)
{
	struct mm *mm = c->mm;
	struct engine *e = mm->engine;
	enum scan_result result;
	struct seen seen;

	c->mapped = 0;
	result = scan_pmd(c, &seen);
	if (result != SCAN_SUCCEED)
		return result;
	if (e->mmu->collapse)
		return collapse_on_host(c, locked);
	*locked = false;
	c->huge = alloc_huge(c, &seen);
	if (!c->huge) {
		up_read(&mm->mmap_lock);
		return SCAN_ALLOC_HUGE_PAGE_FAIL;
	}
	if (seen.swapped)
		result = swap_in(c);
	up_read(&mm->mmap_lock);
	if (result == SCAN_SUCCEED) {
		down_write(&mm->mmap_lock);
		result = collapse_locked(c);
		up_write(&mm->mmap_lock);
	}
	if (result == SCAN_SUCCEED)
		stat_add(&e->stats->thp_collapse, 1);
	else
		page_put(e, c->huge);
	return result;
}

/* ---- MADV_COLLAPSE ---- */

static int collapse_errno(enum scan_result result)
{
	switch (result) {
	case SCAN_ALLOC_HUGE_PAGE_FAIL:
		return -ENOMEM;
	case SCAN_EXCEED_NONE_PTE:
		return -EBUSY;
	case SCAN_PAGE_COUNT:
	case SCAN_PAGE_LOCK:
	case SCAN_PAGE_LRU:
		return -EAGAIN;
	default:
		return -EINVAL;
	}
}

/* Is it worth going on with the next? */
static bool may_go_on(enum scan_result result)
{
	switch (result) {
	case SCAN_SUCCEED:
	case SCAN_PMD_MAPPED:
	case SCAN_PMD_NULL:
	case SCAN_PTE_NON_PRESENT:
	case SCAN_PTE_UFFD_WP:
	case SCAN_PAGE_COUNT:
	case SCAN_PAGE_LOCK:
	case SCAN_PAGE_LRU:
		return true;
	default:
		return false;
	}
}

int madvise_collapse(struct vma *vma, u64 start, u64 end)
{
	struct collapse c = { .mm = vma->mm, .vma = vma };
	u64 first = (start + PMD_SIZE - 1) & PMD_MASK, last = end & PMD_MASK, done = 0;
	enum scan_result result, failed = SCAN_FAIL;
	bool locked = true;

	c.va = (vma->start + PMD_SIZE - 1) & PMD_MASK;
	result = check_area(&c, vma);
	if (result != SCAN_SUCCEED)
		return -EINVAL;
	for (c.va = first; c.va < last; c.va += PMD_SIZE) {
		if (!locked) {
			down_read(&c.mm->mmap_lock);
			locked = true;
			failed = find_area(&c);
			if (failed != SCAN_SUCCEED)
				break;
			last = min_of(last, c.vma->end & PMD_MASK);
		}
		result = collapse_one(&c, &locked);
		if (result == SCAN_SUCCEED || result == SCAN_PMD_MAPPED)
			done++;
		else
			failed = result;
		if (!may_go_on(result))
			break;
	}
	if (!locked)
		down_read(&c.mm->mmap_lock);
	return done == (last - first) >> PMD_SHIFT ? 0 : collapse_errno(failed);
}

/* ---- in the background ---- */

/* The next area from mm->scan_at on that may have huge pages, and in it the next address; false:
 * there is none, and the space is done.  mmap_lock held. */
static bool next_place(struct collapse *c)
{
	struct mm *mm = c->mm;
	struct vma *vma;

	for (vma = find_vma(mm, mm->scan_at); vma; vma = vma_next(vma)) {
		c->va = (max_of(vma->start, mm->scan_at) + PMD_SIZE - 1) & PMD_MASK;
		if (check_area(c, vma) != SCAN_SUCCEED)
			continue;
		c->vma = vma;
		return true;
	}
	mm->scan_at = 0;
	mm->scanned = mm->engine->collapse_pass;
	return false;
}

/* What of the budget was used. */
static u64 scan_mm(struct mm *mm, u64 pages, unsigned *made)
{
	struct collapse c = { .mm = mm, .background = true };
	bool locked = false;
	u64 used = 0;

	while (used < pages) {
		if (!locked)
			down_read(&mm->mmap_lock);
		locked = true;
		if (!next_place(&c))
			break;
		mm->scan_at = c.va + PMD_SIZE;
		*made += collapse_one(&c, &locked) == SCAN_SUCCEED;
		used += HUGE_PAGES;
	}
	if (locked)
		up_read(&mm->mmap_lock);
	return used;
}

unsigned khugepaged_scan(struct engine *e, u64 pages)
{
	struct mm *mm = NULL;
	unsigned made = 0;
	u64 used = 0;

	if (!has_huge_pages(e) || e->config.thp == THP_NEVER || !spin_trylock(&e->collapsing))
		return 0;
	while (used < pages && (mm = mm_visit_next(e, mm)))
		if (mm->scanned != e->collapse_pass)
			used += scan_mm(mm, pages - used, &made);
	if (mm)
		mm_visit_end(mm);
	else
		e->collapse_pass++;
	spin_unlock(&e->collapsing);
	return made;
}
