/* SPDX-License-Identifier: MIT */
/*
 * Faults in areas of persistent memory that map 2 MiB with one entry (in Linux
 * dax_iomap_pmd_fault() and vmf_insert_pfn_pmd()).
 *
 *   1  is there a place?  The area holds the aligned 2 MiB, which lie so in the file, too, and all
 *      before its end; and it is no write to a private mapping, which copies a page;
 *   2  what has the file there?
 *        a run     blocks side by side, aligned: mapped read-only for a read, and writable and
 *                  marked for a write
 *        a hole    a read maps the huge zero page; a write has a run made, if the device has one
 *        else      some blocks, or others: none of ours
 *   3  the entry, as in dax.c: with MAP_SYNC only after the map lasts (VM_FAULT_NEEDDSYNC).
 *
 * VM_FAULT_FALLBACK where 1, 2 or memory says no: a single entry comes.  It needs a table, and who
 * makes that drops the huge entry that is in its place.  What keeps the blocks while they are
 * mapped is what keeps a single one (dax.c).
 */
#include "engine/backing/dax.h"
#include "engine/fault/internal.h"
#include "engine/space/huge.h"

struct dax_huge {
	struct vm_fault_info *vmf;
	pte_t *pmdp;
	spinlock_t *ptl;
	u64 va, index;	    /* where the 2 MiB begin, in memory and (pages) in the file */
	struct page *spare; /* the table that goes with the entry, until there is one */
};

static struct address_space *mapping_of(const struct dax_huge *h)
{
	return h->vmf->vma->file->mapping;
}

static bool is_write(const struct dax_huge *h)
{
	return h->vmf->flags & FAULT_FLAG_WRITE;
}

static unsigned fallback(const struct dax_huge *h, _Atomic u64 *why)
{
	stat_add(&h->vmf->vma->mm->engine->stats->thp_fault_fallback, 1);
	stat_add(why, 1);
	return VM_FAULT_FALLBACK;
}

/* ---- the entry ---- */

/*
 * It maps the 2 MiB from the page on from now on; a huge entry of anything else goes first, on
 * every CPU.  VM_FAULT_NOPAGE; VM_FAULT_FALLBACK: somebody has put a table there.  *set: the entry
 * is new.  Entries' lock held.
 */
static unsigned insert_pfn_pmd(struct dax_huge *h, struct page *page, bool *set)
{
	struct vma *vma = h->vmf->vma;
	struct mm *mm = vma->mm;
	const struct mmu_ops *mmu = mm->engine->mmu;
	u64 rights = vma_pte_bits(vma), bits = PTE_HUGE | PTE_SPECIAL | PTE_ACCESSED;
	unsigned ret = VM_FAULT_NOPAGE;
	pte_t pmd, was;
	int err = 0;

	bits |= is_write(h) ? rights | PTE_DIRTY : rights & ~PTE_WRITE;
	pmd = pte_make(page_pfn(mm->engine, page), bits);
	*set = false;
	spin_lock(h->ptl);
	was = pte_read(h->pmdp);
	if (pmd_is_table(was)) {
		ret = VM_FAULT_FALLBACK;
	} else if (pte_huge(was) && pte_pfn(was) == pte_pfn(pmd)) {
		/* (A read is not to take away what somebody else's write has just got.) */
		if (is_write(h))
			mmu->change_huge(mm, h->va, h->pmdp, pmd);
	} else {
		if (pte_huge(was))
			drop_special_pmd(mm, h->va, h->pmdp);
		err = mmu->set_huge(mm, h->va, h->pmdp, pmd, page);
		*set = !err;
	}
	if (*set) {
		spare_table_put(mm, h->pmdp, h->spare);
		h->spare = NULL;
	}
	spin_unlock(h->ptl);
	return err ? set_failed(h->vmf, h->va, err) : ret;
}

/* ---- what there is ---- */

