/* SPDX-License-Identifier: MIT */
/* Memory that fails: what is lost, who is told of it, and that its frames are never used again. */
#include <pthread.h>
#include <sched.h>

#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/kernel/uaccess.h"
#include "engine/reclaim/memory_failure.h"
#include "engine/space/calls.h"
#include "machine/soft/kernel.h"
#include "tests/unit/script_world.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)
#define HWP    UAPI_MADV_HWPOISON
#define SOFT   UAPI_MADV_SOFT_OFFLINE

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	w.e->config.memory_failure = true;
	mm->limits.may_break_memory = true;
	return 0;
}

static pte_t pte_at(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static u64 pfn_at(unsigned page)
{
	pte_t pte = pte_at(mm, page);

	assert_true(pte_mapped(pte));
	return pte_pfn(pte);
}

static enum fault_reason touch_on(struct soft_cpu *cpu, unsigned page)
{
	u8 byte;

	return soft_read_byte(cpu, AT(page), &byte);
}

static enum fault_reason touch(unsigned page)
{
	return touch_on(w.cpu, page);
}

static u64 retired(void)
{
	return w.e->zones[ZONE_USER].nr_retired;
}

/* Of all that there are none is this one. */
static void is_given_to_nobody(u64 pfn)
{
	static struct page *pages[512];
	unsigned n = 0;

	assert_true(page_test(pfn_page(w.e, pfn), PG_HWPOISON));
	while ((pages[n] = page_alloc(w.e, ZONE_USER, 0, ALLOC_RESERVE | ALLOC_NORECLAIM)))
		assert_int_not_equal(page_pfn(w.e, pages[n++]), pfn);
	while (n)
		page_put(w.e, pages[--n]);
}

/* ---- free frames ---- */

static void a_free_frame_leaves_the_free_lists(void **state)
{
	u64 first = w.e->zones[ZONE_USER].start_pfn, free = zone_free_pages(w.e, ZONE_USER);

	(void)state;
	assert_int_equal(memory_failure(w.e, first + 101), 0);
	assert_int_equal(soft_offline_page(w.e, first + 64), 0);
	assert_int_equal(memory_failure(w.e, first + 101), -EHWPOISON);
	assert_int_equal(soft_offline_page(w.e, first + 64), 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free - 2);
	assert_int_equal(retired(), 2);
	is_given_to_nobody(first + 101);
	is_given_to_nobody(first + 64);
	soft_check(w.m);
}

static void what_is_no_frame_of_programs_is_refused(void **state)
{
	const struct zone *z = &w.e->zones[ZONE_USER];

	(void)state;
	assert_int_equal(memory_failure(w.e, z->start_pfn - 1), -ENXIO);
	assert_int_equal(soft_offline_page(w.e, z->start_pfn + z->nr), -ENXIO);
	assert_int_equal(memory_failure(w.e, w.e->zero_pfn), -EBUSY);
	assert_int_equal(soft_offline_page(w.e, w.e->zero_pfn), -EBUSY);
}

static void a_frame_that_is_just_being_filled_is_busy(void **state)
{
	struct page *page = page_alloc(w.e, ZONE_USER, 0, 0);

	(void)state;
	assert_int_equal(memory_failure(w.e, page_pfn(w.e, page)), -EBUSY);
	assert_int_equal(soft_offline_page(w.e, page_pfn(w.e, page)), -EBUSY);
	page_put(w.e, page);
	assert_int_equal(retired(), 0);
}

/* ---- anonymous memory ---- */

static void what_is_lost_is_told_of_at_each_access(void **state)
{
	u64 pfn, rss;

	(void)state;
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		put(i, i);
	pfn = pfn_at(2);
	rss = mm->rss;
	assert_int_equal(do_madvise(mm, AT(2), P(1), HWP), 0);
	assert_int_equal(mm->rss, rss - 1);
	assert_int_equal(touch(2), FAULT_HWPOISON);
	assert_int_equal(touch(2), FAULT_HWPOISON);
	assert_int_equal(soft_write_byte(w.cpu, AT(2), 1), FAULT_HWPOISON);
	assert_int_equal(get(1), 1);
	assert_int_equal(get(3), 3);
	soft_check(w.m);
	is_given_to_nobody(pfn);
	/* The place is not lost. */
	assert_int_equal(do_madvise(mm, AT(2), P(1), UAPI_MADV_DONTNEED), 0);
	assert_int_equal(get(2), 0);
	put(2, 9);
	assert_int_not_equal(pfn_at(2), pfn);
}

static void it_moves_with_its_area_and_goes_with_it(void **state)
{
	u8 there;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_int_equal(do_mremap(mm, AT(0), P(1), P(1), 3, AT(20)), AT(20));
	assert_int_equal(touch(20), FAULT_HWPOISON);
	assert_int_equal(do_mincore(mm, AT(20), P(1), &there), 0);
	assert_int_equal(there, 1);
	assert_int_equal(do_mprotect(mm, AT(20), P(1), VM_READ), 0);
	assert_int_equal(touch(20), FAULT_HWPOISON);
	assert_int_equal(soft_write_byte(w.cpu, AT(20), 1), FAULT_ACCERR);
	assert_int_equal(do_madvise(mm, AT(20), P(1), UAPI_MADV_POPULATE_READ), -EHWPOISON);
	assert_int_equal(do_madvise(mm, AT(20), P(1), HWP), -EFAULT);
	assert_int_equal(do_mlock(mm, AT(20), P(1)), -ENOMEM);
	assert_int_equal(vm_unmap(mm, AT(20), P(1)), 0);
	map(20, 1, RW);
	assert_int_equal(get(20), 0);
}

/* A fork of the space, loaded on the second CPU. */
static struct mm *fork_on_second_cpu(void)
{
	struct mm *child;

	assert_int_equal(mm_fork(mm, &child), 0);
	soft_load_mm(&w.m->cpus[1], child);
	return child;
}

static void all_that_share_it_have_lost_it(void **state)
{
	struct mm *child, *late;

	(void)state;
	map(0, 2, RW);
	put(0, 7);
	put(1, 8);
	child = fork_on_second_cpu();
	assert_int_equal(touch_on(&w.m->cpus[1], 0), FAULT_OK);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_int_equal(touch(0), FAULT_HWPOISON);
	assert_int_equal(touch_on(&w.m->cpus[1], 0), FAULT_HWPOISON);
	assert_int_equal(touch_on(&w.m->cpus[1], 1), FAULT_OK);
	soft_check(w.m);
	/* And those that come later. */
	assert_int_equal(mm_fork(child, &late), 0);
	soft_load_mm(&w.m->cpus[1], late);
	assert_int_equal(touch_on(&w.m->cpus[1], 0), FAULT_HWPOISON);
	end_second_space(late);
	mm_destroy(child);
	assert_int_equal(retired(), 1);
}

static void who_has_a_copy_has_lost_nothing(void **state)
{
	struct mm *child;
	u8 byte;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_on_second_cpu();
	assert_int_equal(soft_write_byte(&w.m->cpus[1], AT(0) + 1, 3), FAULT_OK);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_int_equal(touch(0), FAULT_HWPOISON);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(0), &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	end_second_space(child);
}

static void a_page_that_others_have_in_the_swap_area_cannot_be_lost(void **state)
{
	struct mm *child;
	u64 pfn;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	assert_int_equal(mm_fork(mm, &child), 0);
	reclaim_direct(w.e, 300);
	assert_int_equal(get(0), 7); /* the child's entry names the slot */
	pfn = pfn_at(0);
	assert_true(page_test(pfn_page(w.e, pfn), PG_SWAPCACHE));
	assert_int_equal(memory_failure(w.e, pfn), -EBUSY);
	assert_int_equal(get(0), 7);
	assert_int_equal(pfn_at(0), pfn);
	/* It can be moved, all the same. */
	assert_int_equal(soft_offline_page(w.e, pfn), 0);
	soft_load_mm(&w.m->cpus[1], child);
	assert_int_equal(touch_on(&w.m->cpus[1], 0), FAULT_OK);
	assert_int_equal(pte_pfn(pte_at(child, 0)), pfn_at(0));
	assert_int_not_equal(pfn_at(0), pfn);
	end_second_space(child);
}

/* ---- who is told, and how ---- */

static struct soft_kernel *k;
static struct task task;

static void boot(void)
{
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0, 0, &k), 0);
	task = (struct task){ .mm = mm, .pid = 100, .name = "program" };
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
}

