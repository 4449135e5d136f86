/* SPDX-License-Identifier: MIT */
/*
 * Faults in areas of huge pages.
 *
 *   hugetlb_fault
 *     no entry, or a marker   hugetlb_no_page   the file's page; or a new one: the file's, if the
 *                                               area is shared, else the area's own
 *     a write, read-only      hugetlb_wp        written where it is, or copied
 *
 * The pool is small, and who was promised a page is to get it:
 *
 *   => no page at all is SIGBUS, never "out of memory": nothing that reclaim does makes one;
 *   => an owner's first copies after fork come from what is promised to nobody: its promises are
 *      used up.  If there is none, its page is taken away from the children, who were promised
 *      nothing, and is its alone again.  A child that lost pages so gets SIGBUS where it has none,
 *      even if there are some by then: it would read zeros where its parent had written.
 *
 * Held all the while: the fault's lock, invalidate_lock for reading, the fault lock of (file,
 * index).  The file is not cut meanwhile, nobody else fills the place, and no page leaves the file.
 */
#include "engine/base/bytes.h"
#include "engine/fault/internal.h"
#include "engine/hugetlb/internal.h"
#include "engine/userfault/hooks.h"

/* One fault: vmf->address is that of the huge page, vmf->ptep its entry. */
struct huge_fault {
	struct vm_fault_info *vmf;
	struct vma *vma;
	struct hstate *h;
	struct address_space *m;
	u64 index;
	spinlock_t *lock;
};

static bool is_write(const struct huge_fault *f)
{
	return f->vmf->flags & FAULT_FLAG_WRITE;
}

spinlock_t *hugetlb_fault_lock(struct address_space *m, u64 index)
{
	u64 hash = ((u64)(uintptr_t)m >> 6) + index;

	return &m->engine->huge_fault_locks[hash % NR_HUGE_FAULT_LOCKS];
}

static void lock_fault(struct huge_fault *f)
{
	down_read(&f->m->invalidate_lock);
	spin_lock(f->lock);
}

static void unlock_fault(struct huge_fault *f)
{
	spin_unlock(f->lock);
	up_read(&f->m->invalidate_lock);
}

/* ---- bytes ---- */

static void clear_huge_page(struct engine *e, struct page *page)
{
	memset(huge_bytes(e, page), 0, page_frames(page) << PAGE_SHIFT);
}

static void copy_huge_page(struct engine *e, struct page *to, const struct page *from)
{
	u64 n = page_frames(from) << PAGE_SHIFT;

	if (page_test(from, PG_FILE))
		shared_copy(huge_bytes(e, to), huge_bytes(e, from), n);
	else
		memcpy(huge_bytes(e, to), huge_bytes(e, from), n);
}

static unsigned claim_error(int err)
{
	return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

static int claim_page(struct huge_fault *f, bool avoid_reserve, struct huge_claim *claim)
{
	const struct mempolicy policy = vma_policy(f->vma, f->vmf->address);

	return hugetlb_claim(f->vma, f->index, &policy, avoid_reserve, claim);
}

/* ---- no page ---- */

/* The entry maps the page from now on, with the caller's reference, which goes otherwise. */
static unsigned map_page(struct huge_fault *f, struct page *page, bool *mapped)
{
	struct vm_fault_info *vmf = f->vmf;
	u64 bits = PTE_ACCESSED;
	int err = -EEXIST;
	pte_t pte;

	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		pte = huge_pte_make(f->vma, page);
		/* Its own page a private area has read-only until it writes to it. */
		if (!page_test(page, PG_FILE) && !is_write(f))
			pte = pte_without(pte, PTE_WRITE);
		if (pte_write(pte))
			bits |= PTE_DIRTY;
		pte = pte_with(pte, bits);
		if (unlikely(f->vma->flags & VM_UFFD_WP) && pte_uffd_wp(vmf->orig))
			pte = pte_mkuffd_wp(pte);
		err = huge_pte_set(f->vma, vmf->address, vmf->ptep, pte, page);
		if (!err)
			vmf->orig = pte_read(vmf->ptep);
	}
	spin_unlock(vmf->ptl);
	*mapped = !err;
	if (!err)
		return 0;
	page_put(f->m->engine, page);
	return err == -EEXIST ? VM_FAULT_NOPAGE : set_failed(vmf, vmf->address, err);
}

