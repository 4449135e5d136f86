/* SPDX-License-Identifier: MIT */
/*
 * mlock(2) and its kin, and msync(2), where the running kernel cannot be compared with: privileges,
 * reclaim, errors of files.
 */
#include "engine/backing/ramfile.h"
#include "engine/reclaim/reclaim.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 64 });
	mm->limits.memlock = P(8);
	return 0;
}

static void locked_pages_stay_and_go_again_when_unlocked(void **state)
{
	(void)state;
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	assert_int_equal(do_mlock(mm, AT(2), P(2)), 0);
	reclaim_range(mm, AT(0), AT(8));
	assert_int_equal(mm->rss, 2);
	assert_int_equal(mm->swapped, 6);
	assert_int_equal(do_munlock(mm, AT(2), P(2)), 0);
	assert_int_equal(mm->map_count, 1);
	reclaim_range(mm, AT(0), AT(8));
	assert_int_equal(mm->rss, 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(i), i + 1);
}

/* Reclaim under pressure, which picks the pages itself. */
static void pressure_leaves_locked_pages_alone(void **state)
{
	(void)state;
	map(0, 8, RW);
	assert_int_equal(do_mlock(mm, AT(0), P(8)), 0);
	for (unsigned i = 0; i < 8; i++)
		put(i, 50 + i);
	map(100, 200, RW);
	for (unsigned i = 100; i < 300; i++)
		put(i, i);
	for (unsigned i = 0; i < 8; i++) {
		spinlock_t *ptl;

		assert_true(pte_present(pte_read(pte_find(mm, AT(i), &ptl))));
		assert_int_equal(get(i), 50 + i);
	}
	assert_true(lru_unevictable(w.e) > 0);
	for (unsigned i = 100; i < 300; i++)
		assert_int_equal(get(i), i & 0xff);
}

/* ---- somebody locks while reclaim looks ---- */

static const struct mmu_ops *real_mmu;
static struct mmu_ops hooked_mmu;
static struct vma *locked_when_looked_at;

static bool lock_and_test_young(struct mm *m, u64 va, pte_t *ptep)
{
	locked_when_looked_at->flags |= VM_LOCKED;
	return real_mmu->test_and_clear_young(m, va, ptep);
}

static bool is_present(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);

	return ptep && pte_present(pte_read(ptep));
}

/* Press, and the area of the page is locked between the look at a page and the taking. */
static void press_and_lock(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);

	locked_when_looked_at = find_vma(mm, AT(page));
	real_mmu = w.e->mmu;
	real_mmu->test_and_clear_young(mm, AT(page), ptep); /* or it would be spared for that */
	hooked_mmu = *real_mmu;
	hooked_mmu.test_and_clear_young = lock_and_test_young;
	w.e->mmu = &hooked_mmu;
	for (unsigned i = 0; i < 8; i++)
		reclaim_direct(w.e, 64);
	w.e->mmu = real_mmu;
	assert_true(locked_when_looked_at->flags & VM_LOCKED);
	locked_when_looked_at->flags &= ~(u32)VM_LOCKED;
}

static void a_file_page_that_was_looked_at_is_looked_at_again(void **state)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);

	(void)state;
	assert_int_equal(file_truncate(f, P(1)), 0);
	assert_int_equal(vm_map_file(mm, AT(0), P(1), RW, VMAP_FIXED, VM_SHARED, f, 0), AT(0));
	put(0, 1);
	press_and_lock(0);
	assert_true(is_present(0));
	file_put(f);
}

static void so_is_a_page_that_a_child_shares(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(mm_fork(mm, &child), 0);
	press_and_lock(0);
	assert_true(is_present(0));
	mm_destroy(child);
}

static void locking_brings_in_what_was_swapped_out(void **state)
{
	(void)state;
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 9);
	reclaim_range(mm, AT(0), AT(4));
	assert_int_equal(mm->swapped, 4);
	assert_int_equal(do_mlock(mm, AT(0), P(4)), 0);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(mm->rss, 4);
	assert_int_equal(get(3), 12);
}

static void a_page_that_cannot_be_had_is_no_memory(void **state)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);

	(void)state;
	assert_int_equal(file_truncate(f, P(4)), 0);
	assert_int_equal(file_write(f, 0, "x", 1), 1);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), 0);
	assert_int_equal(
		do_mmap(mm, AT(0), P(4), UAPI_PROT_READ, UAPI_MAP_SHARED | UAPI_MAP_FIXED, f, 0),
		AT(0));
	/* Beyond the end there is nothing to have. */
	assert_int_equal(file_truncate(f, P(2)), 0);
	assert_int_equal(do_mlock(mm, AT(0), P(4)), -ENOMEM);
	assert_int_equal(mm->locked_vm, 4); /* locked it is */
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	file_put(f);
}

/* Where nothing can be taken away, the last frames are the engine's own. */
static void no_frame_is_try_again(void **state)
{
	(void)state;
	mm->limits.may_lock_all = true;
	map(0, 80, RW);
	assert_int_equal(do_mlock(mm, AT(0), P(80)), -EAGAIN);
	assert_in_range(mm->rss, 40, 64);
	assert_int_equal(vm_unmap(mm, AT(0), P(80)), 0);
	assert_int_equal(do_mlock(mm, AT(0), P(1)), -ENOMEM);
	map(0, 4, RW);
	assert_int_equal(do_mlock(mm, AT(0), P(4)), 0);
}

