/* SPDX-License-Identifier: MIT */
/*
 * Faults in areas of persistent memory: the entry maps the device's own frame.
 *
 *   a read                    the block read-only, or over a hole the zero page
 *   a write, shared mapping   the block, made if there is none; marked, so that sync write-protects
 *                             it and the next write is noticed; with MAP_SYNC only after the map
 *                             that has the block lasts (VM_FAULT_NEEDDSYNC)
 *   a write, private mapping  a copy, which is an anonymous page from then on
 *
 * Entries are special: no reference, no map count, nothing in rss.  What keeps a block from being
 * given to others while it is mapped is that a file unmaps it first, with invalidate_lock held for
 * writing; here that is held for reading until the entry is written.
 */
#include "engine/backing/dax.h"
#include "engine/base/bytes.h"
#include "engine/fault/internal.h"

static struct address_space *mapping_of(const struct vm_fault_info *vmf)
{
	return vmf->vma->file->mapping;
}

static bool is_write(const struct vm_fault_info *vmf)
{
	return vmf->flags & FAULT_FLAG_WRITE;
}

/* ---- the entry ---- */

/* It maps the frame from now on; what it mapped before goes first on every CPU.  Entries' lock
 * held. */
static unsigned insert_pfn(struct vm_fault_info *vmf, u64 pfn, bool write)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	u64 bits = (vma_pte_bits(vmf->vma) & ~PTE_WRITE) | PTE_SPECIAL | PTE_ACCESSED;
	struct page *page = pfn_page(e, pfn);
	pte_t pte, was;
	int n = 1;

	if (write)
		bits |= (vma_pte_bits(vmf->vma) & PTE_WRITE) | PTE_DIRTY;
	pte = pte_make(pfn, bits);
	spin_lock(vmf->ptl);
	was = pte_read(vmf->ptep);
	if (pte_mapped(was) && pte_pfn(was) == pfn) {
		/* (A read is not to take away what somebody else's write has just got.) */
		if (write)
			e->mmu->change(mm, vmf->address, vmf->ptep, pte);
	} else if (pte_mapped(was) && !pte_special(was)) {
		n = 0; /* a private copy: somebody was first */
	} else {
		if (pte_mapped(was)) {
			e->mmu->clear(mm, vmf->address, vmf->ptep, (pte_t){ 0 });
			e->mmu->flush(mm, vmf->address, vmf->address + PAGE_SIZE);
		}
		n = e->mmu->set(mm, vmf->address, vmf->ptep, &pte, &page, 1);
	}
	spin_unlock(vmf->ptl);
	return n < 0 ? set_failed(vmf, vmf->address, n) : VM_FAULT_NOPAGE;
}

/* ---- private ---- */

/* The area's own page, with what the block has; NO_PFN: zeros. */
static unsigned map_copy(struct vm_fault_info *vmf, u64 pfn)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	struct page *copy;
	int n = 0;

	if (!vma_anon(vmf->vma) && anon_vma_prepare(vmf->vma))
		return VM_FAULT_OOM;
	copy = vma_alloc_page(vmf->vma, vmf->address, 0, 0);
	if (!copy)
		return VM_FAULT_OOM;
	page_init_flags(copy, PG_ANON_EXCLUSIVE);
	if (e->mmu->stage(e, &copy, 1)) {
		page_put(e, copy);
		return VM_FAULT_RETRY;
	}
	if (pfn == NO_PFN)
		memset(e->mmu->bytes(e, copy), 0, PAGE_SIZE);
	else
		shared_copy(e->mmu->bytes(e, copy), page_direct(e, pfn_page(e, pfn)), PAGE_SIZE);
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		if (pte_mapped(vmf->orig)) {
			e->mmu->clear(mm, vmf->address, vmf->ptep, (pte_t){ 0 });
			e->mmu->flush(mm, vmf->address, vmf->address + PAGE_SIZE);
		}
		n = run_set(vmf, &run, &copy);
		if (n > 0)
			run_account(vmf, &run, &copy, 1);
	}
	spin_unlock(vmf->ptl);
	if (n <= 0)
		run_free(e, &copy, 1, true);
	return n < 0 ? set_failed(vmf, vmf->address, n) : VM_FAULT_NOPAGE;
}

/* ---- the block ---- */

static unsigned shared_write(struct vm_fault_info *vmf)
{
	struct address_space *m = mapping_of(vmf);
	unsigned ret = 0;
	bool made;
	u64 pfn;
	int err = dax_get_block(m, vmf->pgoff, true, &pfn, &made);

	if (err)
		return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	if (made) {
		/* All who see the hole see the block from now on; we, too. */
		unmap_mapping_range(m, vmf->pgoff, vmf->pgoff + 1, false);
		ret = VM_FAULT_MAJOR;
	}
	if (dax_needs_sync(vmf->vma))
		return ret | VM_FAULT_NEEDDSYNC;
	dax_mark_dirty(m, vmf->pgoff);
	return ret | insert_pfn(vmf, pfn, true);
}

static unsigned iomap_fault(struct vm_fault_info *vmf)
{
	struct engine *e = vmf->vma->mm->engine;
	struct address_space *m = mapping_of(vmf);
	bool made;
	u64 pfn;

	if (vmf->pgoff >= mapping_size_pages(m))
		return VM_FAULT_SIGBUS;
	if (is_write(vmf) && (vmf->vma->flags & VM_SHARED))
		return shared_write(vmf);
	dax_get_block(m, vmf->pgoff, false, &pfn, &made);
	if (is_write(vmf))
		return map_copy(vmf, pfn);
	if (pfn == NO_PFN)
		pfn = e->zero_pfn;
	return pfn == NO_PFN ? VM_FAULT_SIGBUS : insert_pfn(vmf, pfn, false);
}

unsigned dax_fault(struct vm_fault_info *vmf)
{
	struct address_space *m = mapping_of(vmf);
	unsigned ret, major = 0;

	vmf->pgoff = vmf->vma->pgoff + ((vmf->address - vmf->vma->start) >> PAGE_SHIFT);
	for (;;) {
		down_read(&m->invalidate_lock);
		dax_lock_entries(m);
		ret = iomap_fault(vmf);
		dax_unlock_entries(m);
		up_read(&m->invalidate_lock);
		major |= ret & VM_FAULT_MAJOR;
		if (!(ret & VM_FAULT_NEEDDSYNC))
			return ret | major;
		/* The entry comes at the next try, if nobody has changed the map again. */
		dax_sync(m, vmf->pgoff, vmf->pgoff + 1);
	}
}
