/* SPDX-License-Identifier: MIT */
/* File seals: what each forbids, and which mappings stand in the way of sealing. */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define SHARED UAPI_MAP_SHARED

static struct file *file;

/* A file of four pages that may be sealed. */
static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	file = memfd_alloc_file(w.e, MEMFD_ALLOW_SEALING);
	assert_non_null(file);
	assert_int_equal(file_truncate(file, P(4)), 0);
	return 0;
}

static int end(void **state)
{
	file_put(file);
	return teardown(state);
}

static s64 map_file(unsigned page, unsigned n, u64 prot, u64 flags)
{
	return do_mmap(mm, AT(page), P(n), prot, flags | UAPI_MAP_FIXED, file, 0);
}

static s32 writable(void)
{
	return atomic_load(&file->mapping->i_mmap_writable);
}

/* ---- adding ---- */

static void seals_are_only_added(void **state)
{
	(void)state;
	assert_int_equal(memfd_get_seals(file), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_GROW), 0);
	assert_int_equal(memfd_add_seals(file, 0), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_SHRINK), 0);
	assert_int_equal(memfd_get_seals(file), MEMFD_SEAL_GROW | MEMFD_SEAL_SHRINK);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_SEAL), 0);
	assert_int_equal(memfd_add_seals(file, 0), -EPERM);
	assert_int_equal(memfd_add_seals(file, 0x40), -EINVAL);
}

static void who_may_add_them(void **state)
{
	struct file *reader = file_open(file->mapping, FILE_READ);
	struct file *writer = file_open(file->mapping, FILE_WRITE);
	struct file nowhere = { .mode = FILE_WRITE };

	(void)state;
	assert_int_equal(memfd_add_seals(reader, 0x40), -EPERM);
	assert_int_equal(memfd_add_seals(writer, MEMFD_SEAL_GROW), 0);
	assert_int_equal(memfd_get_seals(reader), MEMFD_SEAL_GROW);
	assert_int_equal(memfd_add_seals(&nowhere, 0), -EINVAL);
	assert_int_equal(memfd_get_seals(&nowhere), -EINVAL);
	file_put(reader);
	file_put(writer);
}

static void which_files_may_be_sealed(void **state)
{
	struct file *plain = memfd_alloc_file(w.e, 0);
	struct file *fixed = memfd_alloc_file(w.e, MEMFD_NOEXEC_SEAL);

	(void)state;
	assert_int_equal(memfd_get_seals(plain), MEMFD_SEAL_SEAL);
	assert_int_equal(memfd_add_seals(plain, MEMFD_SEAL_WRITE), -EPERM);
	assert_int_equal(memfd_get_seals(fixed), MEMFD_SEAL_EXEC);
	assert_int_equal(memfd_add_seals(fixed, MEMFD_SEAL_EXEC), 0);
	assert_int_equal(memfd_get_seals(fixed), MEMFD_SEAL_EXEC);
	file_put(plain);
	file_put(fixed);
}

static void what_may_be_executed_is_sealed_whole(void **state)
{
	(void)state;
	assert_int_equal(map_file(0, 1, RW, SHARED), AT(0));
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_EXEC), -EBUSY);
	assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_EXEC), 0);
	assert_int_equal(memfd_get_seals(file), MEMFD_ALL_SEALS & ~MEMFD_SEAL_SEAL);
}

/* ---- what they forbid ---- */

static void the_size_stays(void **state)
{
	char bytes[2 * PAGE_SIZE] = "some";

	(void)state;
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_GROW), 0);
	assert_int_equal(file_truncate(file, P(4) + 1), -EPERM);
	assert_int_equal(file_truncate(file, P(4)), 0);
	assert_int_equal(file_write(file, P(3), bytes, P(1)), P(1));
	/* A page is written as a whole or not at all, but those before it are. */
	assert_int_equal(file_write(file, P(3), bytes, P(2)), P(1));
	assert_int_equal(file_write(file, P(4), bytes, 1), -EPERM);
	assert_int_equal(file_write(file, P(9), bytes, 1), -EPERM);
	assert_int_equal(file_write(file, P(9), bytes, 0), 0);
	assert_int_equal(file_begin_write(file, P(4)), -EPERM);
	assert_int_equal(file_truncate(file, P(3) + 100), 0);
	assert_int_equal(file_write(file, P(3), bytes, 101), -EPERM);
	assert_int_equal(file_size(file), P(3) + 100);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_SHRINK), 0);
	assert_int_equal(file_truncate(file, P(3)), -EPERM);
	assert_int_equal(file_punch_hole(file, 0, P(1)), 0);
}

static void the_bytes_stay(void **state)
{
	char byte = 7;

	(void)state;
	assert_int_equal(file_write(file, 0, &byte, 1), 1);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), 0);
	assert_int_equal(file_write(file, 0, &byte, 1), -EPERM);
	assert_int_equal(file_write(file, 0, &byte, 0), 0);
	assert_int_equal(file_begin_write(file, 0), -EPERM);
	assert_int_equal(file_punch_hole(file, 0, P(1)), -EPERM);
	assert_int_equal(file_punch_hole(file, 0, 0), -EINVAL);
	assert_int_equal(map_file(0, 1, RW, SHARED), -EPERM);
	assert_int_equal(map_file(0, 1, VM_WRITE, SHARED), -EPERM);
	assert_int_equal(vm_map_file(mm, AT(0), P(1), RW, VMAP_FIXED, VM_SHARED, file, 0), -EPERM);
	/* A private mapping writes to copies. */
	assert_int_equal(map_file(0, 1, RW, UAPI_MAP_PRIVATE), AT(0));
	put(0, 9);
	assert_int_equal(file_read(file, 0, &byte, 1), 1);
	assert_int_equal(byte, 7);
	/* The size is another matter. */
	assert_int_equal(file_truncate(file, P(1)), 0);
	assert_int_equal(file_truncate(file, P(5)), 0);
}

