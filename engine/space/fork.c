/* SPDX-License-Identifier: MIT */
/*
 * fork: a space like another one, that shares its private pages until somebody writes.
 *
 *   1  the parent's mmap_lock and each VMA's lock: no fault of the parent's can come between; only
 *      reclaim can, by the reverse map, and it takes one page-table lock at a time;
 *   2  each VMA is copied and linked where reclaim will look for the pages that it shares, before
 * it has any; 3  its entries are copied table by table, under the parent's and the child's
 * page-table lock: a page loses its exclusive mark, the parent's entry its right to write, and only
 * then is the child's made from it, with the dirty bit as the hardware left it; 4  one flush of the
 * parent's space.  Until then a CPU of the parent's may write through what its TLB holds, to the
 * page that is the child's, too: the child has not run yet, and for it that was before the fork.
 * After it every write faults.
 */
#include "engine/reclaim/internal.h"
#include "engine/backing/dax.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

struct copy {
	struct mm *from, *to;
	bool flush;   /* rights of the parent's went */
	bool shared;  /* the area: what was written through it is the parent's to tell of */
	bool uffd_wp; /* the child's area keeps what userfaultfd has write-protected */
	s64 swapped;  /* of the child */
	s64 rss;      /* of the child, but for pages of files, which are counted at once */
};

/* ---- entries ---- */

/* From `src` a page is mapped.  What the child's entry shall be. */
static pte_t share_page(struct copy *c, u64 va, pte_t *src, pte_t pte)
{
	struct engine *e = c->from->engine;
	struct page *page = pfn_page(e, pte_pfn(pte));

	page_get(page);
	if (unlikely(page_test(page, PG_FILE))) {
		/* Of a private mapping, so read-only already, or of a shared one. */
		page_add_file_rmap(c->to, page);
		return pte_without(pte, c->shared ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED);
	}
	if (page_test(page, PG_ANON_EXCLUSIVE))
		page_clear(page, PG_ANON_EXCLUSIVE);
	page_dup_anon_rmap(page);
	c->rss++;
	if (pte_write(pte)) {
		e->mmu->change(c->from, va, src, pte_without(pte, PTE_WRITE));
		c->flush = true;
		/* A CPU could still set the dirty bit until now. */
		pte = pte_read(src);
	}
	return pte_without(pte, PTE_WRITE | PTE_ACCESSED);
}

static void copy_entry(struct copy *c, u64 va, pte_t *src, pte_t *dst)
{
	pte_t pte = pte_read(src);
	bool moving = unlikely(pte_migrating(pte));

	if (pte_none(pte))
		return;
	if (unlikely(pte_is_marker(pte))) {
		if (!c->uffd_wp && !pte_marker_is(pte, PTE_MARKER_POISONED | PTE_MARKER_GUARD |
							       PTE_MARKER_HWPOISON))
			return;
		pte_store(dst, pte);
		return;
	}
	if (pte_is_swap(pte)) {
		swap_dup(&c->from->engine->swap, pte_to_swp(pte).v);
		pte = pte_with(pte, PTE_SWP_COMMON);
		pte_store(src, pte);
		c->swapped++;
	} else if (!pte_special(pte)) {
		if (unlikely(moving))
			atomic_fetch_add(&c->from->engine->migration_copies, 1);
		pte = share_page(c, va, src, pte);
	}
	if (unlikely(pte_uffd_wp(pte)) && !c->uffd_wp)
		pte = pte_clear_uffd_wp(pte);
	/* No CPU has the child's tables: nothing of the machine's changes. */
	pte_store(dst, pte);
	if (unlikely(moving))
		atomic_fetch_add(&c->from->engine->migration_copied, 1);
}

/* As share_page(), of a huge page; the page lock is held, so that it is not being split.  PTLs
 * held. */
static pte_t share_huge_page(struct copy *c, u64 va, pte_t *src, pte_t pmd, struct page *page)
{
	struct engine *e = c->from->engine;

	page_get(page);
	if (page_test(page, PG_ANON_EXCLUSIVE))
		page_clear(page, PG_ANON_EXCLUSIVE);
	page_dup_anon_rmap(page);
	c->rss += HUGE_PAGES;
	if (pte_write(pmd)) {
		e->mmu->change_huge(c->from, va, src, pte_without(pmd, PTE_WRITE));
		c->flush = true;
		pmd = pte_read(src);
	}
	return pte_without(pmd, PTE_WRITE | PTE_ACCESSED);
}

/* The page that the huge entry maps, locked and with a reference; NULL: it is split by now, or (the
 * zero page) none of ours. */
static struct page *lock_huge_page(struct mm *mm, pte_t *src, spinlock_t *ptl)
{
	struct page *page = NULL;

	if (!pmd_lock_huge(mm, src, ptl))
		return NULL;
	if (!pte_special(pte_read(src))) {
		page = pfn_page(mm->engine, pte_pfn(pte_read(src)));
		page_get(page);
	}
	spin_unlock(ptl);
	if (page)
		page_lock(page);
	return page;
}

