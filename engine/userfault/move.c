/* SPDX-License-Identifier: MIT */
/*
 * UFFDIO_MOVE: pages from one place of a space to another, without a copy.
 *
 * A page goes with its page lock held, so that reclaim neither looks for it nor finds it half way,
 * and with the page-table locks of both entries.  The old translation is flushed before the new one
 * is there: what is written through it until then is in the page.
 *
 * A huge page goes as it is, entry and spare table, if both places are for all of it and nothing is
 * at the new one, not even a table.  Else it is split.
 *
 * Only what is this space's alone goes: a page that a forked relative has, too, is -EBUSY, and
 * stays so when the relative is gone, until it has been written to.
 */
#include "engine/space/huge.h"
#include "engine/userfault/fill.h"

struct move {
	struct mm *mm;
	struct vma *dst_vma, *src_vma;
	u64 dst, src; /* the next page's addresses */
	bool holes;   /* nothing to move is no error */
};

/* Both entries of the next page, and their tables' locks, which may be one. */
struct entries {
	pte_t *dst, *src;
	spinlock_t *dst_ptl, *src_ptl;
};

/* In the order of their addresses: nobody else but fork, which excludes us, takes two. */
static void lock_both(const struct entries *t)
{
	spin_lock(t->dst_ptl < t->src_ptl ? t->dst_ptl : t->src_ptl);
	if (t->dst_ptl != t->src_ptl)
		spin_lock(t->dst_ptl < t->src_ptl ? t->src_ptl : t->dst_ptl);
}

static void unlock_both(const struct entries *t)
{
	spin_unlock(t->dst_ptl);
	if (t->dst_ptl != t->src_ptl)
		spin_unlock(t->src_ptl);
}

/* The source's translation goes, everywhere.  Both PTLs held. */
static pte_t take_source(const struct move *mv, const struct entries *t)
{
	const struct mmu_ops *mmu = mv->mm->engine->mmu;
	pte_t old = mmu->clear(mv->mm, mv->src, t->src, (pte_t){ 0 });

	mmu->flush(mv->mm, mv->src, mv->src + PAGE_SIZE);
	return old;
}

/* 0, or -EAGAIN: the machine did not set it, and all is as it was.  Both PTLs held. */
static int set_dest(const struct move *mv, const struct entries *t, pte_t pte, pte_t old)
{
	struct mm *mm = mv->mm;
	struct page *page = pfn_page(mm->engine, pte_pfn(pte));

	if (mm->engine->mmu->set(mm, mv->dst, t->dst, &pte, &page, 1) > 0)
		return 0;
	pte_put_back(mm, mv->src, t->src, old);
	return -EAGAIN;
}

static int move_zeropage(const struct move *mv, const struct entries *t)
{
	pte_t old = take_source(mv, t);
	u64 bits = vma_pte_bits(mv->dst_vma) & ~PTE_WRITE;

	return set_dest(mv, t, pte_make(pte_pfn(old), bits | PTE_SPECIAL), old);
}

static int move_swap(const struct entries *t, pte_t pte)
{
	if (pte.v & PTE_SWP_COMMON)
		return -EBUSY;
	pte_store(t->src, (pte_t){ 0 });
	pte_store(t->dst, pte); /* with its mark: so does Linux */
	return 0;
}

/* The page is locked. */
static int move_present(const struct move *mv, const struct entries *t, struct page *page)
{
	struct vma *vma = mv->dst_vma;
	pte_t old, new;
	int err;

	if (!page_test(page, PG_ANON_EXCLUSIVE))
		return -EBUSY;
	old = take_source(mv, t);
	new = pte_make(pte_pfn(old),
		       vma_pte_bits(vma) | PTE_DIRTY | (pte_young(old) ? PTE_ACCESSED : 0));
	err = set_dest(mv, t, new, old);
	if (err)
		return err;
	page_move_anon_rmap(page, vma);
	__atomic_store_n(&page->index, vma_page_index(vma, mv->dst), __ATOMIC_RELAXED);
	return 0;
}

/* `page` is what the source maps, locked, or NULL: we have not looked yet.  0, -EAGAIN with *want:
 * lock that page (it has a reference) and come again, or an error. */
