/* SPDX-License-Identifier: MIT */
/* Two spaces and a file whose pages are moved, while others take their turns. */
#ifndef VMF_TESTS_MIGRATE_WORLD_H
#define VMF_TESTS_MIGRATE_WORLD_H

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/migrate/migrate.h"
#include "engine/space/calls.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/turns.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

static struct mm *child;
static struct file *file;

static inline int setup(void **state)
{
	(void)state;
	child = NULL;
	file = NULL;
	start_turns((struct world_options){ .kept = 100 });
	return 0;
}

static inline int end(void **state)
{
	if (child) {
		soft_load_mm(cpu1, NULL);
		mm_destroy(child);
	}
	if (file)
		file_put(file);
	return end_turns(state);
}

static unsigned asked; /* for frames */

static inline struct page *any_frame(struct engine *e, const struct page *page, void *arg)
{
	(void)page;
	(void)arg;
	asked++;
	return page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM);
}

static const struct migrate_target anywhere = { .get = any_frame };

/* 0, or why not. */
static inline int try_move(struct page *page, enum migrate_mode mode)
{
	unsigned moved;
	int status;

	assert_true(migrate_get(w.e, page));
	moved = migrate_pages(w.e, &page, 1, &anywhere, mode, &status);
	assert_int_equal(moved, !status);
	return status;
}

/* What is mapped at page `n` moves.  (Others may be at work: invariants are checked in the end.) */
static inline void move(unsigned n)
{
	const struct page *was = page_of(mm, n);

	assert_int_equal(try_move(page_of(mm, n), MIGRATE_SYNC), 0);
	assert_ptr_not_equal(page_of(mm, n), was);
}

static inline u64 faults(void)
{
	return mm->minor + mm->major;
}

static inline void fork_here(void)
{
	assert_int_equal(mm_fork(mm, &child), 0);
	soft_load_mm(cpu1, child);
}

/* Pages 0 to 3 shared, 8 to 11 private. */
static inline void map_file(struct file *f)
{
	u8 byte = 5;

	file = f;
	assert_non_null(f);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(file_write(f, P(i), &byte, 1), 1);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), 0);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(vm_map_file(mm, AT(8), P(4), RW, VMAP_FIXED, 0, f, 0), AT(8));
}

static inline u8 in_file(unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(file_read(file, P(page), &byte, 1), 1);
	return byte;
}

#endif
