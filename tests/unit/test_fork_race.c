/* SPDX-License-Identifier: MIT */
/*
 * fork and copy-on-write against what other CPUs do at the same moment: the machine's operations
 * are replaced by ones that call the test in the middle of what the engine does, and there another
 * CPU has its turn.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "tests/unit/one_world.h"

/* ---- another CPU's turn ---- */

static struct mmu_ops ops;

static struct hook {
	void (*turn)(void);
} on_flush, before_change, on_change, on_stage, on_take;

static void call(struct hook *h)
{
	void (*turn)(void) = h->turn;

	if (!turn)
		return;
	h->turn = NULL; /* once */
	turn();
}

static void hooked_flush(struct mm *of, u64 start, u64 end)
{
	call(&on_flush);
	soft_mmu_ops.flush(of, start, end);
}

static void hooked_change(struct mm *of, u64 va, pte_t *ptep, pte_t pte)
{
	call(&before_change);
	soft_mmu_ops.change(of, va, ptep, pte);
	call(&on_change);
}

static int hooked_stage(struct engine *e, struct page **pages, unsigned n)
{
	call(&on_stage);
	return soft_mmu_ops.stage(e, pages, n);
}

static unsigned hooked_take(struct mm *of, struct mmu_take *takes, unsigned n)
{
	unsigned taken = soft_mmu_ops.take(of, takes, n);

	call(&on_take);
	return taken;
}

#define cpu0 (&w.m->cpus[0])
#define cpu1 (&w.m->cpus[1])

static struct mm *child;

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	soft_load_mm(cpu1, mm);
	ops = soft_mmu_ops;
	ops.flush = hooked_flush;
	ops.change = hooked_change;
	ops.stage = hooked_stage;
	ops.take = hooked_take;
	on_flush = before_change = on_change = on_stage = on_take = (struct hook){ 0 };
	w.e->mmu = &ops;
	child = NULL;
	map(0, 4, RW);
	return 0;
}

static int end(void **state)
{
	soft_load_mm(cpu1, mm);
	if (child)
		mm_destroy(child);
	w.e->mmu = &soft_mmu_ops;
	return teardown(state);
}

static void fork_now(void)
{
	assert_int_equal(mm_fork(mm, &child), 0);
}

static u8 read_on(struct soft_cpu *cpu, unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(cpu, AT(page), &byte), FAULT_OK);
	return byte;
}

static void write_on(struct soft_cpu *cpu, unsigned page, u8 byte)
{
	assert_int_equal(soft_write_byte(cpu, AT(page), byte), FAULT_OK);
}

static struct page *page_of(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl), pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

static struct page *old;

/* ---- fork, while a CPU of the parent's writes ---- */

static void write_2_on_cpu1(void)
{
	write_on(cpu1, 0, 2);
}

static void what_is_written_through_a_stale_tlb_is_before_the_fork(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu1, 0, 1); /* its TLB lets it write from now on */
	on_change.turn = write_2_on_cpu1;
	fork_now();
	assert_int_equal(read_on(cpu0, 0), 2);
	write_on(cpu1, 0, 3); /* faults, and copies */
	assert_int_equal(read_on(cpu0, 0), 3);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 2);
}

static void up_to_the_flush_it_is(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu1, 0, 1);
	on_flush.turn = write_2_on_cpu1;
	fork_now();
	write_on(cpu1, 0, 3);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 2);
	assert_int_equal(read_on(cpu0, 0), 3);
}

/* The page is clean until a CPU sets the dirty bit, at the last moment that it can. */
static void the_child_is_told_of_a_write_at_the_last_moment(void **state)
{
	spinlock_t *ptl;

	(void)state;
	write_on(cpu0, 0, 1);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_false(pte_dirty(pte_read(pte_find(mm, AT(0), &ptl))));
	before_change.turn = write_2_on_cpu1;
	fork_now();
	assert_true(pte_dirty(pte_read(pte_find(child, AT(0), &ptl))));
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 2);
}

static void take_page_0(void)
{
	struct taken t;

	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	assert_int_equal(t.taken, 1);
	write_on(cpu0, 1, 9); /* its TLB is as before for what was not taken */
}

/* Reclaim takes a page whose write-protection is not flushed yet: what a CPU wrote through its TLB
 * is in what goes out. */
static void reclaim_before_the_flush_loses_no_write(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu0, 1, 1);
	write_on(cpu1, 0, 1);
	on_change.turn = write_2_on_cpu1;
	on_flush.turn = take_page_0; /* fork's: the one of take() is the machine's own */
	fork_now();
	soft_check(w.m);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 2);
	assert_int_equal(read_on(cpu1, 1), 9);
	assert_int_equal(read_on(cpu0, 0), 2);
	write_on(cpu0, 0, 5);
	assert_int_equal(read_on(cpu1, 0), 2);
}

/* ---- a write of the parent's, while the child writes ---- */

static void both_have_written(void)
{
	assert_int_equal(read_on(cpu0, 0), 2);
	assert_int_equal(read_on(cpu1, 0), 3);
	assert_true(page_of(mm, 0) != page_of(child, 0));
	soft_check(w.m);
}

