/* SPDX-License-Identifier: MIT */
/* What there is in the arena of an engine's space, as /proc would tell it. */
#include <string.h>

#include "engine/space/huge.h"
#include "tests/differential/engine_side.h"

static u16 flags_of(const struct vma *vma)
{
	static const struct {
		u32 vm;
		u16 seen;
	} flags[] = {
		{ VM_MAYREAD, SEEN_MAYREAD },	    { VM_MAYWRITE, SEEN_MAYWRITE },
		{ VM_MAYEXEC, SEEN_MAYEXEC },	    { VM_MAYSHARE, SEEN_MAYSHARE },
		{ VM_GROWSDOWN, SEEN_GROWSDOWN },   { VM_LOCKED, SEEN_LOCKED },
		{ VM_SEQ_READ, SEEN_SEQUENTIAL },   { VM_RAND_READ, SEEN_RANDOM },
		{ VM_DONTCOPY, SEEN_DONTCOPY },	    { VM_DONTEXPAND, SEEN_DONTEXPAND },
		{ VM_ACCOUNT, SEEN_ACCOUNT },	    { VM_NORESERVE, SEEN_NORESERVE },
		{ VM_WIPEONFORK, SEEN_WIPEONFORK }, { VM_DONTDUMP, SEEN_DONTDUMP },
		{ VM_HUGEPAGE, SEEN_HUGEPAGE },	    { VM_NOHUGEPAGE, SEEN_NOHUGEPAGE },
	};
	u16 seen = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (vma->flags & flags[i].vm)
			seen |= flags[i].seen;
	return seen;
}

/* The flags are told in any case: it costs nothing here, and coverage is by them. */
static void fill_area(const struct engine_side *s, struct engine_objects *objects,
		      const struct vma *vma, struct seen_area *area)
{
	u64 start = max_of(vma->start, ARENA_BASE), end = min_of(vma->end, ARENA_END);

	memset(area, 0, sizeof(*area));
	area->start = (start - ARENA_BASE) >> PAGE_SHIFT;
	area->end = (end - ARENA_BASE) >> PAGE_SHIFT;
	area->perms = (vma->flags & VM_READ ? SEEN_READ : 0) |
		      (vma->flags & VM_WRITE ? SEEN_WRITE : 0) |
		      (vma->flags & VM_EXEC ? SEEN_EXEC : 0) |
		      (vma->flags & VM_MAYSHARE ? SEEN_SHARED : 0);
	area->flags = flags_of(vma);
	area->object = engine_object_of(s, objects, vma);
	area->pgoff = vma->file ? vma->pgoff + ((start - vma->start) >> PAGE_SHIFT) : 0;
}

/* The page that is mapped at va, if one is: false: none. */
static bool fill_page(struct engine *e, pte_t pte, struct seen_area *area, struct seen_page *seen)
{
	struct page *page = pfn_page(e, pte_pfn(pte));

	if (!pte_mapped(pte))
		return false;
	seen->state = SEEN_PRESENT;
	if (!pte_special(pte)) {
		if (page_mapcount(page_head(page)) == 1)
			seen->state |= SEEN_EXCLUSIVE;
		if (page_test(page, PG_FILE))
			seen->state |= SEEN_IS_FILE;
		area->rss++;
		area->anonymous += !page_test(page, PG_FILE);
		area->dirty +=
			pte_dirty(pte) || (page_test(page, PG_FILE) && page_test(page, PG_DIRTY));
	}
	seen->sum = area->perms & SEEN_READ ? page_sum(e->mmu->bytes(e, page)) : 0;
	return true;
}

static unsigned look_pages(struct mm *mm, struct seen_area *area, struct seen_page *pages)
{
	u64 va = ARENA_BASE + area->start * PAGE_SIZE, end = ARENA_BASE + area->end * PAGE_SIZE;
	unsigned n = 0;
	spinlock_t *ptl;
	bool huge;

	while (pmd_next(mm, &va, end, &ptl, &huge)) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		for (; va < stop; va += PAGE_SIZE) {
			pages[n] = (struct seen_page){ .page = (va - ARENA_BASE) >> PAGE_SHIFT };
			n += fill_page(mm->engine, pte_peek(mm, va), area, &pages[n]);
		}
	}
	return n;
}

bool engine_look(struct engine_side *s, unsigned process, struct record *rec, bool closely)
{
	struct trace *t = s->trace;
	struct observation *o = (struct observation *)(t->log + t->used);
	struct seen_area *areas = (struct seen_area *)(o + 1);
	struct mm *mm = s->processes[process].mm;
	struct engine_objects objects = { .n = 0 };
	struct seen_page *pages;
	struct vma *vma;

	if (t->used + OBSERVATION_MAX > LOG_SIZE)
		return false;
	memset(o, 0, sizeof(*o));
	o->process = process;
	for (vma = find_vma(mm, ARENA_BASE); vma && vma->start < ARENA_END; vma = vma_next(vma))
		fill_area(s, &objects, vma, &areas[o->nr_areas++]);
	pages = (struct seen_page *)(areas + o->nr_areas);
	for (unsigned i = 0; i < o->nr_areas; i++) {
		o->nr_pages += look_pages(mm, &areas[i], pages + o->nr_pages);
		if (!closely)
			areas[i].rss = areas[i].anonymous = areas[i].dirty = 0;
	}
	rec->seen = t->used;
	rec->looked = true;
	t->used += observation_size(o);
	return true;
}