static void shut_down(void)
{
	soft_load_mm(&w.m->cpus[0], NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
}

static void the_signal_tells_where_and_how_much(void **state)
{
	struct uaccess user;
	u64 value;

	(void)state;
	boot();
	user = soft_uaccess(k, 0);
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_int_equal(touch_on(w.cpu, 0), FAULT_HWPOISON);
	assert_int_equal(task.signal.sig, SIGNAL_BUS);
	assert_int_equal(task.signal.code, BUS_MCEERR_AR);
	assert_int_equal(task.signal.address, AT(0));
	assert_int_equal(task.signal.lsb, PAGE_SHIFT);
	/* The kernel's own accesses fail. */
	task.signal = (struct fault_signal){ 0 };
	assert_int_equal(get_user(&user, &value, AT(0), sizeof(value)), -EFAULT);
	assert_int_equal(put_user(&user, 1, AT(0), sizeof(value)), -EFAULT);
	assert_int_equal(task.signal.sig, 0);
	shut_down();
}

/* What UFFDIO_POISON makes of an entry. */
static void poisoned_by_a_monitor(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_alloc(mm, AT(page), &ptl);

	pte_store(ptep, pte_make_marker(PTE_MARKER_POISONED));
}

static void a_page_that_a_monitor_poisons_is_told_of_as_memory_may_fail_or_not(void **state)
{
	(void)state;
	boot();
	map(0, 1, RW);
	poisoned_by_a_monitor(0);
	assert_int_equal(touch(0), FAULT_HWPOISON);
	assert_int_equal(task.signal.code, BUS_MCEERR_AR);
	w.e->config.memory_failure = false;
	assert_int_equal(touch(0), FAULT_BUS);
	assert_int_equal(task.signal.code, BUS_ADRERR);
	assert_int_equal(task.signal.lsb, 0);
	shut_down();
}

static void only_who_may_and_where_memory_may_fail(void **state)
{
	(void)state;
	map(0, 2, RW);
	put(0, 1);
	assert_int_equal(do_madvise(mm, AT(0) + 1, P(1), HWP), -EINVAL);
	assert_int_equal(do_madvise(mm, AT(0), 0, HWP), 0);
	assert_int_equal(do_madvise(mm, AT(8), P(1), HWP), -EFAULT);
	assert_int_equal(do_madvise(mm, AT(1), P(1), HWP), -EBUSY); /* the zero page */
	mm->limits.may_break_memory = false;
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), -EPERM);
	assert_int_equal(do_madvise(mm, AT(0), P(1), SOFT), -EPERM);
	mm->limits.may_break_memory = true;
	w.e->config.memory_failure = false;
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), -EINVAL);
	assert_int_equal(do_madvise(mm, AT(0), 0, SOFT), -EINVAL);
	assert_int_equal(get(0), 1);
	assert_int_equal(retired(), 0);
}

