/* SPDX-License-Identifier: MIT */
/* One world, on a store that can be made to fail, and short words for what tests do in it.  Pages
 * are numbered from BASE. */
#ifndef VMF_TESTS_ONE_WORLD_H
#define VMF_TESTS_ONE_WORLD_H

#include "tests/unit/flaky_store.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define RW    (VM_READ | VM_WRITE)
#define P(n)  ((u64)(n)*PAGE_SIZE)
#define BASE  0x20000000ULL
#define AT(n) (BASE + P(n))

static struct world w;
static struct mm *mm;

static inline void start(struct world_options o)
{
	o.store = flaky_store();
	assert_int_equal(world_create(&w, o), 0);
	mm = w.mm;
}

static inline int teardown(void **state)
{
	(void)state;
	soft_check(w.m);
	world_destroy(&w);
	assert_int_equal(flaky_kept(), 0);
	return 0;
}

static inline void map(unsigned page, unsigned n, u32 prot)
{
	assert_int_equal(vm_map(mm, AT(page), P(n), prot, VMAP_FIXED, 0), AT(page));
}

static inline void put(unsigned page, u8 byte)
{
	assert_int_equal(soft_write_byte(w.cpu, AT(page), byte), FAULT_OK);
}

static inline u8 get(unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(w.cpu, AT(page), &byte), FAULT_OK);
	return byte;
}

#endif