/* A new page, the file's or the area's own. */
static unsigned fill(struct huge_fault *f, bool *mapped)
{
	bool shared = f->vma->flags & VM_MAYSHARE;
	struct huge_claim claim;
	struct page *page;
	unsigned ret;
	int err;

	err = claim_page(f, false, &claim);
	if (err)
		return claim_error(err);
	page = claim.page;
	clear_huge_page(f->m->engine, page);
	if (shared) {
		err = hugetlb_add_page(f->m, page, f->index);
		if (err) {
			hugetlb_cancel(&claim);
			return claim_error(err);
		}
		hugetlb_commit(&claim);
		page_get(page);
		ret = map_page(f, page, mapped);
	} else {
		huge_page_own(page, f->m, f->index);
		page_get(page); /* until the claim is settled */
		ret = map_page(f, page, mapped);
		if (*mapped) {
			hugetlb_commit(&claim);
			page_put(f->m->engine, page);
		} else {
			hugetlb_cancel(&claim);
		}
	}
	f->vmf->res->zero = *mapped;
	return ret;
}

static unsigned hugetlb_wp(struct huge_fault *f);

/* The fault is the monitor's. */
static unsigned tell_userfault(struct huge_fault *f, u32 reason)
{
	unlock_fault(f);
	return handle_userfault(f->vmf, reason);
}

/* As hugetlb_fault() from here on: the locks are dropped when it returns. */
static unsigned hugetlb_no_page(struct huge_fault *f)
{
	struct vma *vma = f->vma;
	bool mapped = false;
	struct page *page;
	unsigned ret;

	if (atomic_load_explicit(&vma->hugetlb_unmapped, memory_order_acquire)) {
		unlock_fault(f);
		return VM_FAULT_SIGBUS;
	}
	page = hugetlb_find_page(f->m, f->index);
	if (page && unlikely(page_has_broken(f->m->engine, page))) {
		page_put(f->m->engine, page);
		unlock_fault(f);
		return VM_FAULT_HWPOISON_LARGE | VM_FAULT_SET_LSB(huge_page_shift(f->h));
	}
	if (page && (vma->flags & VM_UFFD_MINOR)) {
		page_put(f->m->engine, page);
		return tell_userfault(f, VM_UFFD_MINOR);
	}
	if (!page && (vma->flags & VM_UFFD_MISSING))
		return tell_userfault(f, VM_UFFD_MISSING);
	ret = page ? map_page(f, page, &mapped) : fill(f, &mapped);
	/* A private area that writes to the file's page copies it now, without another fault. */
	if (mapped && is_write(f) && !pte_write(f->vmf->orig) && !pte_uffd_wp(f->vmf->orig))
		return hugetlb_wp(f);
	unlock_fault(f);
	return ret;
}

/* ---- writes to what is read-only ---- */

/* The area's own and nobody else's: it may be written.  Page-table lock held. */
static bool reuse(struct huge_fault *f, struct page *page)
{
	struct vm_fault_info *vmf = f->vmf;
	struct mm *mm = f->vma->mm;

	if (page_test(page, PG_FILE) && !(f->vma->flags & VM_MAYSHARE))
		return false;
	if (!page_test(page, PG_FILE)) {
		/* Only an entry that maps it makes another: there is this one alone. */
		if (page_mapcount(page) != 1)
			return false;
		page_set(page, PG_ANON_EXCLUSIVE);
	}
	mm->engine->mmu->change_huge(mm, vmf->address, vmf->ptep,
				     pte_with(vmf->orig, PTE_WRITE | PTE_DIRTY | PTE_ACCESSED));
	return true;
}

/* Take the owner's page at index away from all others that have it. */
static void unmap_ref_private(struct huge_fault *f, const struct page *page)
{
	u64 pgoff = f->index << f->h->order;
	struct interval_node *node;

	down_read(&f->m->i_mmap_lock);
	for (node = interval_first(&f->m->i_mmap, pgoff, pgoff + 1); node;
	     node = interval_next(node, pgoff, pgoff + 1)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 va = vma->start + ((pgoff - vma->pgoff) << PAGE_SHIFT);
		spinlock_t *ptl;
		pte_t *ptep;

		if (vma == f->vma || (vma_flags(vma) & VM_MAYSHARE) || vma->resv)
			continue;
		ptep = huge_pte_find(f->h, vma->mm, va, &ptl);
		if (!ptep || pte_pfn(pte_read(ptep)) != page_pfn(f->m->engine, page))
			continue;
		/* Before the page goes, so that it is not found missing. */
		atomic_store_explicit(&vma->hugetlb_unmapped, true, memory_order_release);
		hugetlb_zap_range(vma, va, va + huge_page_size(f->h), false);
	}
	up_read(&f->m->i_mmap_lock);
}