/* ---- files ---- */

static struct file *new_file(u8 byte)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);
	u8 bytes[PAGE_SIZE];

	assert_non_null(f);
	memset(bytes, byte, sizeof(bytes));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(file_write(f, P(i), bytes, PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), 0);
	return f;
}

static void map_file(unsigned page, u32 flags, struct file *f)
{
	assert_int_equal(vm_map_file(mm, AT(page), P(4), RW, VMAP_FIXED, flags, f, 0), AT(page));
}

static void a_clean_page_of_a_file_is_read_again(void **state)
{
	struct file *f = new_file(5);
	u64 pfn;

	(void)state;
	map_file(0, SHARED, f);
	map_file(8, 0, f);
	assert_int_equal(get(0) + get(8), 10);
	pfn = pfn_at(0);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_true(pte_none(pte_at(mm, 0)) && pte_none(pte_at(mm, 8)));
	is_given_to_nobody(pfn);
	assert_int_equal(get(0) + get(8), 10);
	assert_int_not_equal(pfn_at(0), pfn);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), 0);
	file_put(f);
}

static void what_was_written_to_a_file_and_is_lost_is_told_by_fsync(void **state)
{
	struct file *f = new_file(5), *other = file_open(f->mapping, FILE_READ);
	struct file *later;
	u8 byte;

	(void)state;
	map_file(0, SHARED, f);
	map_file(8, 0, f);
	assert_int_equal(get(8), 5);
	put(0, 6);
	assert_int_equal(do_madvise(mm, AT(0), P(1), HWP), 0);
	assert_int_equal(touch(0), FAULT_HWPOISON);
	assert_int_equal(touch(8), FAULT_HWPOISON);
	assert_int_equal(f->mapping->nr_dirty, 0);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), -EIO);
	assert_int_equal(vfs_fsync_range(f, 0, P(4)), 0);
	assert_int_equal(vfs_fsync_range(other, 0, P(4)), -EIO);
	later = file_open(f->mapping, FILE_READ);
	assert_int_equal(vfs_fsync_range(later, 0, P(4)), 0);
	/* By other ways there is what the disk has. */
	assert_int_equal(file_read(f, 0, &byte, 1), 1);
	assert_int_equal(byte, 5);
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_DONTNEED), 0);
	assert_int_equal(get(0), 5);
	assert_int_equal(retired(), 1);
	file_put(f);
	file_put(other);
	file_put(later);
}