static void a_mapping_that_reads_stays_so(void **state)
{
	(void)state;
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), 0);
	assert_int_equal(map_file(0, 2, VM_READ, SHARED), AT(0));
	assert_int_equal(do_mprotect(mm, AT(0), P(1), RW), -EACCES);
	assert_int_equal(do_mprotect(mm, AT(0), P(1), VM_EXEC), 0);
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_REMOVE), -EACCES);
	assert_int_equal(writable(), -1);
}

static void mappings_before_a_seal_for_later_write_on(void **state)
{
	(void)state;
	assert_int_equal(map_file(0, 2, RW, SHARED), AT(0));
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_FUTURE_WRITE), 0);
	put(0, 5);
	assert_int_equal(do_mprotect(mm, AT(0), P(2), VM_READ), 0);
	assert_int_equal(do_mprotect(mm, AT(0), P(2), RW), 0);
	put(1, 6);
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_REMOVE), -EPERM);
	assert_int_equal(file_write(file, 0, "x", 1), -EPERM);
	assert_int_equal(map_file(8, 1, RW, SHARED), -EPERM);
	assert_int_equal(map_file(8, 1, VM_READ, SHARED), AT(8));
	assert_int_equal(do_mprotect(mm, AT(8), P(1), RW), -EACCES);
	assert_int_equal(get(8), 5);
}

/* ---- what stands in the way ---- */

static void cuts_moves_and_children_are_counted(void **state)
{
	struct mm *child;

	(void)state;
	assert_int_equal(map_file(0, 4, VM_READ, SHARED), AT(0));
	assert_int_equal(writable(), 1); /* it could be made to write */
	assert_int_equal(do_mprotect(mm, AT(1), P(1), RW), 0);
	assert_int_equal(writable(), 3);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(writable(), 6);
	soft_check(w.m);
	assert_int_equal(do_mprotect(mm, AT(1), P(1), VM_READ), 0);
	assert_int_equal(writable(), 4); /* merged again */
	assert_int_equal(do_mremap(mm, AT(0), P(4), P(4), 3, AT(40)), AT(40));
	assert_int_equal(writable(), 4);
	assert_int_equal(do_mremap(mm, AT(40), 0, P(4), 3, AT(80)), AT(80));
	assert_int_equal(writable(), 5);
	soft_check(w.m);
	assert_int_equal(vm_unmap(mm, AT(0), P(100)), 0);
	assert_int_equal(writable(), 3);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), -EBUSY);
	assert_int_equal(memfd_get_seals(file), 0);
	mm_destroy(child);
	assert_int_equal(writable(), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), 0);
	assert_int_equal(writable(), -1);
}

static void private_mappings_and_readers_do_not_stand_in_the_way(void **state)
{
	struct file *reader = file_open(file->mapping, FILE_READ);

	(void)state;
	assert_int_equal(map_file(0, 4, RW, UAPI_MAP_PRIVATE), AT(0));
	assert_int_equal(do_mmap(mm, AT(8), P(1), VM_READ, SHARED | UAPI_MAP_FIXED, reader, 0),
			 AT(8));
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_WRITE), 0);
	file_put(reader);
}

static void a_mapping_that_failed_leaves_no_count(void **state)
{
	(void)state;
	mm->limits.as = P(2);
	assert_int_equal(map_file(0, 4, RW, SHARED), -ENOMEM);
	assert_int_equal(writable(), 0);
}

/* ---- at once ---- */

static void *(*alloc_memory)(void *ctx, u64 bytes);
static int sealed;

/* Another process seals the file at the moment when the area is being made. */
static void *alloc_and_seal(void *ctx, u64 bytes)
{
	w.e->memory.alloc = alloc_memory;
	sealed = memfd_add_seals(file, MEMFD_SEAL_WRITE);
	return alloc_memory(ctx, bytes);
}

static void a_file_is_not_sealed_while_it_is_being_mapped(void **state)
{
	(void)state;
	alloc_memory = w.e->memory.alloc;
	w.e->memory.alloc = alloc_and_seal;
	assert_int_equal(map_file(0, 1, RW, SHARED), AT(0));
	assert_int_equal(sealed, -EBUSY);
	assert_int_equal(writable(), 1);
	w.e->memory.alloc = alloc_and_seal;
	assert_int_equal(vm_map_file(mm, AT(8), P(1), RW, VMAP_FIXED, VM_SHARED, file, 0), AT(8));
	assert_int_equal(sealed, -EBUSY);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(seals_are_only_added),
		T(who_may_add_them),
		T(which_files_may_be_sealed),
		T(what_may_be_executed_is_sealed_whole),
		T(the_size_stays),
		T(the_bytes_stay),
		T(a_mapping_that_reads_stays_so),
		T(mappings_before_a_seal_for_later_write_on),
		T(cuts_moves_and_children_are_counted),
		T(private_mappings_and_readers_do_not_stand_in_the_way),
		T(a_mapping_that_failed_leaves_no_count),
		T(a_file_is_not_sealed_while_it_is_being_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
