/* SPDX-License-Identifier: MIT */
/*
 * Huge pages that a userfaultfd's monitor gives, and write-protects.  What its operations do to
 * other pages one by one they do here to huge pages; see engine/userfault/.
 */
#include "engine/hugetlb/internal.h"

/* A place to be filled: its file's lock and its own are held from begin() to end(). */
struct place {
	struct vma *vma;
	struct hstate *h;
	struct address_space *m;
	u64 va, index;
	pte_t *ptep;
	spinlock_t *ptl, *lock;
};

static int begin(struct place *p, struct vma *vma, u64 va)
{
	*p = (struct place){ .vma = vma, .h = hstate_vma(vma), .m = vma->file->mapping, .va = va };
	p->index = huge_index(p->h, vma, va);
	p->lock = hugetlb_fault_lock(p->m, p->index);
	p->ptep = huge_pte_alloc(p->h, vma->mm, va, &p->ptl);
	if (!p->ptep)
		return -ENOMEM;
	down_read(&p->m->invalidate_lock);
	spin_lock(p->lock);
	return 0;
}

static void end(struct place *p)
{
	spin_unlock(p->lock);
	up_read(&p->m->invalidate_lock);
}

static bool is_behind_end(const struct place *p)
{
	return p->index >= mapping_size(p->m) >> huge_page_shift(p->h);
}

/* A marker may be filled over; but not one that tells of a page that was there. */
static bool may_be_filled(pte_t pte)
{
	return pte_none(pte) || (pte_is_marker(pte) && !pte_marker_is(pte, PTE_MARKER_HWPOISON));
}

/* The entry maps the page, with the caller's reference.  0, -EEXIST, or as set(). */
static int install(struct place *p, struct page *page, bool wp)
{
	pte_t pte = huge_pte_make(p->vma, page);
	int err = -EEXIST;

	pte = pte_with(pte, PTE_DIRTY | PTE_ACCESSED);
	if (wp)
		pte = pte_mkuffd_wp(pte);
	spin_lock(p->ptl);
	if (may_be_filled(pte_read(p->ptep)))
		err = huge_pte_set(p->vma, p->va, p->ptep, pte, page);
	spin_unlock(p->ptl);
	return err;
}

/* ---- UFFDIO_COPY ---- */

/* A claimed page, filled, of a private area. */
static int place_private(struct place *p, struct huge_claim *claim, bool wp)
{
	struct engine *e = p->m->engine;
	int err;

	huge_page_own(claim->page, p->m, p->index);
	page_get(claim->page); /* until the claim is settled */
	err = install(p, claim->page, wp);
	if (err) {
		page_put(e, claim->page);
		hugetlb_cancel(claim);
		return err;
	}
	hugetlb_commit(claim);
	page_put(e, claim->page);
	return 0;
}

/* The same of a shared area: it enters the file.  It stays there, even if the entry is taken. */
static int place_shared(struct place *p, struct huge_claim *claim, bool wp)
{
	struct page *page = claim->page;
	int err = is_behind_end(p) ? -EFAULT : hugetlb_add_page(p->m, page, p->index);

	if (err) {
		hugetlb_cancel(claim);
		return err;
	}
	hugetlb_commit(claim);
	page_get(page);
	err = install(p, page, wp);
	if (err)
		page_put(p->m->engine, page);
	return err;
}

static int fill(struct place *p, int (*copy)(void *ctx, void *to, u64 n), void *ctx, bool wp)
{
	bool shared = p->vma->flags & VM_MAYSHARE;
	struct page *there = shared ? hugetlb_find_page(p->m, p->index) : NULL;
	const struct mempolicy policy = vma_call_policy(p->vma, p->va);
	struct huge_claim claim;
	int err;

	if (there)
		page_put(p->m->engine, there);
	if (there || !may_be_filled(pte_read(p->ptep)))
		return -EEXIST;
	if (hugetlb_claim(p->vma, p->index, &policy, false, &claim))
		return -ENOMEM;
	err = copy(ctx, huge_bytes(p->m->engine, claim.page), huge_page_size(p->h));
	if (err) {
		hugetlb_cancel(&claim);
		return err;
	}
	return shared ? place_shared(p, &claim, wp) : place_private(p, &claim, wp);
}

int hugetlb_mfill(struct vma *vma, u64 va, int (*copy)(void *ctx, void *to, u64 n), void *ctx,
		  bool wp)
{
	struct place p;
	int err = begin(&p, vma, va);

	if (err)
		return err;
	err = fill(&p, copy, ctx, wp);
	end(&p);
	return err;
}

/* ---- UFFDIO_CONTINUE and POISON ---- */

int hugetlb_mcontinue(struct vma *vma, u64 va, bool wp)
{
	struct page *page;
	struct place p;
	int err = begin(&p, vma, va);

	if (err)
		return err;
	page = hugetlb_find_page(p.m, p.index);
	err = !page ? -EFAULT : page_has_broken(p.m->engine, page) ? -EIO : install(&p, page, wp);
	if (page && err)
		page_put(p.m->engine, page);
	end(&p);
	return err;
}

int hugetlb_mpoison(struct vma *vma, u64 va)
{
	struct place p;
	int err = begin(&p, vma, va);

	if (err)
		return err;
	err = -EEXIST;
	spin_lock(p.ptl);
	if (pte_none(pte_read(p.ptep))) {
		pte_store(p.ptep, pte_make_marker(PTE_MARKER_POISONED));
		err = 0;
	}
	spin_unlock(p.ptl);
	end(&p);
	return err;
}

/* ---- UFFDIO_WRITEPROTECT ---- */

/* True: a flush is owed.  Page-table lock held. */
static bool protect_entry(struct vma *vma, u64 va, pte_t *ptep)
{
	pte_t old = pte_read(ptep);

	if (pte_none(old))
		pte_store(ptep, pte_make_marker(PTE_MARKER_UFFD_WP));
	if (!pte_mapped(old) || (pte_uffd_wp(old) && !pte_write(old)))
		return false;
	vma->mm->engine->mmu->change_huge(vma->mm, va, ptep, pte_mkuffd_wp(old));
	return pte_write(old);
}

static void resolve_entry(struct vma *vma, u64 va, pte_t *ptep)
{
	pte_t old = pte_read(ptep), new = pte_clear_uffd_wp(old);

	if (!pte_uffd_wp(old))
		return;
	if (pte_is_marker(old)) {
		pte_store(ptep, (pte_t){ 0 });
		return;
	}
	/* A private page asks again before it is written to. */
	if ((vma->flags & (VM_SHARED | VM_WRITE)) == (VM_SHARED | VM_WRITE))
		new = pte_with(new, PTE_WRITE);
	vma->mm->engine->mmu->change_huge(vma->mm, va, ptep, new);
}

int hugetlb_wp_range(struct vma *vma, u64 start, u64 end, bool protect)
{
	const struct hstate *h = hstate_vma(vma);
	struct mm *mm = vma->mm;
	bool flush = false;
	int err = 0;

	for (u64 va = start; va < end; va += huge_page_size(h)) {
		spinlock_t *ptl;
		pte_t *ptep =
			protect ? huge_pte_alloc(h, mm, va, &ptl) : huge_pte_find(h, mm, va, &ptl);

		if (!ptep && protect)
			err = -ENOMEM;
		if (!ptep)
			continue;
		spin_lock(ptl);
		if (protect)
			flush |= protect_entry(vma, va, ptep);
		else
			resolve_entry(vma, va, ptep);
		spin_unlock(ptl);
	}
	if (flush)
		mm->engine->mmu->flush(mm, start, end);
	return err;
}
