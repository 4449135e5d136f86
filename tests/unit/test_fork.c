/* SPDX-License-Identifier: MIT */
/* fork: what is inherited, what is shared, who copies, and what reclaim does with what is shared.
 */
#include "machine/soft/script.h"
#include "tests/unit/one_world.h"
#include "tests/unit/panics.h"

#define stats (w.e->stats)

static void begin(struct world_options o)
{
	o.cpus = 2;
	start(o);
	soft_load_mm(&w.m->cpus[1], mm);
}

static int setup(void **state)
{
	(void)state;
	begin((struct world_options){ 0 });
	return 0;
}

static void passes(const char *text)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	if (script_parse(text, strlen(text), &s, message) || script_run(s, w.m, mm, message))
		fail_msg("%s", message);
	script_free(s);
}

static struct mm *fork_of(struct mm *parent)
{
	struct mm *child = NULL;

	assert_int_equal(mm_fork(parent, &child), 0);
	return child;
}

static pte_t entry(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static struct page *page_of(struct mm *of, unsigned page)
{
	pte_t pte = entry(of, page);

	return pte_mapped(pte) && !pte_special(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

static u64 nr_free(void)
{
	return zone_free_pages(w.e, ZONE_USER);
}

/* Run `process` on CPU 0 for one access. */
static u8 get_in(struct mm *process, unsigned page)
{
	u8 byte;

	soft_load_mm(w.cpu, process);
	byte = get(page);
	soft_load_mm(w.cpu, mm);
	return byte;
}

static void put_in(struct mm *process, unsigned page, u8 byte)
{
	soft_load_mm(w.cpu, process);
	put(page, byte);
	soft_load_mm(w.cpu, mm);
}

/* The first process ends, and another takes its place on all CPUs. */
static void end_first(struct mm *successor)
{
	struct mm *old = mm;

	w.mm = mm = successor;
	soft_load_mm(&w.m->cpus[0], mm);
	soft_load_mm(&w.m->cpus[1], mm);
	mm_destroy(old);
}

/* ---- what is inherited ---- */

static void a_child_has_what_the_parent_had(void **state)
{
	(void)state;
	passes("map any 8P rw as A\n"
	       "write A 8P 1\n"
	       "protect A+2P 2P r\n"
	       "fork as P\n"
	       "check\n"
	       "process P\n"
	       "read A 8P 1\n"
	       "expect minor 0\n" /* it is all there */
	       "expect rss 8\n"
	       "expect maps 3\n"
	       "write A+2P 1 5 -> segv accerr\n"
	       "write A 2P 2\n"
	       "expect minor 2\n"
	       "expect rss 8\n"
	       "check\n"
	       "process first\n"
	       "read A 8P 1\n");
}

static void nobody_sees_what_the_other_writes(void **state)
{
	(void)state;
	passes("map any 6P rw as A\n"
	       "write A 6P 1\n"
	       "fork as P\n"
	       "write A 2P 2\n"
	       "process P\n"
	       "read A 6P 1\n"
	       "write A+2P 2P 3\n"
	       "process first\n"
	       "read A 2P 2\n"
	       "read A+2P 4P 1\n"
	       "write A+4P 1P 4\n"
	       "process P\n"
	       "read A 2P 1\n"
	       "read A+2P 2P 3\n"
	       "read A+4P 2P 1\n"
	       "check\n"
	       "exit P\n"
	       "read A 2P 2\n"
	       "read A+4P 1P 4\n"
	       "read A+5P 1P 1\n"
	       "check\n");
}

static void a_write_from_another_cpu_of_the_parent_faults_after_fork(void **state)
{
	(void)state;
	/* Both CPUs have the page writable in their TLBs. */
	passes("map any 1P rw as A\n"
	       "write A 1P 1\n"
	       "cpu 1\n"
	       "write A 1P 2\n"
	       "cpu 0\n"
	       "fork as P\n"
	       "cpu 1\n"
	       "write A 1P 3\n"
	       "process P\n"
	       "read A 1P 2\n"
	       "check\n");
}

static void dontcopy_wipeonfork_and_locked_are_not_as_they_were(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed dontcopy as A\n"
	       "map 0x20100000 2P rw fixed wipeonfork as B\n"
	       "map 0x20200000 2P rw fixed locked as C\n"
	       "write A 2P 1\n"
	       "write B 2P 2\n"
	       "write C 2P 3\n"
	       "fork as P\n"
	       "process P\n"
	       "read A 1 -> segv maperr\n"
	       "read B 2P 0\n"
	       "read C 2P 3\n"
	       "expect maps 2\n"
	       "expect rss 2\n"
	       "advise C 2P dontneed\n" /* not locked */
	       "read C 2P 0\n"
	       "process first\n"
	       "advise C 2P dontneed -> einval\n"
	       "read A 2P 1\n"
	       "read B 2P 2\n"
	       "check\n");
}

/* As in Linux, where the child of a process with a locked half shows two areas. */
static void what_only_the_lock_kept_apart_is_not_merged(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed locked as A\n"
	       "map 0x20002000 2P rw fixed as B\n"
	       "fork as P\n"
	       "process P\n"
	       "expect maps 2\n"
	       "check\n"
	       "protect A 4P r\n"
	       "expect maps 1\n"
	       "check\n");
}

static void what_was_never_written_costs_the_child_nothing(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 4, RW);
	assert_int_equal(get(0), 0);
	assert_true(mm->tables > 1);
	child = fork_of(mm);
	assert_int_equal(child->tables, 1); /* not even the zero page's entry */
	assert_int_equal(get_in(child, 0), 0);
	mm_destroy(child);
}

