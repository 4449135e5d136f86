/* SPDX-License-Identifier: MIT */
/* Tasks and their spaces: shared, copied, lent by vfork, left by exec and by exit. */
#include <pthread.h>

#include "engine/backing/ramfile.h"
#include "engine/kernel/process.h"
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"

#define VMALLOC	    0xffffc90000000000ULL
#define VMALLOC_END 0xffffe90000000000ULL

static struct soft_kernel *k;
static struct task parent, child;
static u64 free_before;

static u64 free_frames(void)
{
	return zone_free_pages(w.e, ZONE_USER);
}

/* The parent on CPU 0, in the world's space; the child is to run on CPU 1. */
static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, VMALLOC, VMALLOC_END, &k), 0);
	parent = (struct task){ .mm = mm, .pid = 100, .name = "parent" };
	child = (struct task){ .pid = 101, .name = "child" };
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &parent);
	free_before = free_frames();
	return 0;
}

static int end_of_test(void **state)
{
	for (unsigned i = 0; i < 2; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
	return teardown(state);
}

static void run_child(u32 flags, struct completion *done)
{
	assert_int_equal(copy_mm(&k->kernel, &parent, &child, flags, done), 0);
	soft_kernel_run(k, 1, &child);
}

static enum fault_reason child_writes(unsigned page, u8 byte)
{
	return soft_write_byte(&w.m->cpus[1], AT(page), byte);
}

static u8 child_reads(unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(page), &byte), FAULT_OK);
	return byte;
}

static void child_exits(void)
{
	struct mm *left = exit_mm(&child);

	assert_null(child.mm);
	soft_load_mm(&w.m->cpus[1], NULL);
	mmput(left);
}

static void child_execs(void)
{
	struct mm *mm, *left;

	assert_int_equal(bprm_mm_init(&k->kernel, &child, &mm), 0);
	left = exec_mmap(&child, mm);
	assert_ptr_equal(child.mm, mm);
	soft_kernel_run(k, 1, &child);
	mmput(left);
}

static void a_fork_has_a_copy(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 1);
	run_child(0, NULL);
	assert_ptr_not_equal(child.mm, mm);
	assert_int_equal(child_reads(0), 1);
	assert_int_equal(child_writes(0, 2), FAULT_OK);
	assert_int_equal(get(0), 1);
	child_exits();
	assert_int_equal(free_frames(), free_before - 1);
}

static void a_shared_space_lives_until_its_last_user_goes(void **state)
{
	(void)state;
	map(0, 2, RW);
	run_child(UAPI_CLONE_VM, NULL);
	assert_ptr_equal(child.mm, mm);
	assert_int_equal(child_writes(0, 7), FAULT_OK);
	assert_int_equal(get(0), 7);

	/* The parent goes first. */
	assert_ptr_equal(exit_mm(&parent), mm);
	soft_load_mm(w.cpu, NULL);
	mmput(mm);
	assert_int_equal(child_reads(0), 7);
	assert_int_equal(child_writes(1, 8), FAULT_OK);
	child_exits();
	assert_int_equal(free_frames(), free_before);
	w.mm = NULL;
}

static void exec_leaves_a_shared_space_to_the_others(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 3);
	run_child(UAPI_CLONE_VM, NULL);
	child_execs();
	assert_ptr_not_equal(child.mm, mm);
	assert_int_equal(child_writes(0, 4), FAULT_MAPERR);
	assert_int_equal(get(0), 3);
	child_exits();
}