/* The entry maps the copy instead of `old`.  Page-table lock held.  As set(). */
static int replace(struct huge_fault *f, struct page *page)
{
	struct vm_fault_info *vmf = f->vmf;
	struct engine *e = f->m->engine;
	struct mm *mm = f->vma->mm;
	struct page *old = huge_pte_clear(f->vma, vmf->address, vmf->ptep, (pte_t){ 0 });
	pte_t pte = huge_pte_make(f->vma, page);
	int err;

	e->mmu->flush(mm, vmf->address, vmf->address + huge_page_size(f->h));
	err = huge_pte_set(f->vma, vmf->address, vmf->ptep, pte_with(pte, PTE_DIRTY | PTE_ACCESSED),
			   page);
	if (err) {
		pte_store(vmf->ptep, vmf->orig);
		page_add_huge_rmap(old);
		atomic_fetch_add_explicit(&mm->hugetlb_pages, (s64)page_frames(old),
					  memory_order_relaxed);
	}
	return err;
}

/* Copy `old`, to which the caller has a reference. */
static unsigned copy(struct huge_fault *f, struct page *old)
{
	struct vm_fault_info *vmf = f->vmf;
	struct engine *e = f->m->engine;
	/* Its promise is used up, if it has any page but the file's. */
	bool owner = f->vma->resv && !page_test(old, PG_FILE);
	struct huge_claim claim;
	int err = claim_page(f, owner, &claim);

	if (err == -ENOSPC && owner) {
		/* The write comes again, and finds the page its alone. */
		unmap_ref_private(f, old);
		return 0;
	}
	if (err)
		return claim_error(err);
	copy_huge_page(e, claim.page, old);
	huge_page_own(claim.page, f->m, f->index);
	err = -EEXIST;
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		err = replace(f, claim.page);
	spin_unlock(vmf->ptl);
	if (err) {
		hugetlb_cancel(&claim);
		return err == -EEXIST ? VM_FAULT_NOPAGE : set_failed(vmf, vmf->address, err);
	}
	hugetlb_commit(&claim);
	page_put(e, old); /* the entry's */
	return 0;
}

static unsigned hugetlb_wp(struct huge_fault *f)
{
	struct vm_fault_info *vmf = f->vmf;
	struct engine *e = f->m->engine;
	struct page *page = NULL;
	unsigned ret = 0;

	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		page = pfn_page(e, pte_pfn(vmf->orig));
		if (reuse(f, page))
			page = NULL;
		else
			page_get(page);
	}
	spin_unlock(vmf->ptl);
	if (page) {
		ret = copy(f, page);
		page_put(e, page);
	}
	unlock_fault(f);
	return ret;
}

/* A write to what userfaultfd has write-protected.  The monitor's, or (nobody is to be asked) the
 * mark goes and it is written. */
static unsigned wp_by_userfault(struct huge_fault *f)
{
	struct vm_fault_info *vmf = f->vmf;
	struct mm *mm = f->vma->mm;

	if (!userfaultfd_wp_async(f->vma))
		return tell_userfault(f, VM_UFFD_WP);
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		mm->engine->mmu->change_huge(mm, vmf->address, vmf->ptep,
					     pte_clear_uffd_wp(vmf->orig));
		vmf->orig = pte_read(vmf->ptep);
	}
	spin_unlock(vmf->ptl);
	return hugetlb_wp(f);
}

/* ---- the entry ---- */

static unsigned handle_entry(struct huge_fault *f)
{
	struct vm_fault_info *vmf = f->vmf;

	vmf->orig = pte_read(vmf->ptep);
	if (pte_marker_is(vmf->orig, PTE_MARKER_POISONED | PTE_MARKER_HWPOISON)) {
		unlock_fault(f);
		return VM_FAULT_HWPOISON_LARGE | VM_FAULT_SET_LSB(huge_page_shift(f->h));
	}
	if (!pte_mapped(vmf->orig))
		return hugetlb_no_page(f);
	if (is_write(f) && !pte_write(vmf->orig)) {
		if (unlikely(f->vma->flags & VM_UFFD_WP) && pte_uffd_wp(vmf->orig))
			return wp_by_userfault(f);
		return hugetlb_wp(f);
	}
	/* Another CPU was first, or a stale translation was used: the access may go on. */
	unlock_fault(f);
	return 0;
}

unsigned hugetlb_fault(struct vm_fault_info *vmf)
{
	struct vma *vma = vmf->vma;
	struct hstate *h = hstate_vma(vma);
	struct huge_fault f = { .vmf = vmf, .vma = vma, .h = h, .m = vma->file->mapping };

	vmf->address &= huge_page_mask(h);
	f.index = huge_index(h, vma, vmf->address);
	f.lock = hugetlb_fault_lock(f.m, f.index);
	vmf->ptep = huge_pte_alloc(h, vma->mm, vmf->address, &vmf->ptl);
	if (!vmf->ptep)
		return VM_FAULT_OOM;
	lock_fault(&f);
	if (f.index >= mapping_size(f.m) >> huge_page_shift(h)) {
		unlock_fault(&f);
		return VM_FAULT_SIGBUS;
	}
	return handle_entry(&f);
}