static void the_zero_page_is_shared_as_it_is(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "read A 2P 0\n"
	       "write A+3P 1P 9\n"
	       "fork as P\n"
	       "write A 1P 1\n"
	       "process P\n"
	       "expect rss 1\n"
	       "read A 2P 0\n"
	       "write A+1P 1P 2\n"
	       "process first\n"
	       "read A 1P 1\n"
	       "read A+1P 1P 0\n"
	       "check\n");
}

static void a_page_that_nobody_may_access_is_inherited(void **state)
{
	(void)state;
	passes("map any 1P rw as A\n"
	       "write A 1P 1\n"
	       "protect A 1P none\n"
	       "fork as P\n"
	       "process P\n"
	       "read A 1 -> segv accerr\n"
	       "protect A 1P rw\n"
	       "write A 1 2\n"
	       "process first\n"
	       "protect A 1P rw\n"
	       "read A 1P 1\n"
	       "write A 1P 3\n"
	       "check\n");
}

static void protection_gives_nobody_the_right_to_write_to_what_is_shared(void **state)
{
	(void)state;
	passes("map any 2P rw as A\n"
	       "write A 2P 1\n"
	       "fork as P\n"
	       "protect A 2P r\n"
	       "protect A 2P rw\n"
	       "check\n"
	       "write A 1P 2\n"
	       "process P\n"
	       "read A 2P 1\n"
	       "check\n");
}

/* ---- who copies ---- */

static void the_last_one_writes_without_a_copy(void **state)
{
	struct page *page;
	struct mm *child;
	u64 minor;

	(void)state;
	map(0, 16, RW);
	for (unsigned i = 0; i < 16; i++)
		put(i, i);
	page = page_of(mm, 3);
	child = fork_of(mm);
	assert_false(page_test(page, PG_ANON_EXCLUSIVE));
	assert_int_equal(page_mapcount(page), 2);
	mm_destroy(child);
	minor = mm->minor;
	for (unsigned i = 0; i < 16; i++)
		put(i, i + 1);
	assert_int_equal(mm->minor, minor + 16);
	assert_ptr_equal(page_of(mm, 3), page);
	assert_true(page_test(page, PG_ANON_EXCLUSIVE));
}

static void who_writes_first_copies_and_the_other_keeps_the_page(void **state)
{
	struct mm *child;
	struct page *page;
	u64 free;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	page = page_of(mm, 0);
	child = fork_of(mm);
	free = nr_free();
	put_in(child, 0, 2);
	assert_int_equal(nr_free(), free - 1);
	assert_ptr_equal(page_of(mm, 0), page);
	assert_true(page_test(page_of(child, 0), PG_ANON_EXCLUSIVE));
	assert_false(pte_write(entry(mm, 0)));
	put(0, 3);
	assert_int_equal(nr_free(), free - 1);
	assert_ptr_equal(page_of(mm, 0), page);
	assert_int_equal(get_in(child, 0), 2);
	soft_check(w.m);
	end_first(child);
}

