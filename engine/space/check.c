/* SPDX-License-Identifier: MIT */
/* Every invariant of a space.  Slow; nobody else is active. */
#include "engine/backing/dax.h"
#include "engine/backing/page_cache.h"
#include "engine/base/text.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

#define CHECK(what, ...)                                                                           \
	do {                                                                                       \
		if (!(what))                                                                       \
			vmf_panic("mm_check: " __VA_ARGS__);                                       \
	} while (0)

#define ul(x) ((unsigned long)(x))

static const struct vma *node_vma(const struct rb_node *n)
{
	return n ? container_of(n, struct vma, node) : NULL;
}

static u64 check_holes(const struct rb_node *node)
{
	const struct vma *vma = node_vma(node);
	u64 largest;

	if (!node)
		return 0;
	largest =
		max_of(vma->hole_before, max_of(check_holes(node->left), check_holes(node->right)));
	CHECK(vma->largest_hole == largest, "largest hole of VMA %lx is wrong", ul(vma->start));
	return largest;
}

static const struct anon_vma_chain *link_to(const struct vma *vma, const struct anon_vma *av)
{
	const struct anon_vma_chain *link = vma->anon_vma_chain;

	while (link && link->anon_vma != av)
		link = link->next;
	return link;
}

/* In the tree of each anon_vma that it is linked into, which are its own and all above that. */
static void check_links(const struct vma *vma)
{
	const struct anon_vma *av = vma->anon_vma;

	CHECK(!av == !vma->anon_vma_chain, "VMA %lx is linked and has no anon_vma", ul(vma->start));
	CHECK(!av || link_to(vma, av), "VMA %lx is not linked into its anon_vma", ul(vma->start));
	for (const struct anon_vma_chain *l = vma->anon_vma_chain; l; l = l->next) {
		const struct anon_vma_chain *found = anon_vma_first(l->anon_vma, vma->pgoff);

		while (found && found != l)
			found = anon_vma_next((struct anon_vma_chain *)found, vma->pgoff);
		CHECK(found && l->vma == vma, "VMA %lx is not in its anon_vma", ul(vma->start));
		CHECK(l->anon_vma->root == av->root, "VMA %lx is in two families", ul(vma->start));
		CHECK(link_to(vma, l->anon_vma->parent), "VMA %lx is not in a parent anon_vma",
		      ul(vma->start));
		CHECK(!rwsem_is_locked(&l->anon_vma->lock), "anon_vma is locked");
	}
}

static void check_in_file(const struct vma *vma)
{
	const struct interval_node *node;

	if (!vma->file)
		return;
	node = interval_first(&vma->file->mapping->i_mmap, vma->pgoff, vma->pgoff + 1);
	while (node && node != &vma->shared)
		node = interval_next((struct interval_node *)node, vma->pgoff, vma->pgoff + 1);
	CHECK(node, "VMA %lx is not in its file's tree", ul(vma->start));
}

static void check_vma(const struct mm *mm, const struct vma *vma, const struct vma *prev)
{
	CHECK(PAGE_ALIGNED(vma->start) && PAGE_ALIGNED(vma->end) && vma->start < vma->end,
	      "VMA %lx-%lx is not a range of pages", ul(vma->start), ul(vma->end));
	CHECK(vma->start >= mm->low && vma->end <= mm->high, "VMA %lx-%lx is outside the space",
	      ul(vma->start), ul(vma->end));
	CHECK(!prev || prev->end <= vma->start, "VMA %lx and the one below overlap",
	      ul(vma->start));
	CHECK(!prev || mm->unmerged || !vma_mergeable(prev, vma),
	      "VMA %lx could merge with the one below", ul(vma->start));
	CHECK(vma->hole_before == vma->start - (prev ? prev->end : mm->low),
	      "hole below VMA %lx is wrong", ul(vma->start));
	CHECK(find_vma(mm, vma->start) == vma && find_vma(mm, vma->end - 1) == vma,
	      "VMA %lx is in the list and not in the tree", ul(vma->start));
	CHECK(!vma->detached && vma->mm == mm && atomic_load(&vma->refcount) == 1 &&
		      !rwsem_is_locked(&vma->lock),
	      "VMA %lx is detached, held or locked", ul(vma->start));
	CHECK(!(vma->flags & VM_UFFD) == !vma->uffd, "VMA %lx: its modes and its userfaultfd",
	      ul(vma->start));
	check_in_file(vma);
	check_links(vma);
}

struct seen {
	s64 rss, rss_file, swapped, tables, hugetlb;
};

