/* SPDX-License-Identifier: MIT */
/* Every invariant of pools, promises and what maps their pages.  Slow; nobody else is active. */
#include "engine/base/text.h"
#include "engine/hugetlb/internal.h"

#define CHECK(what, ...)                                                                           \
	do {                                                                                       \
		if (!(what))                                                                       \
			vmf_panic("hugetlb_check: " __VA_ARGS__);                                  \
	} while (0)

#define ul(x) ((unsigned long)(x))

void hugetlb_check_entry(const struct vma *vma, u64 va, pte_t pte)
{
	const struct hstate *h = hstate_vma(vma);
	struct engine *e = vma->mm->engine;
	struct page *page = pfn_page(e, pte_pfn(pte));
	u64 allowed = vma_pte_bits(vma), index = huge_index(h, vma, va);
	u32 flags = atomic_load(&page->flags);

	CHECK(!(va & ~huge_page_mask(h)) && page_hstate(e, page) == h,
	      "entry at %lx maps a page of another size", ul(va));
	CHECK((flags & (PG_HUGETLB | PG_HEAD)) == (PG_HUGETLB | PG_HEAD) &&
		      !(flags & (PG_LRU | PG_LOCKED | PG_RESTORE_RESERVE | PG_SWAPCACHE)),
	      "entry at %lx: page with flags %x", ul(va), flags);
	CHECK(index == page->index, "entry at %lx: page of index %lu", ul(va), ul(page->index));
	CHECK(index < mapping_size(vma->file->mapping) >> huge_page_shift(h),
	      "entry at %lx lies behind the end of its file", ul(va));
	CHECK(pte_present(pte) == !!(allowed & PTE_PRESENT), "entry at %lx: PROT_NONE is wrong",
	      ul(va));
	CHECK(!pte_write(pte) || (allowed & PTE_WRITE), "entry at %lx allows writing", ul(va));
	CHECK(pte_nx(pte) || !(allowed & PTE_NX), "entry at %lx allows fetching", ul(va));
	CHECK(atomic_load(&page->refcount) == (u32)page_mapcount(page) + !!(flags & PG_FILE),
	      "entry at %lx: %u references, mapped %d times", ul(va), atomic_load(&page->refcount),
	      (int)page_mapcount(page));
	if (flags & PG_FILE) {
		CHECK(page->mapping == vma->file->mapping, "entry at %lx maps another file's page",
		      ul(va));
		CHECK(!pte_write(pte) || (vma->flags & VM_SHARED),
		      "entry at %lx of a private area may write to the file", ul(va));
		return;
	}
	CHECK(!(vma->flags & VM_MAYSHARE), "entry at %lx of a shared area: a page of its own",
	      ul(va));
	CHECK(!(flags & PG_ANON_EXCLUSIVE) || page_mapcount(page) == 1,
	      "entry at %lx: exclusive, and mapped %d times", ul(va), (int)page_mapcount(page));
	CHECK(!pte_write(pte) || (flags & PG_ANON_EXCLUSIVE),
	      "entry at %lx allows writing to a page that is not exclusive", ul(va));
}

/* Entries that map the page, by the VMAs that the file knows. */
static s32 count_entries(const struct hstate *h, struct address_space *m, const struct page *page)
{
	u64 pgoff = page->index << h->order;
	struct interval_node *node;
	s32 n = 0;

	for (node = interval_first(&m->i_mmap, pgoff, pgoff + 1); node;
	     node = interval_next(node, pgoff, pgoff + 1)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 va = vma->start + ((pgoff - vma->pgoff) << PAGE_SHIFT);
		spinlock_t *ptl;
		pte_t *ptep = huge_pte_find(h, vma->mm, va, &ptl);
		pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

		n += pte_mapped(pte) && pte_pfn(pte) == page_pfn(m->engine, page);
	}
	return n;
}

void hugetlb_check_file(struct address_space *m)
{
	struct hugetlb_inode *inode = hugetlb_inode(m);
	struct page *page;
	u64 n = 0;

	for (u64 index = 0; (page = radix_next(&m->pages, &index)); index++, n++) {
		CHECK(page->mapping == m && page->index == index && page_test(page, PG_FILE) &&
			      is_of_pool(page),
		      "page %lu of a file is elsewhere by itself", ul(index));
		CHECK(index < mapping_size(m) >> huge_page_shift(inode->h),
		      "page %lu lies behind its file's end", ul(index));
		CHECK(page_mapcount(page) == count_entries(inode->h, m, page),
		      "page %lu of a file: mapped %d times, counted %d", ul(index),
		      count_entries(inode->h, m, page), (int)page_mapcount(page));
		CHECK(region_count(inode->resv, index, index + 1),
		      "page %lu of a file is not in its map", ul(index));
	}
	CHECK(n == inode->nr_pages, "%lu pages in a file, %lu counted", ul(n), ul(inode->nr_pages));
	CHECK(!m->nr_pages && !m->nr_dirty && !m->nr_swapped,
	      "a file's huge pages are in the cache");
}

/* What the file and the private areas of it were promised and have not used. */
static u64 promised(struct hstate *h, struct address_space *m)
{
	struct hugetlb_inode *inode = hugetlb_inode(m);
	struct interval_node *node;
	u64 n = region_count(inode->resv, 0, ~0ULL) - inode->nr_pages;

	for (node = interval_first(&m->i_mmap, 0, ~0ULL); node;
	     node = interval_next(node, 0, ~0ULL)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 from = huge_index(h, vma, vma->start), to = huge_index(h, vma, vma->end);

		if (vma->resv)
			n += to - from - region_count(vma->resv, from, to);
	}
	return n;
}

void hugetlb_check(struct engine *e)
{
	u64 resv[NR_HSTATES] = { 0 };
	struct address_space *m;

	hugetlb_check_pools(e);
	list_for_each_entry (m, &e->mappings, link)
		if (mapping_is_hugetlb(m))
			resv[hugetlb_inode(m)->h - e->hstates] += promised(hugetlb_inode(m)->h, m);
	for (unsigned i = 0; i < NR_HSTATES; i++)
		CHECK(resv[i] == e->hstates[i].n.resv, "%lu pages are promised, %lu counted",
		      ul(resv[i]), ul(e->hstates[i].n.resv));
}