/* A read over a hole. */
static unsigned pmd_load_hole(struct dax_huge *h)
{
	struct engine *e = h->vmf->vma->mm->engine;
	struct page *zero = huge_zero_get(e);
	unsigned ret;
	bool set;

	if (!zero)
		return fallback(h, &e->stats->dax_fallback_memory);
	ret = insert_pfn_pmd(h, zero, &set);
	if (!set)
		huge_zero_put(e, 1);
	stat_add(&e->stats->dax_huge_zero, set);
	return ret;
}

/* invalidate_lock and entries' lock held. */
static unsigned iomap_pmd_fault(struct dax_huge *h)
{
	struct address_space *m = mapping_of(h);
	struct engine *e = m->engine;
	unsigned ret = 0;
	enum dax_range range;
	bool made, set;
	u64 pfn;

	if (h->index + HUGE_PAGES > mapping_size_pages(m))
		return fallback(h, &e->stats->dax_fallback_place);
	range = dax_get_range(m, h->index, is_write(h), &pfn, &made);
	if (made) {
		/* All who see the hole see the blocks from now on; we, too. */
		unmap_mapping_range(m, h->index, h->index + HUGE_PAGES, false);
		ret = VM_FAULT_MAJOR;
	}
	if (range == DAX_HOLE && !is_write(h))
		return pmd_load_hole(h);
	if (range != DAX_RUN)
		return fallback(h, &e->stats->dax_fallback_blocks);
	if (is_write(h) && dax_needs_sync(h->vmf->vma))
		return ret | VM_FAULT_NEEDDSYNC;
	if (is_write(h))
		dax_mark_dirty(m, h->index);
	ret |= insert_pfn_pmd(h, pfn_page(e, pfn), &set);
	stat_add(&e->stats->dax_huge, set);
	return ret;
}

/* ---- the fault ---- */

/* The setting for anonymous memory says nothing here, as in Linux. */
static bool has_place(const struct dax_huge *h)
{
	const struct vma *vma = h->vmf->vma;

	if ((vma->flags & (VM_NOHUGEPAGE | VM_UFFD)) || !thp_fits(vma, h->va))
		return false;
	return h->index % HUGE_PAGES == 0 && (!is_write(h) || (vma->flags & VM_SHARED));
}

static unsigned try_until_synced(struct dax_huge *h)
{
	struct address_space *m = mapping_of(h);
	unsigned ret, major = 0;

	for (;;) {
		down_read(&m->invalidate_lock);
		dax_lock_entries(m);
		ret = iomap_pmd_fault(h);
		dax_unlock_entries(m);
		up_read(&m->invalidate_lock);
		major |= ret & VM_FAULT_MAJOR;
		if (!(ret & VM_FAULT_NEEDDSYNC))
			return ret | major;
		/* The entry comes at the next try, if nobody has changed the map again. */
		dax_sync(m, h->index, h->index + HUGE_PAGES);
	}
}

unsigned dax_huge_fault(struct vm_fault_info *vmf, pte_t *pmdp, spinlock_t *ptl)
{
	const struct vma *vma = vmf->vma;
	struct mm *mm = vma->mm;
	struct dax_huge h = { .vmf = vmf, .pmdp = pmdp, .ptl = ptl };
	pte_t pmd = pte_read(pmdp);
	unsigned ret;

	if (pmd_is_table(pmd))
		return VM_FAULT_FALLBACK;
	/* Another CPU was first, or a stale translation was used. */
	if (pte_huge(pmd) && (!is_write(&h) || pte_write(pmd)))
		return 0;
	h.va = vmf->address & PMD_MASK;
	/* (Of an area that begins above it this is nowhere in the file; but it has no place then.)
	 */
	h.index = vma->pgoff - (vma->start >> PAGE_SHIFT) + (h.va >> PAGE_SHIFT);
	if (!has_place(&h))
		return fallback(&h, &mm->engine->stats->dax_fallback_place);
	h.spare = spare_table_new(mm);
	if (!h.spare)
		return fallback(&h, &mm->engine->stats->dax_fallback_memory);
	observe(mm->engine, STEP_FILE, vmf->address, 1);
	ret = try_until_synced(&h);
	if (h.spare)
		spare_table_free(mm, h.spare);
	return ret;
}