static void a_page_that_somebody_else_is_copying_is_not_written_to(void **state)
{
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	mm_destroy(fork_of(mm));
	page = page_of(mm, 0);
	page_get(page);
	put(0, 2);
	assert_ptr_not_equal(page_of(mm, 0), page);
	assert_int_equal(*(u8 *)page_direct(w.e, page), 1);
	page_put(w.e, page);
}

static void a_copy_that_cannot_be_mapped_leaves_all_as_it_was(void **state)
{
	struct fault_result r;
	struct page *page;
	struct mm *child;
	u64 free;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	child = fork_of(mm);
	page = page_of(mm, 0);
	free = nr_free();
	w.m->inject.set_again_every = 1;
	r = do_user_addr_fault(mm, AT(0), PF_USER | PF_WRITE | PF_PROT);
	w.m->inject.set_again_every = 0;
	assert_int_equal(r.reason, FAULT_RETRY);
	assert_int_equal(nr_free(), free);
	assert_ptr_equal(page_of(mm, 0), page);
	soft_check(w.m);
	put(0, 2);
	assert_int_equal(page_mapcount(page), 1);
	mm_destroy(child);
}

static void use_up_the_slots(void)
{
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		assert_true(swap_alloc(&w.e->swap) >= 0);
}

static void give_back_the_slots(void)
{
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		swap_put(&w.e->swap, i);
}

static void no_frame_for_a_copy_is_out_of_memory(void **state)
{
	struct mm *child;
	unsigned i;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .frames = 64 });
	map(0, 40, RW);
	for (i = 0; i < 40; i++)
		put(i, 1);
	child = fork_of(mm);
	use_up_the_slots();
	for (i = 0; i < 40; i++)
		if (soft_write_byte(w.cpu, AT(i), 2) != FAULT_OK)
			break;
	assert_int_equal(i, 64 - 1 - 64 / 16 - 40);
	give_back_the_slots();
	soft_check(w.m);
	for (unsigned k = 0; k < 40; k++)
		assert_int_equal(get(k), k < i ? 2 : 1);
	mm_destroy(child);
	put(i, 2);
}

/* ---- swap ---- */

static void a_swapped_page_is_shared_by_its_slot(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "write A 4P 1\n"
	       "pageout A 4P\n"
	       "expect swapped 4\n"
	       "fork as P\n"
	       "check\n"
	       "process P\n"
	       "expect swapped 4\n"
	       "read A 1P 1\n"
	       "expect major 1\n"
	       "check\n"
	       "process first\n"
	       "read A 1P 1\n" /* finds it in the swap cache */
	       "check\n"
	       "expect major 0\n"
	       "write A 1P 2\n"
	       "write A+1P 1P 3\n" /* from the store, and on to a copy, in one fault */
	       "expect major 1\n"
	       "expect minor 6\n"
	       "check\n"
	       "process P\n"
	       "read A 4P 1\n"
	       "check\n"
	       "exit P\n"
	       "read A+2P 2P 1\n"
	       "check\n");
	assert_int_equal(flaky.loads, 4);
}

static void who_is_alone_with_a_slot_may_write_at_once(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	mm_destroy(fork_of(mm));
	get(0);
	assert_true(pte_write(entry(mm, 0)));
	assert_true(page_test(page_of(mm, 0), PG_ANON_EXCLUSIVE));
}

static void a_page_whose_slot_others_name_is_not_written_to(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	child = fork_of(mm);
	get(0);
	page = page_of(mm, 0);
	assert_int_equal(page_mapcount(page), 1);
	assert_false(pte_write(entry(mm, 0)));
	put(0, 2); /* copies; the page has no entry any more, and is the child's all the same */
	assert_ptr_not_equal(page_of(mm, 0), page);
	assert_true(page_test(page, PG_WRITEBACK));
	soft_check(w.m);
	assert_int_equal(get_in(child, 0), 1);
	assert_ptr_equal(page_of(child, 0), page);
	assert_true(page_test(page, PG_ANON_EXCLUSIVE));
	mm_destroy(child);
}

/* Who copies a page has a reference to it, and may still read it when its own entry has gone. */
static void a_page_that_comes_back_while_somebody_copies_it_is_not_written_to(void **state)
{
	struct page *page;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	mm_destroy(fork_of(mm));
	page = page_of(mm, 0);
	page_get(page);
	while (take_segment(w.e, true, &t) && !t.taken)
		;
	get(0);
	assert_ptr_equal(page_of(mm, 0), page);
	assert_false(pte_write(entry(mm, 0)));
	page_put(w.e, page);
	put(0, 2);
	assert_ptr_equal(page_of(mm, 0), page);
}