static void check_page(struct mm *mm, const struct vma *vma, struct page *page, u64 va, bool huge)
{
	struct engine *e = mm->engine;
	s32 mapped = page_mapcount(page);
	bool cached = page_test(page, PG_SWAPCACHE);
	bool exclusive = page_test(page, PG_ANON_EXCLUSIVE);

	CHECK(mapped > 0 && (!exclusive || mapped == 1), "page at %lx: map count is %d", ul(va),
	      (int)mapped);
	CHECK(atomic_load(&page->refcount) == (u32)mapped + cached, "page at %lx: %u references",
	      ul(va), atomic_load(&page->refcount));
	CHECK(page_test(page, PG_LRU), "page at %lx is on no list", ul(va));
	CHECK(!page_test(page, PG_LOCKED | PG_ISOLATED | PG_WRITEBACK | PG_TABLE | PG_BUDDY),
	      "page at %lx: flags %x", ul(va), atomic_load(&page->flags));
	CHECK(link_to(vma, page->anon_vma), "page at %lx: wrong anon_vma", ul(va));
	CHECK(!page_test(page, PG_TAIL) && page_test(page, PG_HEAD) == huge,
	      "page at %lx: flags %x in %s entry", ul(va), atomic_load(&page->flags),
	      huge ? "a huge" : "an");
	CHECK(page->index == vma->pgoff + ((va - vma->start) >> PAGE_SHIFT),
	      "page at %lx: wrong index", ul(va));
	if (cached) {
		const struct swap_slot *slot = swap_slot(&e->swap, page->swap.v);

		CHECK(slot->page == page && slot->kept == (slot->count == 1),
		      "page at %lx: its kept copy is none", ul(va));
		CHECK(!exclusive || slot->count == 1, "page at %lx: exclusive and swapped out",
		      ul(va));
	}
}

/* What engine_check() and page_cache_check() cannot see from the file's side. */
static void check_file_entry(const struct vma *vma, u64 va, pte_t pte, struct page *page)
{
	u64 pgoff = vma->pgoff + ((va - vma->start) >> PAGE_SHIFT);
	u64 allowed = vma_file_pte_bits(vma, true);

	CHECK(vma->file && page->mapping == vma->file->mapping && page->index == pgoff,
	      "entry at %lx maps a page of another file or place", ul(va));
	CHECK(!pte_write(pte) || (allowed & PTE_WRITE), "entry at %lx allows writing", ul(va));
	CHECK(!pte_dirty(pte) || !vma_wants_writenotify(vma) || page_test(page, PG_DIRTY),
	      "entry at %lx is dirty, and its file does not know", ul(va));
	CHECK(!pte_write(pte) || !vma_wants_writenotify(vma) || page_test(page, PG_DIRTY),
	      "entry at %lx may be written, and its file does not know", ul(va));
}

static void check_rights(const struct vma *vma, u64 va, pte_t pte)
{
	u64 allowed = vma_pte_bits(vma);

	/* That nobody may access it may be a question to who does (fault/numa.c). */
	CHECK(pte_present(pte) == !!(allowed & PTE_PRESENT) ||
		      (vma->mm->engine->numa.nr > 1 && pte_protnone(pte)),
	      "entry at %lx: PROT_NONE is wrong", ul(va));
	CHECK(!pte_write(pte) || (allowed & PTE_WRITE), "entry at %lx allows writing", ul(va));
	CHECK(pte_nx(pte) || !(allowed & PTE_NX), "entry at %lx allows fetching", ul(va));
}

