/* SPDX-License-Identifier: MIT */
/* The invariants of CortenMM: what is found in the tables is what is counted. */
#include <stdlib.h>

#include "engine/base/text.h"
#include "systems/corten/calls.h"

/* In the tables of one space. */
struct found {
	struct corten *c;
	s64 mapped, swapped;
	u32 *entries; /* [nr_user]: of all spaces, that map the frame */
};

static int find_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct found *f = arg;

	(void)cur, (void)va, (void)n;
	f->swapped += meta->slot && !(ptep && pte_mapped(pte_read(ptep)));
	if (ptep && pte_mapped(pte_read(ptep))) {
		f->mapped++;
		f->entries[pte_pfn(pte_read(ptep)) - f->c->machine->nr_table]++;
	}
	return 0;
}

static u64 check_space(struct found *f, struct corten_space *s)
{
	struct corten_cursor cur;

	f->mapped = f->swapped = 0;
	corten_lock(&cur, s, f->c->machine->nr_cpus, CORTEN_LOW, CORTEN_HIGH);
	corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, find_record, f);
	corten_unlock(&cur);
	if (f->mapped != atomic_load(&s->rss) || f->swapped != atomic_load(&s->swapped))
		vmf_panic("corten: %ld pages are mapped and %ld in slots, counted are %ld and %ld",
			  (long)f->mapped, (long)f->swapped, (long)atomic_load(&s->rss),
			  (long)atomic_load(&s->swapped));
	return corten_check_tables(s);
}

void corten_do_check(struct program *p)
{
	struct corten *c = corten_of_program(p);
	struct engine *e = &c->machine->engine;
	struct found f = { .c = c, .entries = calloc(c->machine->nr_user, sizeof(u32)) };
	u64 tables = 0;

	for (unsigned i = 0; f.entries && i < PROGRAM_PROCESSES; i++)
		if (c->spaces[i])
			tables += check_space(&f, c->spaces[i]);
	if (tables != atomic_load(&c->tables.nr_tables))
		vmf_panic("corten: %lu tables are in trees, %lu are there", (unsigned long)tables,
			  (unsigned long)atomic_load(&c->tables.nr_tables));
	for (u64 i = 0; i < c->machine->nr_user; i++) {
		const struct page *page = pfn_page(e, c->machine->nr_table + i);

		if ((u32)page_mapcount(page) != f.entries[i] ||
		    atomic_load(&page->refcount) < f.entries[i])
			vmf_panic("corten: frame %lu is mapped %u times, and counts %d",
				  (unsigned long)i, f.entries[i], page_mapcount(page));
	}
	free(f.entries);
	soft_check_tlbs(c->machine);
}
