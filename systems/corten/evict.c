/* SPDX-License-Identifier: MIT */
/* What leaves a space of CortenMM: dropped by its program, or to make room. */
#include "systems/corten/calls.h"

void corten_drop_slot(struct corten *c, struct corten_meta *meta)
{
	if (meta->slot)
		corten_slot_refer(&c->memory, meta->slot - 1, -1);
	meta->slot = 0;
}

/* Whatever was written there is gone: it is as when it was allocated. */
void corten_drop_whole(struct corten *c, struct corten_cursor *cur, u64 va, pte_t *ptep,
		       struct corten_meta *meta)
{
	if (!ptep)
		return;
	if (meta->slot && !pte_mapped(pte_read(ptep)))
		atomic_fetch_sub_explicit(&cur->space->swapped, 1, memory_order_relaxed);
	corten_drop(cur, va, ptep);
	corten_drop_slot(c, meta);
}

/* A page of a file only leaves the space. */
int corten_drop_file_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
			  struct corten_meta *meta)
{
	struct corten *c = arg;
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	(void)n, (void)meta;
	if (pte_mapped(pte) &&
	    !corten_is_anon(&c->memory, pfn_page(&c->machine->engine, pte_pfn(pte))))
		corten_drop(cur, va, ptep);
	return 0;
}

void corten_do_pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct corten *c = corten_of_program(p);
	struct corten_space *s = corten_space_on(p, cpu);
	struct corten_cursor cur;

	if (!corten_is_range(addr, len) || !corten_is_inside(addr, len))
		return;
	corten_enter(p, cpu, "madvise: MADV_PAGEOUT");
	corten_lock(&cur, s, cpu, addr, addr + len);
	corten_walk(&cur, addr, addr + len, false, corten_drop_file_page, c);
	corten_unlock(&cur);
	for (u64 va = addr; va < addr + len; va += PAGE_SIZE)
		if (corten_evict_at(&c->memory, cpu, s, va) < 0)
			break;
	corten_leave();
}

/* Pages of files that are mapped, or differ from the disk, go when nothing else can. */
static u64 evict_files(struct corten *c, unsigned cpu, bool all)
{
	struct corten_cursor cur;
	u64 freed = 0;

	for (unsigned i = 0; all && i < PROGRAM_PROCESSES; i++) {
		if (!c->spaces[i])
			continue;
		corten_lock(&cur, c->spaces[i], cpu, CORTEN_LOW, CORTEN_HIGH);
		corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, corten_drop_file_page, c);
		corten_unlock(&cur);
	}
	for (unsigned i = 0; i < PROGRAM_FILES; i++) {
		if (!c->files[i])
			continue;
		if (all)
			corten_file_sync(c->files[i]);
		freed += corten_file_evict(c->files[i]);
	}
	return freed;
}

bool corten_make_room(struct corten *c, unsigned cpu)
{
	return corten_reclaim(&c->memory, cpu, 8) || evict_files(c, cpu, false) ||
	       evict_files(c, cpu, true);
}

void corten_do_reclaim(struct program *p, u64 pages)
{
	struct corten *c = corten_of_program(p);

	corten_reclaim(&c->memory, c->machine->nr_cpus, pages);
}