static void check_entry(struct mm *mm, u64 va, pte_t pte, struct seen *seen)
{
	struct engine *e = mm->engine;
	const struct vma *vma = find_vma(mm, va);
	struct page *page;

	CHECK(vma && vma->start <= va, "entry at %lx and no VMA", ul(va));
	if (pte_is_marker(pte))
		return;
	CHECK(!vma->file || vma->pgoff + ((va - vma->start) >> PAGE_SHIFT) <
				    mapping_size_pages(vma->file->mapping),
	      "entry at %lx lies behind the end of its file", ul(va));
	if (pte_is_swap(pte)) {
		u64 nr = pte_to_swp(pte).v;

		CHECK(swap_slot_in_use(&e->swap, nr), "entry at %lx: slot %lu is free", ul(va),
		      ul(nr));
		CHECK(swap_slot(&e->swap, nr)->saved || swap_slot(&e->swap, nr)->page,
		      "entry at %lx: the bytes of slot %lu are nowhere", ul(va), ul(nr));
		CHECK(!swap_slot(&e->swap, nr)->kept, "entry at %lx: slot %lu is a kept copy",
		      ul(va), ul(nr));
		seen->swapped++;
		return;
	}
	check_rights(vma, va, pte);
	if (pte_special(pte) && vma_is_dax(vma) && pte_pfn(pte) != e->zero_pfn) {
		bool made;
		u64 pfn;

		dax_get_block(vma->file->mapping, vma->pgoff + ((va - vma->start) >> PAGE_SHIFT),
			      false, &pfn, &made);
		CHECK(pfn == pte_pfn(pte), "entry at %lx maps a block that is not its own", ul(va));
		CHECK(!pte_write(pte) ||
			      dax_is_marked(vma->file->mapping,
					    vma->pgoff + ((va - vma->start) >> PAGE_SHIFT)),
		      "entry at %lx may write, and no sync would notice", ul(va));
		CHECK(!pte_write(pte) || (vma->flags & VM_SHARED),
		      "entry at %lx of a private area may write to a block", ul(va));
		return;
	}
	if (pte_special(pte)) {
		CHECK(pte_pfn(pte) == e->zero_pfn && !pte_write(pte),
		      "entry at %lx is special and not the zero page, read-only", ul(va));
		return;
	}
	page = pfn_page(e, pte_pfn(pte));
	seen->rss++;
	if (page_test(page, PG_FILE)) {
		seen->rss_file++;
		check_file_entry(vma, va, pte, page);
		return;
	}
	check_page(mm, vma, page, va, false);
	CHECK(!pte_write(pte) || page_test(page, PG_ANON_EXCLUSIVE),
	      "entry at %lx allows writing to a page that is not exclusive", ul(va));
}

/* A huge entry in an area of persistent memory. */
static void check_huge_dax(const struct vma *vma, u64 va, pte_t pmd)
{
	struct address_space *m = vma->file->mapping;
	u64 index = vma->pgoff + ((va - vma->start) >> PAGE_SHIFT), pfn;
	bool made;
	enum dax_range range = dax_get_range(m, index, false, &pfn, &made);

	CHECK(pte_special(pmd) && index % HUGE_PAGES == 0 &&
		      index + HUGE_PAGES <= mapping_size_pages(m),
	      "huge entry at %lx is none of a device's, or of 2 MiB of its file", ul(va));
	if (pmd_is_huge_zero(m->engine, pmd)) {
		CHECK(range == DAX_HOLE && !pte_write(pmd),
		      "huge entry at %lx maps zeros, and there is a block, or may write", ul(va));
		return;
	}
	CHECK(range == DAX_RUN && pfn == pte_pfn(pmd),
	      "huge entry at %lx maps blocks that are not its own", ul(va));
	CHECK(!pte_write(pmd) || ((vma->flags & VM_SHARED) && dax_is_marked(m, index)),
	      "huge entry at %lx may write, and is private or no sync would notice", ul(va));
}

/* A huge entry lies within a VMA, and maps a whole compound page, or zeros. */
static void check_huge(struct mm *mm, u64 va, pte_t pmd, struct seen *seen)
{
	struct engine *e = mm->engine;
	const struct vma *vma = find_vma(mm, va);
	struct page *page = pfn_page(e, pte_pfn(pmd));

	CHECK(pmd_is_huge(pmd), "entry of a PMD table at %lx is %lx", ul(va), ul(pmd.v));
	if (is_of_pool(page)) {
		CHECK(vma && vma->start <= va && is_vm_hugetlb(vma),
		      "huge entry at %lx of a pool, and no VMA for that", ul(va));
		hugetlb_check_entry(vma, va, pmd);
		seen->hugetlb += (s64)page_frames(page);
		return;
	}
	CHECK(vma && vma->start <= va && vma->end >= va + PMD_SIZE &&
		      (!vma->file || vma_is_dax(vma)),
	      "huge entry at %lx is not within a VMA", ul(va));
	check_rights(vma, va, pmd);
	if (vma->file) {
		check_huge_dax(vma, va, pmd);
		return;
	}
	if (pte_special(pmd)) {
		CHECK(page == e->huge_zero && !pte_write(pmd),
		      "huge entry at %lx is special and not the zero page, read-only", ul(va));
		return;
	}
	CHECK(page->order == HUGE_ORDER, "huge entry at %lx maps a page of order %u", ul(va),
	      page->order);
	for (unsigned i = 1; i < HUGE_PAGES; i++)
		CHECK(page_head(page + i) == page && !atomic_load(&page[i].refcount),
		      "frame %u of the huge page at %lx is not its own", i, ul(va));
	seen->rss += HUGE_PAGES;
	check_page(mm, vma, page, va, true);
	CHECK(!pte_write(pmd) || page_test(page, PG_ANON_EXCLUSIVE),
	      "huge entry at %lx allows writing to a page that is not exclusive", ul(va));
}

