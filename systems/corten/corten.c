/* SPDX-License-Identifier: MIT */
/* CortenMM as a system of the laboratory: its life, its attacks, what it pays.  The plan of its
 * fault is in fault.c, its tables in cursor.h. */
#include "systems/corten/corten.h"

#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"

/* ---- what the tables' owner does ---- */

static void refer(struct corten_owner *o, const struct corten_meta *m, int n)
{
	struct corten *c = container_of(o, struct corten, owner);

	if (m->kind == CORTEN_FILE)
		corten_file_refer(m->file, n);
	if (m->slot)
		corten_slot_refer(&c->memory, m->slot - 1, n);
}

static void unmapped(struct corten_owner *o, struct page *page)
{
	(void)corten_unmapped(&container_of(o, struct corten, owner)->memory, page);
}

/* ---- attacks: on what a cursor may do ---- */

#define AT 0x20000000ULL

/* One readable page at AT, in memory; the cursor has locked it, and a frame is in *page. */
static int try_map(struct system *s, u64 va, bool touch, bool write)
{
	struct program_map map = {
		.addr = AT, .len = PAGE_SIZE, .prot = VM_READ, .flags = VMAP_FIXED, .file = -1
	};
	struct corten *c = corten_of(s);
	struct page *page = corten_frame(&c->memory, 0);
	struct corten_cursor cur;
	int err;
	u8 byte;

	s->program->ops->map(s->program, 0, &map);
	if (touch)
		s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	corten_lock(&cur, c->spaces[0], 0, AT, AT + 2 * PAGE_SIZE);
	err = corten_map(&cur, va, page, write);
	corten_unlock(&cur);
	page_put(&c->machine->engine, page);
	return err;
}

static int outside_of_the_lock(struct system *s)
{
	return try_map(s, AT + 2 * PAGE_SIZE, false, false);
}

static int where_nothing_is_allocated(struct system *s)
{
	return try_map(s, AT + PAGE_SIZE, false, false);
}

static int with_more_rights(struct system *s)
{
	return try_map(s, AT, false, true);
}

static int over_another(struct system *s)
{
	return try_map(s, AT, true, false);
}

/* Not the cursor, but the program. */
static int unmap_the_kernel(struct system *s)
{
	return s->program->ops->unmap(s->program, 0, 0xffff800000000000ULL, PAGE_SIZE);
}

static const struct system_attack attacks[] = {
	{ "a page is mapped outside of what the cursor has locked", outside_of_the_lock, -EINVAL },
	{ "a page is mapped where nothing is allocated", where_nothing_is_allocated, -EFAULT },
	{ "a page is mapped with a right that was not given", with_more_rights, -EACCES },
	{ "a page is mapped over another", over_another, -EEXIST },
	{ "a program unmaps the kernel's half", unmap_the_kernel, -EINVAL },
};

/* As Linux's, but for the locks. */
static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },
	{ PAID_CROSSINGS, 2, NULL },
	{ PAID_SYSTEM_CALLS, 0, NULL },
	{ PAID_DOMAINS, 0, NULL },
	{ PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_PAGES_COPIED, 0, NULL },
	{ PAID_SOFTWARE_READS, 4, "who maps looks at the entry once more, whoever asked before" },
	{ PAID_ENTRY_WRITES, 1, NULL },
	{ PAID_LOCKS_SPACE, 0, NULL },
	{ PAID_LOCKS_REGION, 0, NULL },
	{ PAID_LOCKS_TABLE, 1, NULL },
};

/* ---- its life ---- */

static void add_counts(struct system *s, u64 counts[NR_LEDGER_COUNTERS])
{
	lab_add_hardware(corten_of(s)->machine, corten_of(s)->hardware, counts);
}

static void reset_counts(struct system *s)
{
	lab_read_hardware(corten_of(s)->machine, corten_of(s)->hardware);
}

static void destroy(struct system *s)
{
	struct corten *c = corten_of(s);

	for (unsigned i = 0; i < c->machine->nr_cpus; i++)
		soft_load_mm(&c->machine->cpus[i], NULL);
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++) {
		if (c->spaces[i])
			corten_space_fini(c->spaces[i], c->machine->nr_cpus);
		free(c->spaces[i]);
	}
	for (unsigned i = 0; i < PROGRAM_FILES; i++)
		if (c->files[i])
			corten_file_refer(c->files[i], -1);
	corten_tables_fini(&c->tables);
	corten_memory_fini(&c->memory);
	soft_destroy_hardware(c->machine);
	lab_store_fini(&c->store);
	ledger_begin(NULL, 0);
	free(c);
}

static int first_space(struct corten *c)
{
	struct corten_space *s = calloc(1, sizeof(*s));
	int err = s ? corten_space_init(s, &c->tables) : -ENOMEM;

	if (err) {
		free(s);
		return err;
	}
	c->spaces[0] = s;
	for (unsigned i = 0; i < c->machine->nr_cpus; i++)
		soft_load_mm(&c->machine->cpus[i], &s->mm);
	return 0;
}

static int set_up(struct corten *c)
{
	struct mmu_ops mmu = lab_counted_mmu_ops();
	int err = corten_memory_init(&c->memory, c->machine, &c->store.store, c->spaces,
				     PROGRAM_PROCESSES);

	if (err)
		return err;
	c->owner = (struct corten_owner){ refer, unmapped };
	err = corten_tables_init(&c->tables, c->machine, &mmu, &c->owner);
	if (!err) {
		c->machine->engine.mmu = &c->tables.mmu; /* frames that go are counted, too */
		err = first_space(c);
		if (err)
			corten_tables_fini(&c->tables);
	}
	if (err)
		corten_memory_fini(&c->memory);
	return err;
}

static int create_machine(struct corten *c, const struct system_options *o)
{
	struct soft_options so = { .table_frames = o->frames / 8 + 512,
				   .user_frames = o->frames,
				   .nr_cpus = o->cpus,
				   .trap = corten_trap };
	int err = lab_store_init(&c->store, 16 * o->frames);

	if (err)
		return err;
	err = soft_create_hardware(&so, &c->machine);
	if (err)
		lab_store_fini(&c->store);
	return err;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct corten *c = aligned_alloc(64, (sizeof(*c) + 63) & ~(size_t)63);
	int err;

	if (!c)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	err = create_machine(c, o);
	if (!err) {
		err = set_up(c);
		if (err) {
			soft_destroy_hardware(c->machine);
			lab_store_fini(&c->store);
		}
	}
	if (err) {
		free(c);
		return err;
	}
	c->program = (struct program){ .ops = &corten_program_ops, .nr_cpus = o->cpus };
	c->system = (struct system){ .type = type,
				     .program = &c->program,
				     .ledger = o->ledger,
				     .destroy = destroy,
				     .add_counts = add_counts,
				     .reset_counts = reset_counts };
	*system = &c->system;
	return 0;
}

const struct system_type corten_system = {
	.name = "corten",
	.summary = "the kernel fields, decides, supplies and installs; all it knows is in the page "
		   "tables, and it locks the smallest",
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};