static void when_the_others_have_let_go_of_the_slot_there_is_no_copy(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	child = fork_of(mm);
	get(0);
	page = page_of(mm, 0);
	assert_int_equal(w.e->swap.kept, 0);
	mm_destroy(child);
	assert_int_equal(w.e->swap.kept, 1);
	soft_check(w.m);
	put(0, 2);
	assert_ptr_equal(page_of(mm, 0), page);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 2);
}

static void the_dirty_bit_of_either_is_enough(void **state)
{
	struct mm *child;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	put(0, 2); /* in the store is 1 */
	child = fork_of(mm);
	end_first(child);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 2);
}

static void pages_are_read_ahead_for_each(void **state)
{
	struct mm *child;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .prefetch = 16 });
	map(0, 64, RW);
	for (unsigned i = 0; i < 64; i++)
		put(i, i);
	reclaim_range(mm, AT(0), AT(64));
	child = fork_of(mm);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(get(i), i);
	soft_check(w.m);
	for (unsigned i = 64; i-- > 0;)
		assert_int_equal(get_in(child, i), i);
	soft_check(w.m);
	for (unsigned i = 0; i < 64; i++)
		put(i, 100);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(get_in(child, i), i);
	mm_destroy(child);
}

/* ---- reclaim ---- */

static void a_shared_page_is_taken_from_all_its_entries(void **state)
{
	struct mm *children[3];
	struct page *page;
	struct taken t;
	bool full;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	page = page_of(mm, 0);
	for (unsigned i = 0; i < 3; i++)
		children[i] = fork_of(i ? children[i - 1] : mm);
	assert_int_equal(page_mapcount(page), 4);
	/* Young in one of them: spared once. */
	assert_true(take_segment(w.e, false, &t));
	assert_int_equal(t.taken, 0);
	assert_int_equal(t.aged, 1);
	assert_true(take_segment(w.e, false, &t));
	assert_int_equal(t.taken, 1);
	assert_int_equal(page_mapcount(page), 0);
	assert_int_equal(swap_slot(&w.e->swap, 0)->count, 5);
	soft_check(w.m);
	/* Two come back for it, one of them copies; the others find it in the store. */
	assert_int_equal(get(0), 7);
	put_in(children[1], 0, 8);
	soft_check(w.m);
	while (!w.e->lru.nr_writeout)
		take_segment(w.e, true, &t);
	soft_check(w.m);
	while (writeout(w.e, 8, &full))
		;
	soft_check(w.m);
	assert_int_equal(get_in(children[0], 0), 7);
	assert_int_equal(get_in(children[1], 0), 8);
	assert_int_equal(get_in(children[2], 0), 7);
	for (unsigned i = 0; i < 3; i++)
		mm_destroy(children[i]);
	assert_int_equal(get(0), 7);
}

static void an_entry_that_cannot_be_taken_keeps_the_page(void **state)
{
	struct mm *child;
	struct page *page;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	page = page_of(mm, 0);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2;
	take_segment(w.e, true, &t);
	w.m->inject.take_busy_every = 0;
	assert_int_equal(t.taken, 0);
	assert_int_equal(page_mapcount(page), 1);
	assert_int_equal(mm->swapped + child->swapped, 1);
	assert_true(page_test(page, PG_UNEVICTABLE));
	soft_check(w.m);
	put(0, 8);
	put_in(child, 0, 9);
	assert_int_equal(get(0), 8);
	mm_destroy(child);
}

/* The store is full, and the copies that are only kept make room: not the one that an entry names.
 */
static void a_page_that_an_entry_names_is_no_kept_copy(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 2, RW);
	put(0, 7);
	put(1, 1);
	reclaim_range(mm, AT(1), AT(2));
	get(1);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2;
	for (unsigned i = 0; i < 4 && !(mm->swapped + child->swapped); i++)
		take_segment(w.e, true, &t);
	w.m->inject.take_busy_every = 0;
	assert_int_equal(mm->swapped + child->swapped, 1);
	assert_int_equal(w.e->swap.kept, 1);
	assert_int_equal(lru_drop_kept(w.e), 1);
	assert_int_equal(w.e->swap.kept, 0);
	soft_check(w.m);
	assert_int_equal(get(0) + get(1), 8);
	assert_int_equal(get_in(child, 0) + get_in(child, 1), 8);
	mm_destroy(child);
}

