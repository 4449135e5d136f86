/* SPDX-License-Identifier: MIT */
/*
 * A first write that brings its neighbours: 2^k pages, aligned, in frames of one piece, with one
 * fault, where the setting allows that order and nothing of the range is there yet.
 *
 * The pages are single ones from the start: what they keep of having come together is that their
 * frames lie together.
 */
#include "engine/fault/internal.h"
#include "engine/space/huge.h"

/* The pages around the fault of one order. */
struct range {
	u64 start;
	unsigned n, order;
	pte_t *ptep; /* of the first */
};

static struct range range_of(const struct vm_fault_info *vmf, unsigned order)
{
	struct range r = { .n = 1u << order, .order = order };

	r.start = vmf->address & ~(((u64)r.n << PAGE_SHIFT) - 1);
	r.ptep = vmf->ptep - ((vmf->address - r.start) >> PAGE_SHIFT);
	return r;
}

static bool is_none(const struct range *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (!pte_none(pte_read(&r->ptep[i])))
			return false;
	return true;
}

/* The largest that fits and can be had: its frames, or NULL. */
static struct page *alloc_range(const struct vm_fault_info *vmf, struct range *r)
{
	const struct vma *vma = vmf->vma;
	struct engine *e = vma->mm->engine;

	for (unsigned order = HUGE_ORDER - 1; order; order--) {
		struct page *page;

		if (!(e->config.folio_orders >> order & 1))
			continue;
		*r = range_of(vmf, order);
		if (r->start < vma->start || r->start + ((u64)r->n << PAGE_SHIFT) > vma->end ||
		    !is_none(r))
			continue;
		page = vma_alloc_page(vma, r->start, order, ALLOC_NORECLAIM);
		if (page)
			return page;
	}
	return NULL;
}

/* How many were set, from the first on, or what set() says.  PTL held. */
static int set_range(const struct vm_fault_info *vmf, const struct range *r, struct page *pages)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(vmf->vma);
	unsigned done = 0;

	while (done < r->n) {
		unsigned want = min_of(r->n - done, (unsigned)MMU_BATCH);
		struct page *batch[MMU_BATCH];
		pte_t ptes[MMU_BATCH];
		int n;

		for (unsigned i = 0; i < want; i++) {
			bool asked = r->start + (done + i) * PAGE_SIZE == vmf->address;

			batch[i] = pages + done + i;
			ptes[i] = pte_make(page_pfn(e, batch[i]),
					   asked ? bits | PTE_ACCESSED | PTE_DIRTY : bits);
		}
		n = e->mmu->set(mm, r->start + done * PAGE_SIZE, r->ptep + done, ptes, batch, want);
		if (n < 0)
			return done ? (int)done : n;
		for (int i = 0; i < n; i++)
			page_add_anon_rmap(batch[i], vmf->vma,
					   r->start + (done + (unsigned)i) * PAGE_SIZE);
		lru_add_batch(e, batch, (unsigned)n);
		done += (unsigned)n;
		if ((unsigned)n < want)
			break;
	}
	return (int)done;
}

static void prepare_pages(struct engine *e, struct page *pages, unsigned n)
{
	page_cut(pages, 1, 0);
	for (unsigned i = 0; i < n; i++) {
		page_set(pages + i, PG_ANON_EXCLUSIVE);
		memset(e->mmu->bytes(e, pages + i), 0, PAGE_SIZE);
	}
}

unsigned do_anonymous_folio(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct page *pages;
	struct range r;
	int n = 0;

	if (!e->config.folio_orders || !pte_none(vmf->orig) || !thp_allowed(vmf->vma))
		return VM_FAULT_FALLBACK;
	pages = alloc_range(vmf, &r);
	if (!pages)
		return VM_FAULT_FALLBACK;
	prepare_pages(e, pages, r.n);
	spin_lock(vmf->ptl);
	if (is_none(&r))
		n = set_range(vmf, &r, pages);
	if (n > 0)
		atomic_fetch_add_explicit(&mm->rss, n, memory_order_relaxed);
	spin_unlock(vmf->ptl);
	for (unsigned i = (unsigned)max_of(n, 0); i < r.n; i++)
		page_put(e, pages + i);
	if (n < 0)
		return set_failed(vmf, r.start, n);
	if (n) {
		stat_add(&e->stats->folio_alloc, 1);
		vmf->res->zero = true;
		vmf->res->prefetched += (unsigned)n - 1;
	}
	return 0; /* (or somebody was there: the access finds out) */
}