static void shared_page(void)
{
	write_on(cpu0, 0, 1);
	fork_now();
	soft_load_mm(cpu1, child);
	old = page_of(mm, 0);
}

static void write_3_on_cpu1(void)
{
	write_on(cpu1, 0, 3);
}

static void the_child_writes_before_the_parent_has_its_copy(void **state)
{
	(void)state;
	shared_page();
	on_stage.turn = write_3_on_cpu1;
	write_on(cpu0, 0, 2);
	both_have_written();
}

static void the_child_writes_while_the_parent_has_no_page(void **state)
{
	u64 free;

	(void)state;
	shared_page();
	free = zone_free_pages(w.e, ZONE_USER);
	on_flush.turn = write_3_on_cpu1; /* between the old entry and the new */
	write_on(cpu0, 0, 2);
	both_have_written();
	/* Both copied, and the page is nobody's any more. */
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free - 1);
	assert_true(page_of(mm, 0) != old && page_of(child, 0) != old);
}

static void exit_child(void)
{
	soft_load_mm(cpu1, mm);
	mm_destroy(child);
	child = NULL;
}

static void the_child_ends_while_the_parent_copies(void **state)
{
	(void)state;
	shared_page();
	on_stage.turn = exit_child;
	write_on(cpu0, 0, 2);
	assert_int_equal(read_on(cpu1, 0), 2);
	soft_check(w.m);
	write_on(cpu0, 1, 1);
	fork_now();
	on_flush.turn = exit_child;
	write_on(cpu0, 1, 2);
	assert_int_equal(read_on(cpu1, 1), 2);
}

static void read_1_on_cpu1(void)
{
	assert_int_equal(read_on(cpu1, 0), 1);
}

/* Another CPU of the parent's, which reads what is being copied, sees the old bytes until it is
 * flushed and the new ones ever after. */
static void a_reader_sees_the_old_bytes_and_then_the_new(void **state)
{
	(void)state;
	shared_page();
	soft_load_mm(cpu1, mm);
	read_1_on_cpu1();
	on_flush.turn = read_1_on_cpu1;
	write_on(cpu0, 0, 2);
	assert_int_equal(read_on(cpu1, 0), 2);
}

static _Atomic int in_fault;

static struct fault_result note_fault(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	if (cpu == cpu1)
		atomic_store(&in_fault, 1);
	return do_user_addr_fault(atomic_load(&cpu->mm), cr2, code);
}

static void *add_on_cpu1(void *arg)
{
	u64 before;

	(void)arg;
	assert_int_equal(soft_add_u64(cpu1, AT(0), 0x100, &before), FAULT_OK);
	return NULL;
}

static pthread_t other;

/* The entry is empty now.  A write from another CPU finds it so, and must not find zeros. */
static void let_another_cpu_fault(void)
{
	assert_int_equal(pthread_create(&other, NULL, add_on_cpu1, NULL), 0);
	while (!atomic_load(&in_fault))
		sched_yield();
	for (unsigned i = 0; i < 100; i++)
		sched_yield(); /* as far as it gets: we hold the page-table lock */
}

static void an_entry_that_is_empty_for_a_moment_is_not_filled_with_zeros(void **state)
{
	u64 word;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		word = 0;
		assert_int_equal(soft_write_u64(cpu0, AT(0), 1), FAULT_OK);
		fork_now();
		soft_load_mm(cpu1, mm);
		w.m->trap = note_fault;
		atomic_store(&in_fault, 0);
		on_flush = (struct hook){ .turn = let_another_cpu_fault };
		assert_int_equal(soft_write_u64(cpu0, AT(0) + 8, 2), FAULT_OK);
		pthread_join(other, NULL);
		assert_int_equal(soft_read_u64(cpu0, AT(0), &word), FAULT_OK);
		assert_int_equal(word, 0x101);
		assert_int_equal(soft_read_u64(cpu1, AT(0) + 8, &word), FAULT_OK);
		assert_int_equal(word, 2);
		soft_load_mm(cpu1, child);
		assert_int_equal(soft_read_u64(cpu1, AT(0), &word), FAULT_OK);
		assert_int_equal(word, 1);
		exit_child();
	}
}

/* ---- reclaim, while the others fault, write and end ---- */

/* Reclaim has the page off one space and is about to say so; the other side drops it. */
static void the_other_side_drops_it(void)
{
	assert_true(!page_of(mm, 0) != !page_of(child, 0));
	assert_int_equal(vm_advise(page_of(mm, 0) ? mm : child, AT(0), P(1), VADV_DONTNEED), 0);
}

static void a_page_dropped_while_it_is_taken_elsewhere_goes_to_the_writer(void **state)
{
	struct taken t;
	bool full;

	(void)state;
	shared_page();
	on_take.turn = the_other_side_drops_it;
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	assert_int_equal(t.taken, 1);
	assert_int_equal(mm->rss + child->rss, 0);
	assert_int_equal(mm->swapped + child->swapped, 1);
	soft_check(w.m);
	assert_int_equal(writeout(w.e, 1, &full), 1);
	assert_int_equal(read_on(cpu0, 0) + read_on(cpu1, 0), 1); /* zeros for who dropped it */
}