static void a_locked_entry_keeps_the_page_from_all(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	assert_int_equal(vm_map(mm, AT(0), P(1), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	put(0, 7);
	child = fork_of(mm);
	assert_true(take_segment(w.e, true, &t));
	assert_int_equal(t.taken, 0);
	assert_int_equal(mm->rss + child->rss, 2);
	assert_int_equal(w.e->lru.nr_unevictable, 1);
	mm_destroy(child);
}

static void without_slots_a_shared_page_stays(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_of(mm);
	use_up_the_slots();
	take_segment(w.e, true, &t);
	assert_true(t.no_slots);
	assert_int_equal(mm->rss + child->rss, 2);
	give_back_the_slots();
	mm_destroy(child);
}

/* Neighbours of a victim that are mapped more than once stay, and so they do for MADV_PAGEOUT. */
static void a_shared_page_is_no_part_of_a_segment(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i);
	child = fork_of(mm);
	put(2, 20);
	put(5, 50);
	assert_int_equal(reclaim_range(mm, AT(0), AT(8)), 2);
	assert_int_equal(mm->rss, 6);
	assert_int_equal(mm->swapped, 2);
	soft_check(w.m);
	mm_destroy(child);
}

static void a_page_unmapped_here_and_swapped_out_there_goes_to_the_writer(void **state)
{
	struct mm *child;
	struct taken t;
	bool full;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2; /* the child's stays, or the parent's */
	take_segment(w.e, true, &t);
	w.m->inject.take_busy_every = 0;
	if (mm->rss) {
		assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
	} else {
		mm_destroy(child);
		child = NULL;
	}
	assert_int_equal(w.e->lru.nr_writeout, 1);
	soft_check(w.m);
	assert_int_equal(writeout(w.e, 1, &full), 1);
	assert_int_equal(flaky.saves, 1);
	assert_int_equal(child ? get_in(child, 0) : get(0), 7);
	if (child)
		mm_destroy(child);
}

/* ---- layout ---- */

static void moved_split_and_dropped_shared_pages_are_each_ones_own_affair(void **state)
{
	(void)state;
	passes("map 0x20000000 16P rw fixed as A\n"
	       "write A 16P 1\n"
	       "fork as P\n"
	       "remap A+4P 4P 4P to 0x30000000 as B\n"
	       "advise A 2P dontneed\n"
	       "unmap A+12P 2P\n"
	       "check\n"
	       "process P\n"
	       "read A 16P 1\n"
	       "remap A+6P 2P 2P to 0x40000000 keep as C\n"
	       "read A+6P 2P 0\n"
	       "write C 1P 2\n"
	       "protect A+8P 2P r\n"
	       "reclaim 30\n"
	       "check\n"
	       "read C 1P 2\n"
	       "read C+1P 1P 1\n"
	       "read A+8P 8P 1\n"
	       "fork as Q\n"
	       "check\n"
	       "exit P\n"
	       "reclaim 30\n"
	       "process Q\n"
	       "read C+1P 1P 1\n"
	       "write C 2P 4\n"
	       "check\n"
	       "process first\n"
	       "read B 4P 1\n"
	       "read A 2P 0\n"
	       "read A+2P 2P 1\n"
	       "reclaim 30\n"
	       "check\n"
	       "read B 4P 1\n");
}

/* The pages of the parent's lead to the child's VMA, the child's own do not lead to the parent's.
 */
static void each_generation_has_an_anon_vma_of_its_own(void **state)
{
	struct mm *child, *grandchild;
	struct anon_vma *a, *b, *c;

	(void)state;
	map(0, 2, RW);
	put(0, 1);
	child = fork_of(mm);
	grandchild = fork_of(child);
	a = find_vma(mm, AT(0))->anon_vma;
	b = find_vma(child, AT(0))->anon_vma;
	c = find_vma(grandchild, AT(0))->anon_vma;
	assert_true(a != b && b != c && a != c);
	assert_ptr_equal(a->root, a);
	assert_ptr_equal(c->root, a);
	assert_ptr_equal(c->parent, b);
	assert_int_equal(a->nr_vmas, 3);
	assert_int_equal(b->nr_vmas, 2);
	assert_int_equal(c->nr_vmas, 1);
	put_in(child, 0, 2);
	assert_ptr_equal(page_of(mm, 0)->anon_vma, a);
	assert_ptr_equal(page_of(child, 0)->anon_vma, b);
	/* It becomes the grandchild's alone. */
	end_first(grandchild);
	put(0, 3);
	assert_ptr_equal(page_of(grandchild, 0)->anon_vma, c);
	mm_destroy(child);
}

/* Children that fork and end: the chain does not grow. */
static void an_anon_vma_that_nobody_needs_is_used_again(void **state)
{
	unsigned n = 0;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	for (unsigned i = 0; i < 20; i++) {
		end_first(fork_of(mm));
		put(0, i);
		soft_check(w.m);
	}
	for (struct anon_vma_chain *l = find_vma(mm, AT(0))->anon_vma_chain; l; l = l->next)
		n++;
	assert_in_range(n, 2, 4);
}

/* But not by one of several children: pages that it has are the others', too. */
static void an_anon_vma_with_two_children_is_not_used_again(void **state)
{
	struct mm *child, *a, *b, *c;
	struct anon_vma *av;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	child = fork_of(mm);
	av = find_vma(child, AT(0))->anon_vma;
	a = fork_of(child);
	b = fork_of(child);
	mm_destroy(child);
	assert_int_equal(av->nr_children, 2);
	c = fork_of(a);
	assert_ptr_not_equal(find_vma(c, AT(0))->anon_vma, av);
	mm_destroy(c);
	mm_destroy(b);
	c = fork_of(a);
	assert_ptr_equal(find_vma(c, AT(0))->anon_vma, av);
	soft_check(w.m);
	mm_destroy(c);
	mm_destroy(a);
}

static void what_came_by_fork_gives_its_anon_vma_to_no_neighbour(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed as A\n"
	       "write A 2P 1\n"
	       "fork as P\n"
	       /* Nothing came to the parent by fork. */
	       "map 0x20002000 2P rw fixed as B\n"
	       "expect maps 1\n"
	       "process P\n"
	       "map 0x20002000 2P rw fixed as B\n"
	       "expect maps 2\n"
	       "write B 2P 2\n"
	       "protect A 4P r\n"
	       "protect A 4P rw\n"
	       "expect maps 2\n"
	       /* Its own parts are one again. */
	       "protect A 1P r\n"
	       "expect maps 3\n"
	       "protect A 1P rw\n"
	       "expect maps 2\n"
	       "check\n");
}

