/* SPDX-License-Identifier: MIT */
/*
 * swapoff: all that an area holds comes back by the path of a fault, while programs run.
 *
 *   1  the area gives no more slots, and no copies are kept there;
 *   2  entry by entry, every space has brought in what it has there; it cannot go meanwhile, but
 *      waits (mm_visit_next);
 *   3  page by page, so do the files of shared memory;
 *   4  pages in the swap cache that no entry names leave it, and with that their slots;
 *   5  again from 2, until no slot is in use: a fork may have copied an entry from a space that was
 *      not seen yet into one that was, and a page whose copy was kept may have been taken again.
 *
 * Where there is no memory for it all, the area gives slots again.  What has come back stays.
 */
#include "engine/backing/page_cache.h"
#include "engine/base/check.h"
#include "engine/fault/internal.h"
#include "engine/space/huge.h"

/* The first entry at or above *at that names a slot of the area.  mmap_lock held for reading. */
static struct vma *next_entry(struct mm *mm, unsigned type, u64 *at)
{
	struct vma *vma;

	for (vma = find_vma(mm, *at); vma; vma = vma_next(vma)) {
		spinlock_t *ptl;
		pte_t *ptep;
		bool huge;

		*at = max_of(*at, vma->start);
		while ((ptep = pmd_next(mm, at, vma->end, &ptl, &huge))) {
			u64 stop = min_of((*at & PMD_MASK) + PMD_SIZE, vma->end);

			if (unlikely(huge)) { /* nothing of it is swapped out */
				*at = stop;
				continue;
			}
			for (; *at < stop; *at += PAGE_SIZE, ptep++) {
				pte_t pte = pte_read(ptep);

				if (pte_is_swap(pte) && swp_type(pte_to_swp(pte)) == type)
					return vma;
			}
		}
	}
	return NULL;
}

/* The bytes are not to be had: whoever touches the page is told so. */
static void poison(struct vma *vma, u64 va, unsigned type)
{
	struct mm *mm = vma->mm;
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, va, &ptl), pte;
	bool poisoned;

	spin_lock(ptl);
	pte = pte_read(ptep);
	poisoned = pte_is_swap(pte) && swp_type(pte_to_swp(pte)) == type;
	if (poisoned) {
		pte_store(ptep, pte_make_marker(PTE_MARKER_POISONED));
		atomic_fetch_sub_explicit(&mm->swapped, 1, memory_order_relaxed);
	}
	spin_unlock(ptl);
	if (poisoned)
		swap_put(&mm->engine->swap, pte_to_swp(pte).v);
}

/* 0: it may have come; -EAGAIN: the same, and mmap_lock is dropped; -ENOMEM. */
static int unuse_entry(struct vma *vma, u64 va, unsigned type)
{
	struct engine *e = vma->mm->engine;
	struct fault_result res = { 0 };
	u64 refused = store_refusals(e);
	unsigned ret = handle_mm_fault(
		vma, va, FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_ABSENT, &res);

	if (ret & VM_FAULT_RETRY)
		return -EAGAIN;
	if (ret & VM_FAULT_OOM) {
		up_read(&vma->mm->mmap_lock);
		return frames_in_flight(e, refused) ? -EAGAIN : -ENOMEM;
	}
	if (ret & VM_FAULT_SIGBUS)
		poison(vma, va, type);
	return 0;
}

static int unuse_mm(struct mm *mm, unsigned type)
{
	struct shortage shortage = { 0 };
	bool locked = false;
	u64 at = mm->low;
	int err = 0;

	while (atomic_load_explicit(&mm->swapped, memory_order_relaxed)) {
		struct vma *vma;

		if (!locked)
			down_read(&mm->mmap_lock);
		locked = true;
		vma = next_entry(mm, type, &at);
		if (!vma)
			break;
		shortage_note(mm->engine, &shortage);
		err = unuse_entry(vma, at, type);
		locked = !err;
		if (err != -ENOMEM)
			shortage = (struct shortage){ 0 };
		else if (!shortage_may_pass(mm, &shortage, false))
			return err;
	}
	if (locked)
		up_read(&mm->mmap_lock);
	return 0;
}

static int unuse_spaces(struct engine *e, unsigned type)
{
	struct mm *mm = NULL;
	int err;

	while ((mm = mm_visit_next(e, mm))) {
		err = unuse_mm(mm, type);
		if (err) {
			mm_visit_end(mm);
			return err;
		}
	}
	return 0;
}

/* ---- shared memory ---- */

/* Is there a slot of the area at or behind *index?  It becomes its index. */
static bool next_slot(struct address_space *m, unsigned type, u64 *index)
{
	bool found = false;
	void *item;

	spin_lock(&m->tree_lock);
	for (; !found && (item = radix_next(&m->pages, index)); ++*index) {
		swp_entry_t entry = { radix_to_value(item) };

		found = radix_is_value(item) && swp_type(entry) == type;
		if (found)
			break;
	}
	spin_unlock(&m->tree_lock);
	return found;
}

static int unuse_mapping(struct address_space *m, unsigned type)
{
	struct page *page;
	bool major;
	u64 index;

	for (index = 0; next_slot(m, type, &index); index++) {
		u64 at = index;
		int err = m->ops->get_page(m, index, PAGE_READ, &page, &major);

		if (!err) {
			page_unlock(page);
			page_put(m->engine, page);
		} else if (err == -ENOMEM) {
			return err;
		} else if (next_slot(m, type, &at) && at == index) {
			if (at < mapping_size_pages(m))
				return err;
			/* Who cuts the file off is about to come here. */
		}
	}
	return 0;
}

static int unuse_files(struct engine *e, unsigned type)
{
	struct address_space *m = NULL;
	int err;

	while ((m = mapping_next(e, m))) {
		if (!mapping_swaps(m))
			continue;
		err = unuse_mapping(m, type);
		if (err) {
			mapping_put(m);
			return err;
		}
	}
	return 0;
}

/* ---- the swap cache ---- */

static void drop_unnamed(struct engine *e, unsigned type)
{
	struct page *page;

	for (u64 at = 0; (page = swap_next_unnamed(&e->swap, type, &at)); at++) {
		page_lock(page);
		if (page_test(page, PG_SWAPCACHE) && swp_type(page->swap) == type &&
		    !swap_drop_kept(e, page))
			writeout_drop(e, page);
		page_unlock(page);
		page_put(e, page);
	}
}

int swap_area_off(struct engine *e, unsigned type)
{
	int err = 0;

	if (!swap_area_stop(&e->swap, type))
		return -EINVAL;
	while (!err && swap_area_used(&e->swap, type)) {
		err = unuse_spaces(e, type);
		if (!err)
			err = unuse_files(e, type);
		if (!err)
			drop_unnamed(e, type);
	}
	if (err)
		swap_area_start(&e->swap, type);
	else
		swap_area_free(e, type);
	return err;
}
