/* SPDX-License-Identifier: MIT */
/*
 * First touch of anonymous memory: zeros.
 *
 * A read maps the shared zero page, read-only, which is nobody's memory; the first write breaks
 * from it (wp.c).  A write gets a frame.  A machine that does not report the first write to a page
 * of zeros gets a frame either way.  Along a stream the pages that follow come, too.
 */
#include "engine/fault/internal.h"
#include "engine/userfault/hooks.h"

static unsigned map_zero_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(vmf->vma) & ~PTE_WRITE;
	pte_t pte = keep_uffd_wp(vmf, pte_make(e->zero_pfn, bits | PTE_SPECIAL | PTE_ACCESSED));
	struct page *page = pfn_page(e, e->zero_pfn);
	int n = 1;

	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		n = e->mmu->set(mm, vmf->address, vmf->ptep, &pte, &page, 1);
	observe(e, STEP_MAP, vmf->address, max_of(n, 0));
	spin_unlock(vmf->ptl);
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	vmf->res->zero = true;
	return 0;
}

/* How many entries next to (and with) the one asked for, which is as it was, are none? */
static unsigned none_entries(const struct vm_fault_info *vmf, const struct run *run)
{
	const pte_t *ptep = vmf->ptep;
	unsigned n = 0;

	if (!pte_same(pte_read(ptep), vmf->orig))
		return 0;
	do {
		n++;
		ptep += run->down ? -1 : 1;
	} while (n < run->n && pte_none(pte_read(ptep)));
	return n;
}

unsigned do_anonymous_page(struct vm_fault_info *vmf)
{
	struct vma *vma = vmf->vma;
	struct engine *e = vma->mm->engine;
	struct page *pages[MMU_BATCH];
	struct run run;
	unsigned nr, none;
	int n;

	observe(e, STEP_ANONYMOUS, vmf->address, 1);
	if (vma->flags & VM_SHARED)
		return VM_FAULT_SIGBUS;
	if (!(vmf->flags & FAULT_FLAG_WRITE) && !e->mmu->silent_write && e->zero_pfn != NO_PFN) {
		if (unlikely(vma->flags & VM_UFFD_MISSING))
			return handle_userfault(vmf, VM_UFFD_MISSING);
		return map_zero_page(vmf);
	}
	/* Without mmap_lock there is one: lock_vma() sees to it. */
	if (!vma_anon(vma) && anon_vma_prepare(vma))
		return VM_FAULT_OOM;
	if (unlikely(vma->flags & VM_UFFD_MISSING))
		return handle_userfault(vmf, VM_UFFD_MISSING);

	if (unlikely(e->config.folio_orders)) {
		unsigned ret = do_anonymous_folio(vmf);

		if (!(ret & VM_FAULT_FALLBACK))
			return ret;
	}
	run = readahead_plan(vmf);
	none = none_entries(vmf, &run);
	if (!none)
		return 0;
	run_shrink(&run, none);
	if (!run_alloc(vmf, &run, pages))
		return VM_FAULT_OOM;
	nr = run.n;
	for (unsigned i = 0; i < nr; i++)
		page_set(pages[i], PG_ZEROED | PG_ANON_EXCLUSIVE);
	if (e->mmu->stage(e, pages, nr)) {
		run_free(e, pages, nr, false);
		return VM_FAULT_RETRY;
	}
	for (unsigned i = 0; i < nr; i++)
		memset(e->mmu->bytes(e, pages[i]), 0, PAGE_SIZE);
	observe(e, STEP_ZERO, run.start, nr);

	spin_lock(vmf->ptl);
	none = none_entries(vmf, &run);
	if (unlikely(none < run.n)) {
		/* Others were here meanwhile: give back what is not needed. */
		if (!none || run.down) {
			spin_unlock(vmf->ptl);
			run_free(e, pages, nr, true);
			return 0;
		}
		run_shrink(&run, none);
	}
	n = run_set(vmf, &run, pages);
	if (n > 0)
		run_account(vmf, &run, pages, n);
	spin_unlock(vmf->ptl);

	if (unlikely(n < (int)nr))
		run_free(e, pages + max_of(n, 0), nr - max_of(n, 0), true);
	if (n < 0)
		return set_failed(vmf, run.start, n); /* which is about the run's first page */
	run_shrink(&run, max_of(n, 1));
	readahead_done(e, &run);
	vmf->res->zero = true;
	return 0;
}
