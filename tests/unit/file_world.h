/* SPDX-License-Identifier: MIT */
/* A world with files on a disk in memory, and short words for what tests do with them. */
#ifndef VMF_TESTS_FILE_WORLD_H
#define VMF_TESTS_FILE_WORLD_H

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "tests/unit/script_world.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

static inline int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	return 0;
}

static inline struct file *new_file(u64 pages, u8 byte)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 4096);
	u8 bytes[PAGE_SIZE];

	assert_non_null(f);
	memset(bytes, byte, sizeof(bytes));
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(file_write(f, P(i), bytes, PAGE_SIZE), PAGE_SIZE);
	return f;
}

static inline void map_file(struct mm *in, unsigned page, unsigned n, u32 prot, u32 flags,
			    struct file *f)
{
	assert_int_equal(vm_map_file(in, AT(page), P(n), prot, VMAP_FIXED, flags, f, 0), AT(page));
}

static inline u8 byte_of(struct file *f, u64 pos)
{
	u8 byte = 0xee;

	assert_int_equal(file_read(f, pos, &byte, 1), 1);
	return byte;
}

static inline enum fault_reason read_at(unsigned page, u8 *byte)
{
	return soft_read_byte(w.cpu, AT(page), byte);
}

static inline u64 minor(void)
{
	return atomic_load(&mm->minor);
}

static inline u64 major(void)
{
	return atomic_load(&mm->major);
}

#endif