/* Each huge entry of a PMD table has a spare one. */
static void check_spares(const struct page *table, u64 va, u64 huge, struct seen *seen)
{
	u64 n = 0;

	for (const struct page *spare = table->spare; spare; spare = spare->spare)
		n++;
	CHECK(n == huge, "%lu huge entries in the table of %lx, and %lu spare tables", ul(huge),
	      ul(va), ul(n));
	seen->tables += (s64)n;
}

static void check_table(struct mm *mm, const pte_t *table, unsigned level, u64 va,
			struct seen *seen)
{
	struct engine *e = mm->engine;
	const struct zone *z = &e->zones[ZONE_TABLE];

	/* The upper half of the root is the kernel's, whose tables are no space's. */
	unsigned n = level == 4 ? PTRS_PER_TABLE / 2 : PTRS_PER_TABLE;

	u64 huge = 0;

	seen->tables++;
	for (unsigned i = 0; i < n; i++) {
		u64 at = va + ((u64)i << (PAGE_SHIFT + 9 * (level - 1)));
		pte_t pte = pte_read(&table[i]);

		/* (A marker above the last level is of huge pages of a pool.) */
		if (pte_none(pte) || (level > 1 && pte_is_marker(pte)))
			continue;
		if (level == 1) {
			check_entry(mm, at, pte, seen);
			continue;
		}
		if ((level == 2 || level == 3) && pte_huge(pte)) {
			huge += !is_of_pool(pfn_page(e, pte_pfn(pte)));
			check_huge(mm, at, pte, seen);
			continue;
		}
		CHECK(pte_present(pte) && page_test(pfn_page(e, pte_pfn(pte)), PG_TABLE),
		      "table for %lx is none", ul(at));
		check_table(mm,
			    (const pte_t *)((char *)z->direct_map +
					    ((pte_pfn(pte) - z->start_pfn) << PAGE_SHIFT)),
			    level - 1, at, seen);
	}
	if (level == 2)
		check_spares(pfn_page(e, z->start_pfn + (((const char *)table -
							  (const char *)z->direct_map) >>
							 PAGE_SHIFT)),
			     va, huge, seen);
}

/* What the space is said to have is what its areas are. */
static void check_totals(const struct mm *mm)
{
	struct mm sum = { 0 };
	const struct vma *vma;

	list_for_each_entry (vma, &mm->vmas, link)
		vm_stat_account(&sum, vma->flags, (s64)vma_pages(vma));
	CHECK(sum.total_vm == mm->total_vm && sum.data_vm == mm->data_vm &&
		      sum.exec_vm == mm->exec_vm && sum.stack_vm == mm->stack_vm &&
		      sum.locked_vm + mm->locked_stale == mm->locked_vm,
	      "%lu pages of areas, %lu of them data; counted %lu and %lu", ul(sum.total_vm),
	      ul(sum.data_vm), ul(mm->total_vm), ul(mm->data_vm));
}

void mm_check(struct mm *mm)
{
	const struct vma *vma, *prev = NULL;
	const struct rb_node *node = rb_first(&mm->tree);
	struct seen seen = { 0 };
	u64 n = 0;

	CHECK(!rwsem_is_locked(&mm->mmap_lock), "mmap_lock is held");
	list_for_each_entry (vma, &mm->vmas, link) {
		CHECK(node_vma(node) == vma, "tree and list disagree at %lx", ul(vma->start));
		check_vma(mm, vma, prev);
		node = rb_next(node);
		prev = vma;
		n++;
	}
	CHECK(!node && n == mm->map_count, "%lu VMAs in the list, %lu counted", ul(n),
	      ul(mm->map_count));
	check_totals(mm);
	check_holes(mm->tree.node);
	check_table(mm, mm->pgd, 4, 0, &seen);
	CHECK(seen.rss == atomic_load(&mm->rss), "%lu pages mapped, rss is %lu", ul(seen.rss),
	      ul(atomic_load(&mm->rss)));
	CHECK(seen.rss_file == atomic_load(&mm->rss_file), "%lu pages of files mapped, %lu counted",
	      ul(seen.rss_file), ul(atomic_load(&mm->rss_file)));
	CHECK(seen.hugetlb == atomic_load(&mm->hugetlb_pages),
	      "%lu frames of pools mapped, %lu counted", ul(seen.hugetlb),
	      ul(atomic_load(&mm->hugetlb_pages)));
	CHECK(seen.swapped == atomic_load(&mm->swapped), "%lu swap entries, %lu counted",
	      ul(seen.swapped), ul(atomic_load(&mm->swapped)));
	CHECK(seen.tables == atomic_load(&mm->tables), "%lu tables, %lu counted", ul(seen.tables),
	      ul(atomic_load(&mm->tables)));
}