/* ---- and zapping ---- */

static void end_the_child_and_read(void)
{
	mm_destroy(child);
	child = NULL;
	assert_int_equal(read_on(cpu1, 0), 1); /* by its TLB */
}

/* A page that others map is still in the TLBs of who has just dropped it. */
static void a_frame_is_not_freed_before_everybody_has_flushed(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	fork_now();
	assert_int_equal(read_on(cpu1, 0), 1);
	on_flush.turn = end_the_child_and_read;
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
	assert_int_equal(read_on(cpu1, 0), 0);
}

static _Atomic int go_on, forked;

static void wait_for_go(void)
{
	atomic_store(&in_fault, 1);
	while (!atomic_load(&go_on))
		sched_yield();
}

static void *write_page_1_on_cpu1(void *arg)
{
	(void)arg;
	write_on(cpu1, 1, 5);
	return NULL;
}

static void *fork_in_a_thread(void *arg)
{
	(void)arg;
	fork_now();
	atomic_store(&forked, 1);
	return NULL;
}

/* Such a fault could copy a page while another CPU still writes to it through its TLB. */
static void fork_waits_for_faults_that_are_under_way(void **state)
{
	pthread_t forker;
	spinlock_t *ptl;
	pte_t *ptep;

	(void)state;
	write_on(cpu0, 0, 1);
	ptep = pte_find(mm, AT(0), &ptl);
	atomic_store(&in_fault, 0);
	atomic_store(&go_on, 0);
	atomic_store(&forked, 0);
	on_stage.turn = wait_for_go;
	assert_int_equal(pthread_create(&other, NULL, write_page_1_on_cpu1, NULL), 0);
	while (!atomic_load(&in_fault))
		sched_yield();
	assert_int_equal(pthread_create(&forker, NULL, fork_in_a_thread, NULL), 0);
	for (unsigned i = 0; i < 100 && !atomic_load(&forked); i++)
		usleep(500);
	assert_true(pte_write(pte_read(ptep)));
	atomic_store(&go_on, 1);
	pthread_join(other, NULL);
	pthread_join(forker, NULL);
	assert_false(pte_write(pte_read(ptep)));
	assert_int_equal(read_on(cpu0, 1), 5);
}

static _Atomic unsigned faults;

static struct fault_result count_faults(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct fault_result r = do_user_addr_fault(atomic_load(&cpu->mm), cr2, code);

	if (cpu == cpu1)
		atomic_fetch_add(&faults, 1);
	return r;
}

static void *read_page_0_on_cpu1(void *arg)
{
	*(u8 *)arg = read_on(cpu1, 0);
	return NULL;
}

static u8 found;

static void let_the_child_fault_three_times(void)
{
	atomic_store(&faults, 0);
	assert_int_equal(pthread_create(&other, NULL, read_page_0_on_cpu1, &found), 0);
	while (atomic_load(&faults) < 3)
		sched_yield();
}

/* The parent has unmapped the page and not yet said whose it is; its slot is named by the child. */
static void who_finds_a_page_that_is_just_being_unmapped_tries_again(void **state)
{
	struct taken t;

	(void)state;
	shared_page();
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2; /* one entry goes, the other stays */
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	w.m->inject.take_busy_every = 0;
	if (!page_of(mm, 0)) {
		/* It is the parent's that went: let the two change places. */
		struct mm *parent = mm;

		w.mm = mm = child;
		child = parent;
		soft_load_mm(cpu0, mm);
		soft_load_mm(cpu1, child);
	}
	assert_true(page_of(mm, 0) && !page_of(child, 0));
	w.m->trap = count_faults;
	on_flush.turn = let_the_child_fault_three_times;
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
	pthread_join(other, NULL);
	assert_int_equal(found, 1);
	assert_int_equal(read_on(cpu0, 0), 0);
	assert_true(page_test(page_of(child, 0), PG_ANON_EXCLUSIVE));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(what_is_written_through_a_stale_tlb_is_before_the_fork),
		T(up_to_the_flush_it_is),
		T(the_child_is_told_of_a_write_at_the_last_moment),
		T(fork_waits_for_faults_that_are_under_way),
		T(reclaim_before_the_flush_loses_no_write),
		T(the_child_writes_before_the_parent_has_its_copy),
		T(the_child_writes_while_the_parent_has_no_page),
		T(the_child_ends_while_the_parent_copies),
		T(a_reader_sees_the_old_bytes_and_then_the_new),
		T(an_entry_that_is_empty_for_a_moment_is_not_filled_with_zeros),
		T(a_frame_is_not_freed_before_everybody_has_flushed),
		T(a_page_dropped_while_it_is_taken_elsewhere_goes_to_the_writer),
		T(who_finds_a_page_that_is_just_being_unmapped_tries_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
