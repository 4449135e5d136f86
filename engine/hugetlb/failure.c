/* SPDX-License-Identifier: MIT */
/*
 * A frame of a pool's page has failed.
 *
 *   free         the page leaves the pool, if it is not promised
 *   of a file    all entries become markers; the page keeps its place, so that whoever looks for
 * the bytes there finds that they are lost, until the file is cut an area's    all entries become
 * markers, and with the last of them the page leaves the pool
 *
 * All of the page is lost to who has it mapped: it is mapped by one entry.
 *
 * The file, whose VMAs lead to the entries, is found by what the page says of it, which may be
 * out of date: it is looked for among the files that there are, and the page looked at again when
 * the file's lock is held.  With that lock no fault maps it again.
 */
#include "engine/hugetlb/internal.h"

/* The file, with a reference, if it is still one. */
static struct address_space *get_mapping(struct engine *e, const struct address_space *wanted)
{
	struct address_space *m, *found = NULL;

	spin_lock(&e->mappings_lock);
	list_for_each_entry (m, &e->mappings, link) {
		u32 refs = atomic_load(&m->refcount);

		if (m != wanted)
			continue;
		while (refs && !atomic_compare_exchange_weak(&m->refcount, &refs, refs + 1))
			;
		found = refs ? m : NULL;
		break;
	}
	spin_unlock(&e->mappings_lock);
	return found;
}

/* A marker in place of the VMA's entry, if that maps the page. */
static void poison_entry(struct vma *vma, u64 va, const struct hstate *h, struct page *page)
{
	struct engine *e = vma->mm->engine;
	bool gone = false;
	spinlock_t *ptl;
	pte_t *ptep = huge_pte_find(h, vma->mm, va, &ptl), pte;

	if (!ptep)
		return;
	spin_lock(ptl);
	pte = pte_read(ptep);
	if (pte_mapped(pte) && pte_pfn(pte) == page_pfn(e, page)) {
		huge_pte_clear(vma, va, ptep, pte_make_marker(PTE_MARKER_HWPOISON));
		gone = true;
	}
	spin_unlock(ptl);
	if (!gone)
		return;
	e->mmu->flush(vma->mm, va, va + huge_page_size(h));
	page_put(e, page);
}

static void poison_entries(struct address_space *m, struct page *page)
{
	const struct hstate *h = hugetlb_inode(m)->h;
	u64 pgoff = page->index << h->order;
	struct interval_node *node;

	down_read(&m->i_mmap_lock);
	for (node = interval_first(&m->i_mmap, pgoff, pgoff + 1); node;
	     node = interval_next(node, pgoff, pgoff + 1)) {
		struct vma *vma = container_of(node, struct vma, shared);

		poison_entry(vma, vma->start + ((pgoff - vma->pgoff) << PAGE_SHIFT), h, page);
	}
	up_read(&m->i_mmap_lock);
}

/* invalidate_lock held for writing, and a reference to the page. */
static int fail_page(struct address_space *m, struct page *page, struct page *frame)
{
	if (huge_page_mapping(page) != m)
		return -EBUSY;
	if (page_set_hwpoison(m->engine, frame))
		return -EHWPOISON;
	/* fork makes new entries, from one that there is: the last goes in the end. */
	while (page_mapcount(page))
		poison_entries(m, page);
	return 0;
}

int hugetlb_memory_failure(struct engine *e, struct page *frame)
{
	struct page *page = page_head(frame);
	struct address_space *m;
	int err = -EBUSY;

	if (!page_tryget(page))
		return hugetlb_retire_free(page_hstate(e, page), frame);
	m = get_mapping(e, huge_page_mapping(page));
	if (m && mapping_is_hugetlb(m)) {
		down_write(&m->invalidate_lock);
		err = fail_page(m, page, frame);
		up_write(&m->invalidate_lock);
	}
	page_put(e, page);
	if (m)
		mapping_put(m);
	return err;
}

struct page *hugetlb_get_frame(const struct vma *vma, u64 va)
{
	const struct hstate *h = hstate_vma(vma);
	struct engine *e = vma->mm->engine;
	struct page *page = NULL;
	spinlock_t *ptl;
	pte_t *ptep = huge_pte_find(h, vma->mm, va & huge_page_mask(h), &ptl), pte;

	if (!ptep)
		return NULL;
	spin_lock(ptl);
	pte = pte_read(ptep);
	if (pte_present(pte)) {
		page = pfn_page(e, pte_pfn(pte));
		page_get(page);
		page += (va & ~huge_page_mask(h)) >> PAGE_SHIFT;
	}
	spin_unlock(ptl);
	return page;
}