/* ---- failure ---- */

static const char family_life[] = "map 0x20000000 8P rw fixed as A\n"
				  "write A 4P 1\n"
				  "protect A+2P 2P r\n"
				  "pageout A 1P\n";

/* Fork with one allocation less to be had, until all are there. */
static void a_fork_without_memory_leaves_nothing_behind(void **state)
{
	bool all = false;
	u64 left, tables, used;

	(void)state;
	passes(family_life);
	end_first(fork_of(mm)); /* so that chains are long */
	for (left = 0; !all && left < 100; left++) {
		struct mm *child = NULL;
		int err;

		passes("pageout 0x20000000 1P\n");
		tables = zone_free_pages(w.e, ZONE_TABLE);
		used = w.e->swap.used;
		atomic_store(&w.m->memory_refused, 0);
		atomic_store(&w.m->inject.memory_left, left + 1);
		err = mm_fork(mm, &child);
		atomic_store(&w.m->inject.memory_left, 0);
		all = !atomic_load(&w.m->memory_refused);
		assert_int_equal(err, all ? 0 : -ENOMEM);
		soft_check(w.m);
		if (child)
			mm_destroy(child);
		assert_int_equal(zone_free_pages(w.e, ZONE_TABLE), tables);
		assert_int_equal(w.e->swap.used, used);
		soft_check(w.m);
		passes("read 0x20000000 4P 1\nwrite 0x20001000 1P 1\n");
	}
	assert_in_range(left, 8, 50);
}