static struct file *new_shmem(void)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	u8 byte = 5;

	assert_non_null(f);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(file_write(f, P(i), &byte, 1), 1);
	return f;
}

static void shared_memory_keeps_the_place_of_what_is_lost(void **state)
{
	struct file *f = new_shmem();
	u64 pfn;
	u8 byte;

	(void)state;
	map_file(0, SHARED, f);
	assert_int_equal(get(1), 5);
	pfn = pfn_at(1);
	assert_int_equal(do_madvise(mm, AT(1), P(1), HWP), 0);
	assert_int_equal(touch(1), FAULT_HWPOISON);
	assert_int_equal(get(2), 5);
	/* Whoever looks there. */
	map_file(8, SHARED, f);
	map_file(16, 0, f);
	assert_int_equal(touch(8), FAULT_OK);
	assert_int_equal(touch(9), FAULT_HWPOISON);
	assert_int_equal(soft_write_byte(w.cpu, AT(9), 1), FAULT_HWPOISON);
	assert_int_equal(soft_write_byte(w.cpu, AT(17), 1), FAULT_HWPOISON);
	assert_int_equal(file_read(f, P(1), &byte, 1), -EIO);
	assert_int_equal(file_write(f, P(1), &byte, 1), -EIO);
	assert_int_equal(file_punch_hole(f, P(1) + 8, 8), 0); /* nothing to make zeros of */
	soft_check(w.m);
	assert_int_equal(retired(), 0);
	/* A hole is a way out. */
	assert_int_equal(file_punch_hole(f, P(1), P(1)), 0);
	assert_int_equal(retired(), 1);
	is_given_to_nobody(pfn);
	assert_int_equal(get(9), 0);
	assert_int_equal(touch(1), FAULT_HWPOISON); /* that entry was the mapping's own */
	file_put(f);
}

