/* SPDX-License-Identifier: MIT */
/* Runs: the page asked for and those brought in with it, from frames to mapped pages. */
#include "engine/fault/internal.h"

void run_shrink(struct run *run, unsigned n)
{
	if (n >= run->n)
		return;
	if (run->down) {
		run->start += (run->n - n) * PAGE_SIZE;
		run->asked = n - 1;
	}
	run->n = n;
}

bool run_alloc(const struct vm_fault_info *vmf, struct run *run, struct page **pages)
{
	unsigned n;

	pages[0] = vma_alloc_page(vmf->vma, run->start, 0, 0);
	if (!pages[0])
		return false;
	for (n = 1; n < run->n; n++) {
		pages[n] = vma_alloc_page(vmf->vma, run->start + n * PAGE_SIZE, 0, ALLOC_NORECLAIM);
		if (!pages[n])
			break;
	}
	run_shrink(run, n);
	observe(vmf->vma->mm->engine, STEP_ALLOC_FRAMES, run->start, n);
	return true;
}

void run_free(struct engine *e, struct page **pages, unsigned n, bool staged)
{
	for (unsigned i = 0; i < n; i++) {
		if (staged)
			e->mmu->unstage(e, pages[i]);
		page_put(e, pages[i]);
	}
}

int run_set(struct vm_fault_info *vmf, const struct run *run, struct page **pages)
{
	struct vma *vma = vmf->vma;
	struct engine *e = vma->mm->engine;
	u64 bits = vma_pte_bits(vma);
	pte_t ptes[MMU_BATCH], *asked = &ptes[run->asked];
	int n;

	for (unsigned i = 0; i < run->n; i++)
		ptes[i] =
			pte_make(page_pfn(e, pages[i]),
				 page_test(pages[i], PG_ANON_EXCLUSIVE) ? bits : bits & ~PTE_WRITE);
	*asked = keep_uffd_wp(vmf, pte_with(*asked, PTE_ACCESSED));
	if ((vmf->flags & FAULT_FLAG_WRITE) && pte_write(*asked))
		*asked = pte_with(*asked, PTE_DIRTY);
	n = e->mmu->set(vma->mm, run->start, vmf->ptep - run->asked, ptes, pages, run->n);
	observe(e, STEP_MAP, run->start, max_of(n, 0));
	for (int i = 0; i < n; i++)
		page_add_anon_rmap(pages[i], vma, run->start + i * PAGE_SIZE);
	return n;
}

void run_account(struct vm_fault_info *vmf, const struct run *run, struct page **pages, unsigned n)
{
	struct mm *mm = vmf->vma->mm;

	for (unsigned i = 0; i < n; i++) {
		if (i != run->asked)
			page_set(pages[i], PG_PREFETCHED);
		if (page_test(pages[i], PG_ZEROED))
			page_clear(pages[i], PG_ZEROED); /* not for long */
	}
	lru_add_batch(mm->engine, pages, n);
	atomic_fetch_add_explicit(&mm->rss, (s64)n, memory_order_relaxed);
	vmf->res->prefetched += n > run->asked ? n - 1 : n;
}

unsigned set_failed(struct vm_fault_info *vmf, u64 va, int err)
{
	switch (err) {
	case -EAGAIN:
		return VM_FAULT_RETRY;
	case -EEXIST:
		/* The machine has the page; take notice of it. */
		return adopt_page(vmf->vma->mm, vmf->vma, va) == -ENOMEM ? VM_FAULT_OOM
									 : VM_FAULT_NOPAGE;
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		/* The mapping or the space is going: the access will find out by itself. */
		return VM_FAULT_NOPAGE;
	}
}