static void privilege_and_limit_decide_in_this_order(void **state)
{
	(void)state;
	map(0, 16, RW);
	assert_int_equal(do_mlock(mm, AT(0), P(9)), -ENOMEM);
	assert_int_equal(mm->map_count, 1);
	mm->limits.memlock = 0;
	assert_int_equal(do_mlock(mm, AT(0), P(1)), -EPERM);
	assert_int_equal(do_mlock2(mm, AT(0), P(1), 2), -EINVAL);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_FUTURE), -EPERM);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_ONFAULT), -EINVAL);
	mm->limits.may_lock_all = true;
	assert_int_equal(do_mlock(mm, AT(0), P(16)), 0);
	assert_int_equal(mm->rss, 16);
	mm->limits.may_lock_all = false;
	assert_int_equal(do_munlock(mm, AT(0), P(16)), 0);
	assert_int_equal(mm->locked_vm, 0);
}

static void all_that_there_is_and_all_that_comes(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(10, 2, VM_READ);
	map(20, 2, 0);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_CURRENT), 0);
	assert_int_equal(mm->locked_vm, 6);
	assert_int_equal(mm->rss, 2); /* and two of zeros; what may not be accessed stays out */
	assert_int_equal(do_munlockall(mm), 0);
	assert_int_equal(mm->locked_vm, 0);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_FUTURE | UAPI_MCL_ONFAULT), 0);
	assert_int_equal(do_mmap(mm, AT(30), P(2), RW,
				 UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0),
			 AT(30));
	assert_int_equal(mm->rss, 2); /* on fault only */
	assert_int_equal(mm->locked_vm, 2);
	put(30, 1);
	reclaim_range(mm, AT(30), AT(32));
	assert_int_equal(mm->rss, 3);
	mm->limits.memlock = P(5);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_CURRENT), -ENOMEM);
}

/* What merges with a neighbour costs no area; what does not stays as it was, or is cut at one end.
 */
static void no_area_more_than_the_system_allows(void **state)
{
	(void)state;
	map(0, 4, RW);
	mm->limits.map_count = 1;
	assert_int_equal(do_mlock(mm, AT(1), P(3)), -ENOMEM);
	assert_int_equal(mm->map_count, 1);
	mm->limits.map_count = 2;
	assert_int_equal(do_mlock(mm, AT(1), P(1)), -ENOMEM);
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(mm->locked_vm, 0);
	assert_int_equal(do_mlock(mm, AT(1), P(3)), 0);
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(do_munlock(mm, AT(1), P(1)), 0); /* to the one below */
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(vm_unmap(mm, AT(2), P(1)), 0); /* at an end */
	assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
	assert_int_equal(do_mmap(mm, AT(10), P(3), RW,
				 UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0),
			 AT(10));
	assert_int_equal(vm_unmap(mm, AT(11), P(1)), -ENOMEM);
	assert_int_equal(do_madvise(mm, AT(11), P(1), UAPI_MADV_RANDOM), -EAGAIN);
}

/* A copy that a write would have to make later is made when the right to write comes. */
static void locked_memory_that_becomes_writable_is_copied_at_once(void **state)
{
	struct mm *child;
	u64 minor;

	(void)state;
	map(0, 2, RW);
	put(0, 5);
	assert_int_equal(vm_protect(mm, AT(0), P(2), VM_READ), 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(do_mlock(mm, AT(0), P(2)), 0);
	assert_int_equal(do_mprotect(mm, AT(0), P(2), RW), 0);
	minor = mm->minor;
	put(0, 6);
	put(1, 7);
	assert_int_equal(mm->minor, minor);
	soft_load_mm(w.cpu, child);
	assert_int_equal(get(0), 5);
	soft_load_mm(w.cpu, mm);
	mm_destroy(child);
}

static void msync_tells_of_an_error_of_the_disk(void **state)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);

	(void)state;
	assert_int_equal(file_truncate(f, P(4)), 0);
	assert_int_equal(do_mmap(mm, AT(0), P(4), RW, UAPI_MAP_SHARED | UAPI_MAP_FIXED, f, 0),
			 AT(0));
	put(1, 3);
	assert_int_equal(do_msync(mm, AT(0), P(4), UAPI_MS_ASYNC), 0);
	assert_int_equal(ramfile_count(f, RAMFILE_WRITE), 0);
	assert_int_equal(do_msync(mm, AT(2), P(2), UAPI_MS_SYNC), 0);
	assert_int_equal(ramfile_count(f, RAMFILE_WRITE), 0); /* of these two none was written to */
	ramfile_fail(f, RAMFILE_WRITE, 1, 1, -EIO);
	assert_int_equal(do_msync(mm, AT(0), P(4), UAPI_MS_SYNC), -EIO);
	ramfile_fail(f, RAMFILE_WRITE, 0, 0, 0);
	put(1, 4);
	assert_int_equal(do_msync(mm, AT(0), P(6), UAPI_MS_SYNC), -ENOMEM); /* and it is done */
	assert_int_equal(ramfile_count(f, RAMFILE_WRITE), 1);
	assert_int_equal(do_mlock(mm, AT(3), P(1)), 0);
	assert_int_equal(do_msync(mm, AT(0), P(4), UAPI_MS_INVALIDATE), -EBUSY);
	assert_int_equal(do_msync(mm, AT(0), P(3), UAPI_MS_INVALIDATE), 0);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	file_put(f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(locked_pages_stay_and_go_again_when_unlocked),
		T(pressure_leaves_locked_pages_alone),
		T(a_file_page_that_was_looked_at_is_looked_at_again),
		T(so_is_a_page_that_a_child_shares),
		T(locking_brings_in_what_was_swapped_out),
		T(a_page_that_cannot_be_had_is_no_memory),
		T(no_frame_is_try_again),
		T(privilege_and_limit_decide_in_this_order),
		T(all_that_there_is_and_all_that_comes),
		T(no_area_more_than_the_system_allows),
		T(locked_memory_that_becomes_writable_is_copied_at_once),
		T(msync_tells_of_an_error_of_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
