/* SPDX-License-Identifier: MIT */
/* Every invariant of the page cache.  Slow; nobody else is active. */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/shared_policy.h"
#include "engine/backing/shmem.h"
#include "engine/base/text.h"
#include "engine/engine.h"

#define CHECK(what, ...)                                                                           \
	do {                                                                                       \
		if (!(what))                                                                       \
			vmf_panic("page_cache_check: " __VA_ARGS__);                               \
	} while (0)

#define ul(x) ((unsigned long)(x))

/* Entries that map the page, by the VMAs that the file knows. */
static s32 count_entries(struct address_space *m, struct page *page)
{
	u64 pfn = page_pfn(m->engine, page), index = page->index;
	struct interval_node *node;
	s32 n = 0;

	for (node = interval_first(&m->i_mmap, index, index + 1); node;
	     node = interval_next(node, index, index + 1)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 va = vma->start + ((index - vma->pgoff) << PAGE_SHIFT);
		spinlock_t *ptl;
		pte_t *ptep = pte_find(vma->mm, va, &ptl);
		pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

		CHECK(vma->file && vma->file->mapping == m, "VMA %lx is of another file",
		      ul(vma->start));
		CHECK(node->start == vma->pgoff &&
			      node->end - node->start == (vma->end - vma->start) >> PAGE_SHIFT,
		      "VMA %lx lies elsewhere in the file's tree", ul(vma->start));
		n += pte_mapped(pte) && !pte_special(pte) && pte_pfn(pte) == pfn;
	}
	return n;
}

static void check_page(struct address_space *m, struct page *page, u64 index)
{
	u32 flags = atomic_load(&page->flags), refs = atomic_load(&page->refcount);
	s32 mapped = atomic_load(&page->mapcount);

	CHECK(page->mapping == m && page->index == index, "page %lu of %s is elsewhere by itself",
	      ul(index), m->ops->name);
	CHECK((flags & (PG_FILE | PG_UPTODATE | PG_LRU)) == (PG_FILE | PG_UPTODATE | PG_LRU) &&
		      !(flags & (PG_LOCKED | PG_ISOLATED | PG_WRITEBACK | PG_SWAPCACHE | PG_BUDDY)),
	      "page %lu of %s: flags %x", ul(index), m->ops->name, flags);
	CHECK(mapped == count_entries(m, page), "page %lu of %s: mapped %d times, counted %d",
	      ul(index), m->ops->name, count_entries(m, page), mapped);
	CHECK(refs == 1 + (u32)mapped, "page %lu of %s: %u references, mapped %d times", ul(index),
	      m->ops->name, refs, mapped);
	CHECK(!!(flags & PG_DIRTY) == radix_marked(&m->pages, index),
	      "page %lu of %s: its dirty mark is wrong", ul(index), m->ops->name);
	/* A write that copied nothing leaves its page, unmapped, just behind the end. */
	CHECK(index < mapping_size_pages(m) + !mapped, "page %lu of %s lies behind its end",
	      ul(index), m->ops->name);
}

static s32 count_writable(struct address_space *m)
{
	struct interval_node *node;
	s32 n = 0;

	for (node = interval_first(&m->i_mmap, 0, ~0ULL); node;
	     node = interval_next(node, 0, ~0ULL))
		n += vma_may_write_file(container_of(node, struct vma, shared)->flags);
	return n;
}

static void check_mapping(struct address_space *m, u64 *pages, u64 *swapped, u64 *shadows)
{
	u64 nr_pages = 0, nr_swapped = 0, nr_dirty = 0, nr_shadows = 0;
	struct engine *e = m->engine;
	void *item;

	CHECK(!rwsem_is_locked(&m->i_rwsem) && !rwsem_is_locked(&m->invalidate_lock) &&
		      !rwsem_is_locked(&m->i_mmap_lock) && !spin_is_locked(&m->tree_lock),
	      "a lock of a file is held");
	CHECK(m->i_mmap_writable == (m->i_mmap_writable < 0 ? -1 : count_writable(m)),
	      "%s: %d mappings may write; counted %d", m->ops->name, count_writable(m),
	      m->i_mmap_writable);
	CHECK(m->i_mmap_writable >= 0 || (!count_writable(m) && (m->seals & MEMFD_SEAL_WRITE)),
	      "%s: writing is denied, and %d mappings may", m->ops->name, count_writable(m));
	if (mapping_swaps(m))
		shared_policy_check(shmem_policy(m));
	if (m->ops->check) {
		m->ops->check(m);
		return;
	}
	for (u64 index = 0; (item = radix_next(&m->pages, &index)); index++) {
		u64 slot = radix_to_value(item);

		if (!radix_is_value(item)) {
			check_page(m, item, index);
			nr_pages++;
			nr_dirty += !!page_test(item, PG_DIRTY);
			continue;
		}
		CHECK(index < mapping_size_pages(m),
		      "page %lu, which has gone, lies behind the end", ul(index));
		if (!mapping_swaps(m)) {
			nr_shadows++;
			continue;
		}
		nr_swapped++;
		CHECK(swap_slot_in_use(&e->swap, slot) && swap_slot(&e->swap, slot)->count == 1 &&
			      swap_slot(&e->swap, slot)->saved && !swap_slot(&e->swap, slot)->page,
		      "swapped page %lu: the bytes of slot %lu are not its own", ul(index),
		      ul(slot));
	}
	CHECK(nr_pages == m->nr_pages && nr_swapped == m->nr_swapped && nr_dirty == m->nr_dirty,
	      "%s: %lu pages, %lu dirty, %lu swapped; counted %lu, %lu, %lu", m->ops->name,
	      ul(nr_pages), ul(nr_dirty), ul(nr_swapped), ul(m->nr_pages), ul(m->nr_dirty),
	      ul(m->nr_swapped));
	CHECK(nr_shadows == m->nr_shadows, "%s: %lu shadows; counted %lu", m->ops->name,
	      ul(nr_shadows), ul(m->nr_shadows));
	*pages += nr_pages;
	*swapped += nr_swapped;
	*shadows += nr_shadows;
}

u64 page_cache_check(struct engine *e, u64 *swapped)
{
	struct address_space *m;
	u64 pages = 0, shadows = 0, dirty = 0;

	*swapped = 0;
	list_for_each_entry (m, &e->mappings, link) {
		check_mapping(m, &pages, swapped, &shadows);
		if (m->ops->write_page) {
			CHECK(!m->nr_dirty || m->dirtied_when, "%s is dirty and not listed",
			      m->ops->name);
			dirty += m->nr_dirty;
		}
	}
	CHECK(dirty == e->flusher.nr_dirty, "%lu pages of files are dirty; counted %lu", ul(dirty),
	      ul(e->flusher.nr_dirty));
	CHECK(shadows == e->nr_shadows, "%lu shadows; counted %lu", ul(shadows), ul(e->nr_shadows));
	return pages;
}