static void a_fork_without_tables_leaves_nothing_behind(void **state)
{
	static struct page *held[4096];
	unsigned n;

	(void)state;
	passes(family_life);
	for (u64 left = 0; left < 6; left++) {
		struct mm *child = NULL;
		int err;

		for (n = 0; zone_free_pages(w.e, ZONE_TABLE) > left; n++)
			held[n] = page_alloc(w.e, ZONE_TABLE, 0, 0);
		err = mm_fork(mm, &child);
		assert_int_equal(err, left < 4 ? -ENOMEM : 0);
		if (child)
			mm_destroy(child);
		while (n)
			page_put(w.e, held[--n]);
		soft_check(w.m);
		passes("read 0x20000000 4P 1\nwrite 0x20001000 1P 1\n");
	}
}

static void a_machine_that_shares_no_pages_does_not_fork(void **state)
{
	struct mmu_ops ops = soft_mmu_ops;
	struct mm *child;

	(void)state;
	ops.shares_pages = false;
	w.e->mmu = &ops;
	assert_int_equal(mm_fork(mm, &child), -ENOSYS);
	w.e->mmu = &soft_mmu_ops;
}

/* ---- the checks ---- */

static void the_checks_find_a_writable_entry_of_a_page_that_is_not_exclusive(void **state)
{
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	page = page_of(mm, 0);
	page_clear(page, PG_ANON_EXCLUSIVE);
	assert_panics(engine_check(w.e), "not exclusive");
	page_set(page, PG_ANON_EXCLUSIVE);
}

static void the_checks_find_a_mapping_that_the_reverse_map_does_not(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	page = page_of(mm, 0);
	child = fork_of(mm);
	/* As if the page belonged to the child's own anon_vma, which does not lead to the parent.
	 */
	page->anon_vma = find_vma(child, AT(0))->anon_vma;
	assert_panics(engine_check(w.e), "1 are found");
	page->anon_vma = find_vma(mm, AT(0))->anon_vma;
	page->mapcount++;
	assert_panics(engine_check(w.e), "2 are found");
	page->mapcount--;
	mm_destroy(child);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_child_has_what_the_parent_had),
		T(nobody_sees_what_the_other_writes),
		T(a_write_from_another_cpu_of_the_parent_faults_after_fork),
		T(dontcopy_wipeonfork_and_locked_are_not_as_they_were),
		T(what_only_the_lock_kept_apart_is_not_merged),
		T(what_was_never_written_costs_the_child_nothing),
		T(the_zero_page_is_shared_as_it_is),
		T(a_page_that_nobody_may_access_is_inherited),
		T(protection_gives_nobody_the_right_to_write_to_what_is_shared),
		T(the_last_one_writes_without_a_copy),
		T(who_writes_first_copies_and_the_other_keeps_the_page),
		T(a_page_that_somebody_else_is_copying_is_not_written_to),
		T(a_copy_that_cannot_be_mapped_leaves_all_as_it_was),
		T(no_frame_for_a_copy_is_out_of_memory),
		T(a_swapped_page_is_shared_by_its_slot),
		T(who_is_alone_with_a_slot_may_write_at_once),
		T(a_page_whose_slot_others_name_is_not_written_to),
		T(a_page_that_comes_back_while_somebody_copies_it_is_not_written_to),
		T(when_the_others_have_let_go_of_the_slot_there_is_no_copy),
		T(the_dirty_bit_of_either_is_enough),
		T(pages_are_read_ahead_for_each),
		T(a_shared_page_is_taken_from_all_its_entries),
		T(an_entry_that_cannot_be_taken_keeps_the_page),
		T(a_page_that_an_entry_names_is_no_kept_copy),
		T(a_locked_entry_keeps_the_page_from_all),
		T(without_slots_a_shared_page_stays),
		T(a_shared_page_is_no_part_of_a_segment),
		T(a_page_unmapped_here_and_swapped_out_there_goes_to_the_writer),
		T(moved_split_and_dropped_shared_pages_are_each_ones_own_affair),
		T(each_generation_has_an_anon_vma_of_its_own),
		T(an_anon_vma_that_nobody_needs_is_used_again),
		T(an_anon_vma_with_two_children_is_not_used_again),
		T(what_came_by_fork_gives_its_anon_vma_to_no_neighbour),
		T(a_fork_without_memory_leaves_nothing_behind),
		T(a_fork_without_tables_leaves_nothing_behind),
		T(a_machine_that_shares_no_pages_does_not_fork),
		T(the_checks_find_a_writable_entry_of_a_page_that_is_not_exclusive),
		T(the_checks_find_a_mapping_that_the_reverse_map_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