static void broken_memory_is_not_written_out(void **state)
{
	struct file *f = new_shmem();

	(void)state;
	map_file(0, SHARED, f);
	assert_int_equal(get(1), 5);
	assert_int_equal(do_madvise(mm, AT(1), P(1), HWP), 0);
	for (unsigned i = 0; i < 4; i++)
		reclaim_direct(w.e, 300);
	assert_int_equal(f->mapping->nr_swapped, 3);
	assert_int_equal(f->mapping->nr_pages, 1);
	assert_int_equal(touch(1), FAULT_HWPOISON);
	file_put(f);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	assert_int_equal(retired(), 1);
}

/* ---- emptied in time ---- */

static void bytes_go_to_another_frame_and_nobody_notices(void **state)
{
	u64 pfn, faults;

	(void)state;
	map(0, 2, RW);
	put(0, 7);
	put(1, 8);
	pfn = pfn_at(0);
	faults = mm->minor + mm->major;
	assert_int_equal(do_madvise(mm, AT(0), P(1), SOFT), 0);
	assert_int_not_equal(pfn_at(0), pfn);
	assert_int_equal(get(0), 7);
	put(0, 9);
	assert_int_equal(get(0), 9);
	assert_int_equal(mm->minor + mm->major, faults);
	assert_int_equal(retired(), 1);
	soft_check(w.m);
	is_given_to_nobody(pfn);
	/* It can be written out and brought back as any other. */
	reclaim_direct(w.e, 300);
	assert_int_equal(get(0), 9);
}

static void who_shares_a_page_shares_it_still(void **state)
{
	struct mm *child;
	u8 byte;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_on_second_cpu();
	assert_int_equal(soft_offline_page(w.e, pfn_at(0)), 0);
	assert_int_equal(pte_pfn(pte_at(child, 0)), pfn_at(0));
	soft_check(w.m);
	put(0, 8);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(0), &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	assert_int_equal(get(0), 8);
	end_second_space(child);
	assert_int_equal(retired(), 1);
}

static void the_zero_page_and_protection_stay_as_they_are(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
	assert_int_equal(soft_offline_page(w.e, pfn_at(0)), 0);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(get(0), 7);
	assert_int_equal(vm_protect(mm, AT(0), P(1), 0), 0);
	assert_int_equal(soft_offline_page(w.e, pte_pfn(pte_at(mm, 0))), 0);
	assert_int_equal(touch(0), FAULT_ACCERR);
	assert_int_equal(vm_protect(mm, AT(0), P(1), RW), 0);
	assert_int_equal(get(0), 7);
	put(0, 8);
	assert_int_equal(retired(), 2);
}

static void pages_of_files_move_dirty_or_clean(void **state)
{
	struct file *disk = new_file(5), *memory = new_shmem();
	u64 pfn, written = ramfile_count(disk, RAMFILE_WRITE);

	(void)state;
	map_file(0, SHARED, disk);
	map_file(8, SHARED, memory);
	put(0, 6);
	put(8, 6);
	assert_int_equal(get(1), 5);
	assert_int_equal(do_madvise(mm, AT(0), P(2), SOFT), 0);
	pfn = pfn_at(8);
	assert_int_equal(do_madvise(mm, AT(8), P(2), SOFT), 0);
	assert_int_equal(retired(), 4);
	soft_check(w.m);
	assert_int_equal(ramfile_count(disk, RAMFILE_WRITE), written);
	assert_int_equal(disk->mapping->nr_dirty, 1);
	assert_int_equal(vfs_fsync_range(disk, 0, P(4)), 0);
	assert_int_equal(ramfile_count(disk, RAMFILE_WRITE), written + 1);
	assert_int_equal(get(0), 6);
	assert_int_equal(get(1), 5);
	assert_int_equal(get(8), 6);
	assert_int_equal(get(9), 5);
	assert_int_not_equal(pfn_at(8), pfn);
	file_put(disk);
	file_put(memory);
}

