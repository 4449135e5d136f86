/* SPDX-License-Identifier: MIT */
/* Processes on CortenMM: fork copies a space in one transaction on all of both. */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/corten/calls.h"

struct fork {
	struct corten *c;
	struct corten_cursor child;
};

/* The page is the child's, too, and neither may write to it. */
static int share_page(struct fork *f, struct corten_cursor *parent, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);
	struct page *page = pfn_page(&f->c->machine->engine, pte_pfn(pte));
	int err;

	if (!corten_is_anon(&f->c->memory, page))
		return 0; /* it is found in the file again */
	page_get(page);
	atomic_fetch_add(&page->mapcount, 1);
	err = corten_map(&f->child, va, page, false);
	if (err) {
		corten_unmapped(&f->c->memory, page);
		return err;
	}
	if (pte_write(pte)) {
		f->c->tables.mmu.change(&parent->space->mm, va, ptep, pte_without(pte, PTE_WRITE));
		corten_owe_flush(parent, va, va + PAGE_SIZE);
	}
	return 0;
}

static int fork_record(void *arg, struct corten_cursor *parent, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct fork *f = arg;
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };
	int err;

	/* The child's entry is clean, and could not tell that the slot is an old one. */
	if (pte_mapped(pte) && pte_dirty(pte))
		corten_drop_slot(f->c, meta);
	err = corten_mark(&f->child, va, va + n * PAGE_SIZE, meta);
	if (err)
		return err;
	if (pte_mapped(pte))
		return share_page(f, parent, va, ptep);
	if (meta->slot)
		atomic_fetch_add_explicit(&f->child.space->swapped, 1, memory_order_relaxed);
	return 0;
}

static int copy_space(struct corten *c, unsigned cpu, struct corten_space *from,
		      struct corten_space *to)
{
	struct fork f = { .c = c };
	struct corten_cursor parent;
	int err;

	corten_lock(&parent, from, cpu, CORTEN_LOW, CORTEN_HIGH);
	corten_lock(&f.child, to, cpu, CORTEN_LOW, CORTEN_HIGH);
	err = corten_walk(&parent, CORTEN_LOW, CORTEN_HIGH, true, fork_record, &f);
	corten_unlock(&f.child);
	corten_unlock(&parent);
	return err;
}

int corten_do_fork(struct program *p, unsigned cpu, unsigned child)
{
	struct corten *c = corten_enter(p, cpu, "fork");
	struct corten_space *s = calloc(1, sizeof(*s));
	int err = s ? corten_space_init(s, &c->tables) : -ENOMEM;

	if (!err) {
		err = copy_space(c, cpu, corten_space_on(p, cpu), s);
		if (err)
			corten_space_fini(s, cpu);
	}
	if (err)
		free(s);
	else
		c->spaces[child] = s;
	corten_leave();
	return err;
}

static void load_space(struct corten *c, unsigned cpu, unsigned process)
{
	soft_load_mm(&c->machine->cpus[cpu], &c->spaces[process]->mm);
}

void corten_do_run(struct program *p, unsigned cpu, unsigned process)
{
	struct corten *c = corten_of_program(p);

	if (corten_space_on(p, cpu) == c->spaces[process])
		return;
	corten_enter(p, cpu, "sched_yield: another process is to run");
	load_space(c, cpu, process);
	lab_other_process_runs();
}

void corten_do_exit(struct program *p, unsigned process)
{
	unsigned cpu = lab_cpu_of(p, corten_of_program(p)->system.ledger, process);
	bool itself = p->ops->running(p, cpu) == process;
	struct corten *c = corten_enter(p, cpu, itself ? "exit" : "kill: another process ends");

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (corten_space_on(p, i) == c->spaces[process])
			load_space(c, i, 0);
	corten_space_fini(c->spaces[process], c->machine->nr_cpus);
	free(c->spaces[process]);
	c->spaces[process] = NULL;
	if (itself)
		lab_other_process_runs();
	else
		corten_leave();
}

unsigned corten_do_running(struct program *p, unsigned cpu)
{
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (corten_of_program(p)->spaces[i] == corten_space_on(p, cpu))
			return i;
	return 0;
}