/* All of it goes: areas, pages, those in the store, the file's reference. */
static void exec_tears_the_old_space_down(void **state)
{
	struct file *file = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);
	struct mm *old;

	(void)state;
	assert_non_null(file);
	assert_int_equal(file_truncate(file, P(4)), 0);
	map(0, 32, RW);
	run_child(0, NULL);
	old = child.mm;
	old->limits.memlock = P(3);
	old->def_flags = VM_LOCKED;
	assert_int_equal(vm_map_file(old, AT(40), P(4), RW, VMAP_FIXED, VM_SHARED, file, 0),
			 AT(40));
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(child_writes(i, 9), FAULT_OK);
	assert_int_equal(child_writes(41, 9), FAULT_OK);
	assert_int_equal(reclaim_range(old, AT(0), AT(8)), 8);
	child_execs();
	assert_int_equal(child.mm->map_count, 0);
	assert_int_equal(child.mm->rss, 0);
	assert_int_equal(child.mm->limits.memlock, P(3)); /* of the process */
	assert_int_equal(child.mm->def_flags, 0);	  /* of the space */
	assert_int_equal(child_writes(0, 1), FAULT_MAPERR);
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(atomic_load(&file->refcount), 1);
	file_put(file);
	assert_int_equal(free_frames(), free_before);
	child_exits();
}

/* What the kernel maps is there in the new space, too. */
static void exec_gives_the_kernel_half(void **state)
{
	struct page *page = page_alloc(w.e, ZONE_USER, 0, 0);
	u8 byte = 0;

	(void)state;
	assert_int_equal(kernel_map(&k->kernel, VMALLOC, page_pfn(w.e, page), PTE_WRITE | PTE_NX),
			 0);
	*(u8 *)page_direct(w.e, page) = 0x5a;
	run_child(0, NULL);
	child_execs();
	assert_int_equal(soft_kernel_load(k, 1, INSN_OTHER, false, VMALLOC, &byte, 1), TRAP_RETRY);
	assert_int_equal(byte, 0x5a);
	child_exits();
	assert_true(kernel_unmap(&k->kernel, VMALLOC) >= 0);
	page_put(w.e, page);
}

static _Atomic bool parent_goes_on;
static struct completion done; /* of the last vfork */

static void *parent_waits(void *arg)
{
	wait_for_vfork_done(&done);
	atomic_store(&parent_goes_on, true);
	return arg;
}

static void vfork_lends_the_space(void (*leave)(void))
{
	pthread_t thread;

	map(0, 1, RW);
	run_child(UAPI_CLONE_VM | UAPI_CLONE_VFORK, &done);
	atomic_store(&parent_goes_on, false);
	assert_int_equal(pthread_create(&thread, NULL, parent_waits, NULL), 0);
	assert_ptr_equal(child.mm, mm);
	assert_int_equal(child_writes(0, 5), FAULT_OK);
	assert_false(atomic_load(&parent_goes_on));
	leave();
	pthread_join(thread, NULL);
	assert_true(atomic_load(&parent_goes_on));
	assert_null(child.vfork_done);
	assert_int_equal(get(0), 5);
}

static void vfork_waits_for_exec(void **state)
{
	(void)state;
	vfork_lends_the_space(child_execs);
	assert_int_equal(child_writes(0, 6), FAULT_MAPERR);
	child_exits();
}

static void vfork_waits_for_exit(void **state)
{
	(void)state;
	vfork_lends_the_space(child_exits);
}

static void a_fork_without_memory_gives_no_space(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 1);
	atomic_store(&w.m->inject.memory_left, 1);
	assert_int_equal(copy_mm(&k->kernel, &parent, &child, UAPI_CLONE_VFORK, &done), -ENOMEM);
	atomic_store(&w.m->inject.memory_left, 0);
	assert_null(child.mm);
	assert_null(child.vfork_done);
	assert_int_equal(get(0), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_of_test)
	const struct CMUnitTest tests[] = {
		T(a_fork_has_a_copy),
		T(a_shared_space_lives_until_its_last_user_goes),
		T(exec_leaves_a_shared_space_to_the_others),
		T(exec_tears_the_old_space_down),
		T(exec_gives_the_kernel_half),
		T(vfork_waits_for_exec),
		T(vfork_waits_for_exit),
		T(a_fork_without_memory_gives_no_space),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