static void without_a_frame_to_go_to_it_stays(void **state)
{
	struct page *pages[512];
	unsigned n = 0;

	(void)state;
	map(0, 1, RW);
	assert_int_equal(do_mlock(mm, AT(0), P(1)), 0);
	put(0, 7);
	while ((pages[n] = page_alloc(w.e, ZONE_USER, 0, ALLOC_NORECLAIM)))
		n++;
	assert_int_equal(do_madvise(mm, AT(0), P(1), SOFT), -ENOMEM);
	assert_int_equal(get(0), 7);
	assert_int_equal(retired(), 0);
	while (n)
		page_put(w.e, pages[--n]);
	assert_int_equal(do_madvise(mm, AT(0), P(1), SOFT), 0);
	assert_int_equal(get(0), 7);
}

/* ---- at once ---- */

#define PAGES 24
#define MANY  100 /* frames to be retired meanwhile */
#define MOST  100000

static _Atomic bool stop, wrong;

/* A program that knows what it wrote, and has children now and then. */
static void *use(void *arg)
{
	struct soft_cpu *cpu = arg;
	struct mm *child;
	u8 byte;

	for (unsigned i = 0; !atomic_load(&stop); i++) {
		for (unsigned page = 0; page < PAGES; page++) {
			bool right = !i || (soft_read_byte(cpu, AT(page), &byte) == FAULT_OK &&
					    byte == (u8)(i - 1 + page));

			right &= soft_write_byte(cpu, AT(page), i + page) == FAULT_OK;
			if (!right)
				atomic_store(&wrong, true);
		}
		if (i % 16 == 3 && !mm_fork(mm, &child))
			mm_destroy(child);
	}
	return NULL;
}

static void frames_go_under_a_program_that_uses_them(void **state)
{
	const struct zone *z = &w.e->zones[ZONE_USER];
	struct file *f = shmem_file_setup(w.e, P(PAGES / 2));
	u64 seed = 1, gone = 0;
	pthread_t thread;

	(void)state;
	map(0, PAGES / 2, RW);
	assert_int_equal(vm_map_file(mm, AT(PAGES / 2), P(PAGES / 2), RW, VMAP_FIXED, SHARED, f, 0),
			 AT(PAGES / 2));
	file_put(f);
	atomic_store(&wrong, false);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, use, w.cpu), 0);
	for (unsigned i = 0; i < MOST && gone < MANY; i++) {
		u64 pfn = z->start_pfn + rnd_below(&seed, z->nr);
		/* What the program has, for the most part; other frames are free, or nearly so. */
		bool free = page_test(pfn_page(w.e, pfn), PG_BUDDY | PG_HWPOISON);

		if (!free)
			gone += !soft_offline_page(w.e, pfn);
		sched_yield();
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_false(atomic_load(&wrong));
	assert_true(gone >= MANY / 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_free_frame_leaves_the_free_lists),
		T(what_is_no_frame_of_programs_is_refused),
		T(a_frame_that_is_just_being_filled_is_busy),
		T(what_is_lost_is_told_of_at_each_access),
		T(it_moves_with_its_area_and_goes_with_it),
		T(all_that_share_it_have_lost_it),
		T(who_has_a_copy_has_lost_nothing),
		T(a_page_that_others_have_in_the_swap_area_cannot_be_lost),
		T(the_signal_tells_where_and_how_much),
		T(a_page_that_a_monitor_poisons_is_told_of_as_memory_may_fail_or_not),
		T(only_who_may_and_where_memory_may_fail),
		T(a_clean_page_of_a_file_is_read_again),
		T(what_was_written_to_a_file_and_is_lost_is_told_by_fsync),
		T(shared_memory_keeps_the_place_of_what_is_lost),
		T(broken_memory_is_not_written_out),
		T(bytes_go_to_another_frame_and_nobody_notices),
		T(who_shares_a_page_shares_it_still),
		T(the_zero_page_and_protection_stay_as_they_are),
		T(pages_of_files_move_dirty_or_clean),
		T(without_a_frame_to_go_to_it_stays),
		T(frames_go_under_a_program_that_uses_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