static int move_locked(const struct move *mv, const struct entries *t, struct page *page,
		       struct page **want)
{
	struct engine *e = mv->mm->engine;
	pte_t pte = pte_read(t->src);

	if (!pte_none(pte_read(t->dst)))
		return -EEXIST;
	if (pte_none(pte))
		return mv->holes ? 0 : -ENOENT;
	if (pte_is_marker(pte))
		return -EFAULT;
	if (pte_is_swap(pte))
		return move_swap(t, pte);
	if (pte_special(pte))
		return move_zeropage(mv, t);
	if (page == pfn_page(e, pte_pfn(pte)))
		return move_present(mv, t, page);
	*want = pfn_page(e, pte_pfn(pte));
	page_get(*want);
	return -EAGAIN;
}

static int move_one(const struct move *mv)
{
	struct engine *e = mv->mm->engine;
	struct page *page = NULL, *want;
	struct entries t;
	int err;

	/* In Linux even a hole that moves has a table from then on. */
	split_huge_pmd(mv->mm, mv->src);
	t.src = mv->holes ? pte_alloc(mv->mm, mv->src, &t.src_ptl)
			  : pte_find(mv->mm, mv->src, &t.src_ptl);
	if (!t.src)
		return mv->holes ? -ENOMEM : -ENOENT;
	t.dst = pte_alloc(mv->mm, mv->dst, &t.dst_ptl);
	if (!t.dst)
		return -ENOMEM;
	do {
		want = NULL;
		lock_both(&t);
		err = move_locked(mv, &t, page, &want);
		unlock_both(&t);
		if (page) {
			page_unlock(page);
			page_put(e, page);
		}
		page = want;
		if (page)
			page_lock(page);
	} while (page);
	return err;
}

/* ---- huge pages ---- */

/* The entry of a huge page goes; `page` is that, locked, or NULL: of the huge zero page.  PMD_SIZE,
 * or -EAGAIN: the machine did not set it, and all is as it was.  Both PTLs held. */
static s64 move_huge_entry(const struct move *mv, const struct entries *t, struct page *page)
{
	struct mm *mm = mv->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(mv->dst_vma) | PTE_HUGE;
	pte_t old = e->mmu->clear_huge(mm, mv->src, t->src, (pte_t){ 0 });

	e->mmu->flush(mm, mv->src, mv->src + PMD_SIZE);
	if (page)
		bits |= PTE_DIRTY | (pte_young(old) ? PTE_ACCESSED : 0);
	else
		bits = (bits & ~PTE_WRITE) | PTE_SPECIAL;
	if (e->mmu->set_huge(mm, mv->dst, t->dst, pte_make(pte_pfn(old), bits),
			     pfn_page(e, pte_pfn(old)))) {
		pte_store(t->src, old);
		return -EAGAIN;
	}
	spare_table_put(mm, t->dst, spare_table_take(mm, t->src));
	if (page) {
		page_move_anon_rmap(page, mv->dst_vma);
		__atomic_store_n(&page->index, vma_page_index(mv->dst_vma, mv->dst),
				 __ATOMIC_RELAXED);
	}
	return PMD_SIZE;
}

/* As move_locked(), of PMD entries, with len bytes still to move.  Bytes moved, 0: as single pages;
 * or an error. */
static s64 move_huge_locked(const struct move *mv, const struct entries *t, u64 len,
			    struct page *page, struct page **want)
{
	pte_t pmd = pte_read(t->src);
	struct page *there = pfn_page(mv->mm->engine, pte_pfn(pmd));

	if (!pmd_is_huge(pmd))
		return 0;
	if (!pte_special(pmd) && !page_test(there, PG_ANON_EXCLUSIVE))
		return -EBUSY;
	if ((mv->dst | mv->src) & ~PMD_MASK || len < PMD_SIZE || !pte_none(pte_read(t->dst)))
		return 0;
	if (pte_special(pmd) || page == there)
		return move_huge_entry(mv, t, page);
	*want = there;
	page_get(there);
	return 0;
}

/* What is at the source goes, if it is a huge page that can go whole.  Bytes moved, 0: as single
 * pages; or an error. */
