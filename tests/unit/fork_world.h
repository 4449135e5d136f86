/* SPDX-License-Identifier: MIT */
/* What tests of fork begin with: a world with two CPUs, and short words for processes, their pages
 * and the slots they are paged out to. */
#ifndef VMF_TESTS_FORK_WORLD_H
#define VMF_TESTS_FORK_WORLD_H

#include "machine/soft/script.h"
#include "tests/unit/one_world.h"

static inline void begin(struct world_options o)
{
	o.cpus = 2;
	start(o);
	soft_load_mm(&w.m->cpus[1], mm);
}

static inline int setup(void **state)
{
	(void)state;
	begin((struct world_options){ 0 });
	return 0;
}

static inline void passes(const char *text)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	if (script_parse(text, strlen(text), &s, message) || script_run(s, w.m, mm, message))
		fail_msg("%s", message);
	script_free(s);
}

static inline struct mm *fork_of(struct mm *parent)
{
	struct mm *child = NULL;

	assert_int_equal(mm_fork(parent, &child), 0);
	return child;
}

static inline pte_t entry(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static inline struct page *page_of(struct mm *of, unsigned page)
{
	pte_t pte = entry(of, page);

	return pte_mapped(pte) && !pte_special(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

static inline u64 nr_free(void)
{
	return zone_free_pages(w.e, ZONE_USER);
}

/* Run `process` on CPU 0 for one access. */
static inline u8 get_in(struct mm *process, unsigned page)
{
	u8 byte;

	soft_load_mm(w.cpu, process);
	byte = get(page);
	soft_load_mm(w.cpu, mm);
	return byte;
}

static inline void put_in(struct mm *process, unsigned page, u8 byte)
{
	soft_load_mm(w.cpu, process);
	put(page, byte);
	soft_load_mm(w.cpu, mm);
}

/* The first process ends, and another takes its place on all CPUs. */
static inline void end_first(struct mm *successor)
{
	struct mm *old = mm;

	w.mm = mm = successor;
	soft_load_mm(&w.m->cpus[0], mm);
	soft_load_mm(&w.m->cpus[1], mm);
	mm_destroy(old);
}
static inline void use_up_the_slots(void)
{
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		assert_true(swap_alloc(&w.e->swap) >= 0);
}

static inline void give_back_the_slots(void)
{
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		swap_put(&w.e->swap, i);
}

#endif