/* 1: done; 0: it is not huge any more; -ENOMEM. */
static int copy_huge(struct copy *c, u64 va, pte_t *src, spinlock_t *src_ptl)
{
	struct page *spare = spare_table_new(c->to), *page;
	spinlock_t *dst_ptl;
	pte_t *dst = pmd_alloc(c->to, va, &dst_ptl), pmd;
	int done = 0;

	if (!spare || !dst) {
		if (spare)
			spare_table_free(c->to, spare);
		return -ENOMEM;
	}
	page = lock_huge_page(c->from, src, src_ptl);
	spin_lock(src_ptl);
	spin_lock(dst_ptl);
	pmd = pte_read(src);
	if (pmd_is_huge(pmd)) {
		if (page)
			pmd = share_huge_page(c, va, src, pmd, page);
		else
			huge_zero_get(c->from->engine); /* it is there */
		if (unlikely(pte_uffd_wp(pmd)) && !c->uffd_wp)
			pmd = pte_clear_uffd_wp(pmd);
		pte_store(dst, pmd);
		spare_table_put(c->to, dst, spare);
		done = 1;
	}
	spin_unlock(dst_ptl);
	spin_unlock(src_ptl);
	if (!done)
		spare_table_free(c->to, spare);
	if (page) {
		page_unlock(page);
		page_put(c->from->engine, page);
	}
	return done;
}

/* 0, -ENOMEM: what was copied so far is there. */
static int copy_page_range(struct copy *c, const struct vma *vma)
{
	spinlock_t *src_ptl, *dst_ptl;
	pte_t *src, *dst;
	u64 va = vma->start;
	bool huge;

	while ((src = pmd_next(c->from, &va, vma->end, &src_ptl, &huge))) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, vma->end);

		if (unlikely(huge) && vma_is_dax(vma)) {
			va = stop; /* no page: the child's faults find it again */
			continue;
		}
		if (unlikely(huge)) {
			int done = copy_huge(c, va, src, src_ptl);

			if (done < 0)
				return done;
			if (done)
				va = stop;
			continue;
		}
		dst = pte_alloc(c->to, va, &dst_ptl);
		if (!dst)
			return -ENOMEM;
		spin_lock(src_ptl);
		spin_lock(dst_ptl);
		for (; va < stop; va += PAGE_SIZE)
			copy_entry(c, va, src++, dst++);
		spin_unlock(dst_ptl);
		spin_unlock(src_ptl);
	}
	return 0;
}

/* ---- VMAs ---- */

/* A copy for the child, in its list and its family, or NULL. */
static struct vma *dup_vma(struct mm *mm, const struct vma *vma)
{
	struct vma *new = vma_new(mm, vma->start, vma->end, vma->pgoff,
				  vma->flags & ~(u32)(VM_LOCKED_MASK | VM_UFFD));

	if (!new)
		return NULL;
	if (unlikely(vma->uffd) && dup_userfaultfd(new, vma)) {
		vma_put(new);
		return NULL;
	}
	if (!(vma->flags & VM_WIPEONFORK) && anon_vma_fork(new, vma)) {
		vma_put(new);
		return NULL;
	}
	if (!(vma->flags & VM_WIPEONFORK))
		vma_inherit_guard(new, vma);
	if (vma->file)
		new->file = file_get(vma->file);
	new->policy = vma->policy;
	/* Behind the parent's in the file's tree: who unmaps comes there later. */
	vma_link(mm, new);
	vm_stat_account(mm, new->flags, (s64)vma_pages(new));
	return new;
}

static int dup_mmap(struct copy *c)
{
	struct vma *vma, *new, *prev = NULL;
	int err = 0;

	list_for_each_entry (vma, &c->from->vmas, link) {
		if (vma->flags & VM_DONTCOPY)
			continue;
		vma_drain(vma);
		new = dup_vma(c->to, vma);
		if (!new) {
			err = -ENOMEM;
			break;
		}
		if (prev && vma_mergeable(prev, new))
			c->to->unmerged = true;
		prev = new;
		/* Without an anon_vma there is nothing that a fault would not find again: pages of
		 * files, and the zero page; but that they are write-protected. */
		c->shared = new->flags &VM_SHARED;
		c->uffd_wp = new->flags &VM_UFFD_WP;
		if (is_vm_hugetlb(vma))
			err = c->shared && !c->uffd_wp ? 0
						       : hugetlb_copy_range(new, vma, &c->flush);
		else if (new->anon_vma || c->uffd_wp || new->maybe_guard)
			err = copy_page_range(c, vma);
		if (err)
			break;
	}
	if (c->flush)
		c->from->engine->mmu->flush(c->from, c->from->low, c->from->high);
	atomic_fetch_add_explicit(&c->to->rss, c->rss, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->to->swapped, c->swapped, memory_order_relaxed);
	return err;
}

int mm_fork(struct mm *parent, struct mm **child)
{
	struct engine *e = parent->engine;
	struct copy c = { .from = parent };
	struct list_head untold;
	struct oom_owner owner;
	int err;

	if (!e->mmu->shares_pages)
		return -ENOSYS;
	err = mm_create(e, parent->low, parent->high, &c.to);
	if (err)
		return err;
	owner = mm_owner(parent);
	mm_set_owner(c.to, &owner);
	down_write(&parent->mmap_lock);
	down_write(&c.to->mmap_lock);
	c.to->limits = parent->limits;
	c.to->policy = parent->policy;
	atomic_store_explicit(&c.to->policy_turn,
			      atomic_load_explicit(&parent->policy_turn, memory_order_relaxed),
			      memory_order_relaxed);
	c.to->mmap_min = parent->mmap_min;
	c.to->lsm_mmap_min = parent->lsm_mmap_min;
	c.to->start_brk = parent->start_brk;
	c.to->brk = parent->brk;
	c.to->data_bytes = parent->data_bytes;
	err = mm_is_oom_victim(parent) ? -ENOMEM : dup_mmap(&c);
	up_write(&c.to->mmap_lock);
	if (err)
		dup_userfaultfd_fail(parent, &untold);
	mmap_write_unlock(parent);
	if (!err) {
		*child = c.to;
		return 0;
	}
	mm_destroy(c.to);
	dup_userfaultfd_forget(&untold);
	return err;
}
