/* SPDX-License-Identifier: MIT */
/* Pages that everybody changes as he likes, and frames that are taken from under all. */
#include "engine/migrate/migrate.h"
#include "tests/soak/threads.h"

_Atomic u64 migrated;

void touch_scratch(struct worker *k)
{
	u64 tag = ~0ULL - k->number, va, word = 0;
	enum fault_reason reason;

	if (below(k, 2))
		va = SCRATCH + P(below(k, SCRATCH_PAGES));
	else
		va = FILE_AT(below(k, FILES)) + P(KEPT_PAGES + below(k, FILE_PAGES - KEPT_PAGES));
	va = word_at(k, va);
	if (below(k, 2))
		reason = soft_write_u64(k->cpu, va, tag);
	else
		reason = soft_read_u64(k->cpu, va, &word);
	if (reason == FAULT_BUS)
		k->buses++;
	else if (reason == FAULT_MAPERR || reason == FAULT_ACCERR)
		k->refused++;
	else if (reason != FAULT_OK)
		DIE(k, "scratch at %lx: reason %d", (unsigned long)va, reason);
	if (word && word != tag)
		expect_word(k, "scratch", va, word, tag);
}

void change_scratch(struct worker *k)
{
	static const u64 advice[] = { UAPI_MADV_DONTNEED,   UAPI_MADV_DONTNEED,
				      UAPI_MADV_WIPEONFORK, UAPI_MADV_KEEPONFORK,
				      UAPI_MADV_DONTFORK,   UAPI_MADV_DOFORK };
	static const u64 prots[] = { RW, RW, UAPI_PROT_READ, UAPI_PROT_NONE };
	struct mm *mm = spaces[k->space];
	unsigned page = below(k, SCRATCH_PAGES), n = 1 + below(k, 16), index;
	u64 va = SCRATCH + P(page), to;
	u64 flags = below(k, 2) ? UAPI_MAP_PRIVATE : UAPI_MAP_SHARED;
	u8 there[16];

	n = min_of(n, SCRATCH_PAGES - page);
	to = SCRATCH + P(below(k, SCRATCH_PAGES - n + 1));
	index = KEPT_PAGES + below(k, FILE_PAGES - KEPT_PAGES);
	switch (below(k, 7)) {
	case 0:
		do_mmap(mm, va, P(n), RW, flags | UAPI_MAP_FIXED | UAPI_MAP_ANONYMOUS, NULL, 0);
		break;
	case 1:
		do_mmap(mm, va, P(n), RW, flags | UAPI_MAP_FIXED, files[below(k, FILES)], P(index));
		break;
	case 2:
		vm_unmap(mm, va, P(n));
		break;
	case 3:
		do_mprotect(mm, va, P(n), prots[below(k, 4)]);
		break;
	case 4:
		do_mremap(mm, va, P(n), P(n), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, to);
		break;
	case 5:
		do_mincore(mm, va, P(n), there);
		break;
	default:
		do_madvise(mm, va, P(n), advice[below(k, 6)]);
	}
}

/* ---- frames ---- */

void reclaim(struct worker *k)
{
	unsigned page = below(k, COUNTED_PAGES);

	switch (below(k, 4)) {
	case 0:
		reclaim_range(spaces[k->space], COUNTED + P(page), COUNTED + P(COUNTED_PAGES));
		break;
	case 1:
		reclaim_range(spaces[k->space], OWN, OWN + P(CPUS * OWN_PAGES));
		break;
	case 2:
		reclaim_direct(w.e, 1 + below(k, 8));
		break;
	default:
		reclaim_step(w.e, 1 + below(k, 8));
	}
}

static struct page *spare_frame(struct engine *e, const struct page *page, void *arg)
{
	(void)page;
	(void)arg;
	return page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE);
}

void migrate(struct worker *k)
{
	const struct zone *z = &w.e->zones[ZONE_USER];
	struct migrate_target spare = { .get = spare_frame };
	enum { MOST = 4 };
	struct page *pages[MOST];
	int status[MOST];
	unsigned n = 0;

	for (unsigned i = 0; i < 4 * MOST && n < MOST; i++) {
		struct page *page = pfn_page(w.e, z->start_pfn + below(k, z->nr));

		if (migrate_get(w.e, page))
			pages[n++] = page;
	}
	atomic_fetch_add(&migrated,
			 migrate_pages(w.e, pages, n, &spare,
				       below(k, 2) ? MIGRATE_SYNC : MIGRATE_ASYNC, status));
}
