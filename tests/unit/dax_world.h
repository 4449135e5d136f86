/* SPDX-License-Identifier: MIT */
/* One world with a device of persistent memory, 2^ORDER blocks, and an empty file on it. */
#ifndef VMF_TESTS_DAX_WORLD_H
#define VMF_TESTS_DAX_WORLD_H

#include "engine/backing/dax.h"
#include "tests/unit/one_world.h"

static struct dax_device *device;
static struct file *file;
static struct address_space *m;
static u64 blocks;

static inline void start_dax(u64 frames, unsigned order)
{
	start((struct world_options){ .frames = frames, .cpus = 2 });
	blocks = 1ULL << order;
	device = dax_device_create(w.e, order);
	assert_non_null(device);
	file = dax_file_create(device);
	assert_non_null(file);
	m = file->mapping;
}

/* All blocks come back. */
static inline int end_dax(void **state)
{
	(void)state;
	soft_check(w.m);
	for (unsigned i = 0; i < 2; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
	mm_destroy(mm);
	w.mm = NULL;
	file_put(file);
	assert_int_equal(dax_device_free(device), blocks);
	dax_device_destroy(device);
	world_destroy(&w);
	assert_int_equal(flaky_kept(), 0);
	return 0;
}

#endif