static s64 move_huge(const struct move *mv, u64 len)
{
	struct page *page = NULL, *want;
	struct entries t;
	s64 moved;

	t.src = pmd_find(mv->mm, mv->src, &t.src_ptl);
	if (!t.src && !mv->holes)
		return -ENOENT;
	t.dst = pmd_alloc(mv->mm, mv->dst, &t.dst_ptl);
	if (!t.dst)
		return -ENOMEM;
	if (pte_huge(pte_read(t.dst)))
		return -EEXIST;
	if (!t.src || !pte_huge(pte_read(t.src)))
		return 0;
	do {
		want = NULL;
		lock_both(&t);
		moved = move_huge_locked(mv, &t, len, page, &want);
		unlock_both(&t);
		if (page) {
			page_unlock(page);
			page_put(mv->mm->engine, page);
		}
		page = want;
		if (page)
			page_lock(page);
	} while (page);
	return moved;
}

/* ---- a range ---- */

/* May pages move between these areas? */
static int validate_move_areas(const struct userfaultfd_ctx *ctx, const struct vma *src,
			       const struct vma *dst)
{
	if ((src->flags ^ dst->flags) & (VM_ACCESS | VM_LOCKED))
		return -EINVAL;
	if (!(src->flags & VM_WRITE))
		return -EINVAL;
	if (dst->uffd != ctx)
		return -EINVAL;
	return vma_is_anonymous(src) && vma_is_anonymous(dst) ? 0 : -EINVAL;
}

static int find_areas(const struct userfaultfd_ctx *ctx, struct move *mv, u64 len)
{
	struct vma *dst, *src = find_vma(mv->mm, mv->src);
	int err = find_vma_and_prepare_anon(mv->mm, mv->dst, &dst);

	if (err)
		return err;
	if (!src || src->start > mv->src)
		return -ENOENT;
	if (atomic_load(&ctx->mmap_changing))
		return -EAGAIN;
	if ((src->flags & VM_SHARED) || mv->src + len > src->end || (dst->flags & VM_SHARED) ||
	    mv->dst + len > dst->end)
		return -EINVAL;
	mv->dst_vma = dst;
	mv->src_vma = src;
	return validate_move_areas(ctx, src, dst);
}

/* Bytes moved, or the error that came first.  mmap_lock held. */
static s64 move_pages(struct userfaultfd_ctx *ctx, struct move *mv, u64 len)
{
	u64 moved = 0;
	int err = find_areas(ctx, mv, len);

	while (!err && moved < len) {
		s64 n = move_huge(mv, len - moved);

		if (!n)
			n = move_one(mv) ?: (s64)PAGE_SIZE;
		if (n < 0) {
			err = (int)n;
		} else {
			mv->dst += (u64)n;
			mv->src += (u64)n;
			moved += (u64)n;
		}
	}
	return moved ? (s64)moved : err;
}

int userfaultfd_move(struct userfaultfd_ctx *ctx, const struct mm *current_mm, u64 dst, u64 src,
		     u64 len, u64 mode, s64 *done)
{
	struct move mv = { .dst = dst,
			   .src = src,
			   .holes = mode & UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES };
	s64 moved;

	*done = 0;
	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	if (atomic_load(&ctx->mmap_changing))
		return (int)(*done = -EAGAIN);
	if (ctx->whose != current_mm)
		return -EINVAL;
	mv.mm = userfaultfd_get_mm(ctx);
	if (!mv.mm)
		return -ESRCH;
	if (validate_range(mv.mm, dst, len) || validate_range(mv.mm, src, len) ||
	    (mode & ~(u64)(UAPI_UFFDIO_MODE_DONTWAKE | UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES))) {
		userfaultfd_put_mm(ctx);
		return -EINVAL;
	}
	down_read(&mv.mm->mmap_lock);
	down_read(&ctx->map_changing_lock);
	moved = move_pages(ctx, &mv, len);
	up_read(&ctx->map_changing_lock);
	up_read(&mv.mm->mmap_lock);
	userfaultfd_put_mm(ctx);
	return userfaultfd_finish(ctx, dst, len, !(mode & UAPI_UFFDIO_MODE_DONTWAKE), moved, done);
}
