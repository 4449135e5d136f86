/* SPDX-License-Identifier: MIT */
/* A CortenMM of its own for each test, and what its program does. */
#ifndef VMF_TEST_CORTEN_WORLD_H
#define VMF_TEST_CORTEN_WORLD_H

#include "engine/base/errno.h"
#include "systems/corten/corten.h"
#include "systems/lab.h"
#include "tests/unit/unit.h"

#define AT   0x40000000ULL /* the first address of a table of every level but the root */
#define MB   0x100000ULL
#define CPUS 4

static struct ledger *ledger;
static struct system *s;
static struct corten *c;

static int setup(void **state)
{
	struct system_options o = { .cpus = CPUS, .frames = 2048 };

	(void)state;
	assert_int_equal(ledger_create(CPUS, &o.ledger), 0);
	assert_int_equal(corten_system.create(&corten_system, &o, &s), 0);
	ledger = o.ledger;
	c = corten_of(s);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	s->program->ops->check(s->program);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

static s64 map_at(unsigned cpu, u64 addr, u64 len, u32 prot)
{
	struct program_map map = {
		.addr = addr, .len = len, .prot = prot, .flags = VMAP_FIXED, .file = -1
	};

	return s->program->ops->map(s->program, cpu, &map);
}

static enum fault_reason write_at(unsigned cpu, u64 va, u8 byte)
{
	return s->program->ops->access(s->program, cpu, va, PF_WRITE, &byte, 1);
}

static int read_at(unsigned cpu, u64 va)
{
	u8 byte;

	return s->program->ops->access(s->program, cpu, va, 0, &byte, 1) ? -1 : byte;
}

#define with(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
