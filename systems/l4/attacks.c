/* SPDX-License-Identifier: MIT */
/*
 * Each attack is a call of the kernel's (kernel.h), made by a task that is nobody's pager, or by
 * the pager for more than it may.  The kernel refuses it, nothing has changed, and the system goes
 * on: the program's pages come and are what they were.
 */
#include "systems/l4/attacks.h"

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/common/program_attacks.h"

#define AT     0x20000000ULL
#define SECOND (AT + PAGE_SIZE)

static const struct ledger_actor stranger_self = { .name = "a stranger", .ring = 3, .domain = 3 };
static const struct ledger_actor kernel_in_its_space = { .name = "the kernel",
							 .ring = 0,
							 .domain = 3 };
static const struct l4_task stranger = { .number = 2,
					 .self = &stranger_self,
					 .kernel = &kernel_in_its_space };

/* Two pages of the program, of which the first is there, and is 1. */
struct victim {
	struct system *system;
	struct l4_kernel *kernel;
	struct mm *mm;
	pte_t *first, *second; /* their entries */
	pte_t was[2];
	spinlock_t *ptl;
	u64 mappings; /* that the database has */
};

/* The page-table lock is held from here to attacked(). */
static struct victim victim_of(struct system *s)
{
	struct victim v = { .system = s, .kernel = l4_kernel_of(s), .mm = engine_system_of(s)->mm };

	attack_map_two_pages(s, AT);
	v.first = pte_find(v.mm, AT, &v.ptl);
	v.second = v.first + 1;
	v.was[0] = pte_read(v.first);
	v.was[1] = pte_read(v.second);
	v.mappings = mapdb_count(&v.kernel->db);
	spin_lock(v.ptl);
	return v;
}

static bool goes_on(struct system *s)
{
	struct program *p = s->program;
	u8 byte = 0, seven = 7;

	if (p->ops->access(p, 0, AT, 0, &byte, 1) || byte != 1)
		return false;
	if (p->ops->access(p, 0, SECOND, PF_WRITE, &seven, 1) ||
	    p->ops->access(p, 0, SECOND, 0, &byte, 1))
		return false;
	p->ops->check(p);
	return byte == 7;
}

/* What came of it, unless it has left something. */
static int attacked(struct victim *v, int err)
{
	bool same = pte_same(pte_read(v->first), v->was[0]) &&
		    pte_same(pte_read(v->second), v->was[1]) &&
		    mapdb_count(&v->kernel->db) == v->mappings;

	spin_unlock(v->ptl);
	return same && goes_on(v->system) ? err : 1;
}

/* A frame that is free, and the pager's. */
static u64 some_frame(const struct victim *v)
{
	return v->kernel->db.first + v->kernel->db.nr - 1;
}

static int map_second(struct victim *v, const struct l4_task *t, u64 pfn, u64 bits)
{
	struct page *page = pfn_page(v->mm->engine, pfn);
	pte_t pte = pte_make(pfn, PTE_PRESENT | PTE_USER | PTE_NX | bits);

	return l4_map(v->kernel, t, v->mm, SECOND, v->second, &pte, &page, 1);
}

static int map_anothers(struct system *s)
{
	struct victim v = victim_of(s);

	return attacked(&v, map_second(&v, &stranger, some_frame(&v), 0));
}

static int map_the_kernels(struct system *s)
{
	struct victim v = victim_of(s);

	return attacked(&v, map_second(&v, &l4_pager, 0, 0));
}

/* A frame that it may only read: mapped for writing, or first for reading. */
static int take_more_rights(struct victim *v)
{
	pte_t writable = pte_make(some_frame(v), PTE_PRESENT | PTE_USER | PTE_NX | PTE_WRITE), old;
	int err = map_second(v, &l4_pager, some_frame(v), PTE_WRITE);

	if (err != -EACCES || map_second(v, &l4_pager, some_frame(v), 0) != 1)
		return 1;
	err = l4_remap(v->kernel, &l4_pager, v->mm, SECOND, v->second, writable);
	if (pte_write(pte_read(v->second)))
		return 1;
	return l4_flush(v->kernel, &l4_pager, v->mm, SECOND, v->second, v->was[1], &old) ? 1 : err;
}

static int more_rights(struct system *s)
{
	struct victim v = victim_of(s);
	struct l4_frame *f = &v.kernel->db.frames[v.kernel->db.nr - 1];
	int err;

	f->rights = L4_READ; /* as if the root pager had given it so */
	err = take_more_rights(&v);
	f->rights = L4_READ | L4_WRITE;
	return attacked(&v, err);
}

/* It does not become the stranger's: it may not map it after, either. */
static int ask_for_anothers(struct system *s)
{
	struct victim v = victim_of(s);
	int err = l4_ask(v.kernel, &stranger, some_frame(&v), L4_READ);

	return attacked(&v, map_second(&v, &stranger, some_frame(&v), 0) == -EACCES ? err : 1);
}

static int flush_anothers(struct system *s)
{
	struct victim v = victim_of(s);
	pte_t old;

	return attacked(&v, l4_flush(v.kernel, &stranger, v.mm, AT, v.first, (pte_t){ 0 }, &old));
}

static int flush_anothers_right(struct system *s)
{
	struct victim v = victim_of(s);
	pte_t old;

	return attacked(&v, l4_flush_write(v.kernel, &stranger, v.mm, AT, v.first, &old));
}

static int take_anothers(struct system *s)
{
	struct victim v = victim_of(s);
	struct mmu_take take = { .va = AT,
				 .ptep = v.first,
				 .page = pfn_page(v.mm->engine, pte_pfn(v.was[0])) };
	unsigned taken;
	int err = l4_flush_many(v.kernel, &stranger, v.mm, &take, 1, &taken);

	return attacked(&v, taken ? 1 : err);
}

const struct system_attack l4_attacks[NR_L4_ATTACKS] = {
	{ "a task maps a frame that another has", map_anothers, -EACCES },
	{ "a pager maps the kernel's own frame", map_the_kernels, -EINVAL },
	{ "a pager maps with a right that it has not", more_rights, -EACCES },
	{ "a frame that somebody has is asked for", ask_for_anothers, -EBUSY },
	{ "a task flushes another's mapping", flush_anothers, -EACCES },
	{ "a task flushes another's right to write", flush_anothers_right, -EACCES },
	{ "a task takes away pages that another has mapped", take_anothers, -EACCES },
};
