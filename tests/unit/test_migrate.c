/* SPDX-License-Identifier: MIT */
/* Pages that move to other frames: nothing of a page changes but its frame. */
#include "tests/unit/migrate_world.h"

/* ---- moving ---- */

static void a_page_moves_and_nobody_notices(void **state)
{
	const struct page *was;
	u64 before, free;

	(void)state;
	map(0, 2, RW);
	put(0, 7);
	put(1, 8);
	was = page_of(mm, 0);
	free = free_frames();
	before = faults();
	move(0);
	assert_int_equal(was->refcount, 0);
	assert_int_equal(free_frames(), free);
	assert_int_equal(get(0), 7);
	put(0, 9);
	assert_int_equal(get(0) + get(1), 9 + 8);
	assert_int_equal(faults(), before);
	assert_int_equal(mm->rss, 2);
	/* It is written out and comes back as any other. */
	reclaim_range(mm, AT(0), AT(2));
	assert_int_equal(mm->rss, 0);
	assert_int_equal(get(0), 9);
}

static void only_what_is_on_a_list_is_moved(void **state)
{
	struct page *fresh = page_alloc(w.e, ZONE_USER, 0, 0);

	(void)state;
	assert_false(migrate_get(w.e, fresh));
	assert_false(migrate_get(w.e, pfn_page(w.e, w.e->zero_pfn)));
	assert_false(migrate_get(w.e, pfn_page(w.e, mm->pgd_phys >> PAGE_SHIFT)));
	page_put(w.e, fresh);
	assert_false(migrate_get(w.e, fresh));
}

static void where_frames_are_a_mere_budget_nothing_is(void **state)
{
	void *direct = w.e->zones[ZONE_USER].direct_map;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	w.e->zones[ZONE_USER].direct_map = NULL;
	assert_false(can_migrate(w.e));
	assert_false(migrate_get(w.e, page_of(mm, 0)));
	w.e->zones[ZONE_USER].direct_map = direct;
	assert_true(can_migrate(w.e));
}

static void without_a_frame_it_stays(void **state)
{
	struct page *all[512];
	unsigned n = 0;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	while ((all[n] = page_alloc(w.e, ZONE_USER, 0, ALLOC_NORECLAIM)))
		n++;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), -ENOMEM);
	assert_int_equal(get(0), 7);
	while (n)
		page_put(w.e, all[--n]);
}

static void it_keeps_its_place_among_the_others(void **state)
{
	const struct page *was[3], *now[3];

	(void)state;
	map(0, 3, RW);
	for (unsigned i = 0; i < 3; i++)
		put(i, i);
	for (unsigned i = 0; i < 3; i++)
		was[i] = page_of(mm, i);
	assert_ptr_equal(was[1]->lru.next, &was[0]->lru);
	assert_ptr_equal(was[1]->lru.prev, &was[2]->lru);
	move(1);
	for (unsigned i = 0; i < 3; i++)
		now[i] = page_of(mm, i);
	assert_ptr_equal(now[1]->lru.next, &was[0]->lru);
	assert_ptr_equal(now[1]->lru.prev, &was[2]->lru);
	assert_int_equal(page_list(now[1]), page_list(was[0]));
}

static void what_is_locked_into_memory_moves_and_stays_locked(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	assert_int_equal(do_mlock(mm, AT(0), P(1)), 0);
	reclaim_range(mm, AT(0), AT(1));
	reclaim_direct(w.e, 300);
	assert_true(page_test(page_of(mm, 0), PG_UNEVICTABLE));
	move(0);
	assert_true(page_test(page_of(mm, 0), PG_UNEVICTABLE));
	assert_int_equal(lru_unevictable(w.e), 1);
	assert_int_equal(get(0), 7);
}

static void rights_are_what_they_were(void **state)
{
	(void)state;
	map(0, 3, RW);
	for (unsigned i = 0; i < 3; i++)
		put(i, 7);
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
	assert_int_equal(vm_protect(mm, AT(1), P(1), 0), 0);
	for (unsigned i = 0; i < 3; i++)
		move(i);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(try_read(w.cpu, 1), FAULT_ACCERR);
	assert_true(pte_protnone(pte_of(mm, 1)));
	assert_int_equal(vm_protect(mm, AT(0), P(3), RW), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(get(i), 7);
		put(i, 8);
	}
}

static void all_that_share_it_go_on_sharing_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	fork_here();
	move(0);
	assert_ptr_equal(page_of(mm, 0), page_of(child, 0));
	assert_int_equal(page_of(mm, 0)->mapcount, 2);
	put(0, 8);
	assert_int_equal(read_on(cpu1, 0), 7);
	assert_int_equal(get(0), 8);
}

static void a_kept_copy_stays_its(void **state)
{
	struct page *page;
	u64 slot, saves;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 7);
	assert_true(page_test(page_of(mm, 0), PG_SWAPCACHE));
	slot = page_of(mm, 0)->swap.v;
	saves = w.e->stats->evicted_dirty;
	move(0);
	page = page_of(mm, 0);
	assert_true(page_test(page, PG_SWAPCACHE) && page->swap.v == slot);
	/* Unchanged: it goes without being saved again. */
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(w.e->stats->evicted_dirty, saves);
	assert_int_equal(get(0), 7);
}

static void those_who_have_its_slot_find_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	fork_here();
	reclaim_direct(w.e, 300);
	assert_int_equal(get(0), 7);
	assert_true(pte_is_swap(pte_of(child, 0)));
	move(0);
	assert_int_equal(read_on(cpu1, 0), 7);
	assert_ptr_equal(page_of(mm, 0), page_of(child, 0));
}

static void what_was_given_up_stays_given_up(void **state)
{
	(void)state;
	map(0, 2, RW);
	put(0, 7);
	put(1, 7);
	assert_int_equal(do_madvise(mm, AT(0), P(2), UAPI_MADV_FREE), 0);
	move(0);
	move(1);
	assert_int_equal(get(0), 7);
	put(1, 8);
	reclaim_range(mm, AT(0), AT(2));
	assert_int_equal(w.e->stats->lazyfreed, 1);
	assert_int_equal(get(0), 0);
	assert_int_equal(get(1), 8);
}

/* ---- files ---- */

static void a_page_of_a_file_moves_in_all_mappings_and_in_the_cache(void **state)
{
	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	assert_int_equal(get(0) + get(8), 10);
	move(0);
	assert_ptr_equal(page_of(mm, 0), page_of(mm, 8));
	assert_int_equal(file->mapping->nr_dirty, 0);
	put(0, 6);
	assert_int_equal(get(8) + in_file(0), 12);
	put(8, 7);
	assert_int_equal(get(0) + in_file(0), 12);
}

static void what_was_written_to_it_is_written_out_from_there(void **state)
{
	u64 written;

	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(0, 6);
	move(0);
	assert_int_equal(file->mapping->nr_dirty, 1);
	written = ramfile_count(file, RAMFILE_WRITE);
	assert_int_equal(vfs_fsync_range(file, 0, P(4)), 0);
	assert_int_equal(ramfile_count(file, RAMFILE_WRITE), written + 1);
	assert_int_equal(file->mapping->nr_dirty, 0);
	/* The next write is noticed. */
	put(0, 7);
	assert_int_equal(vfs_fsync_range(file, 0, P(4)), 0);
	assert_int_equal(ramfile_count(file, RAMFILE_WRITE), written + 2);
}

static void a_page_that_is_only_in_the_cache_moves(void **state)
{
	struct page *page;

	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	page = find_get_page(file->mapping, 2);
	page_put(w.e, page);
	assert_int_equal(try_move(page, MIGRATE_SYNC), 0);
	assert_int_equal(page->refcount, 0);
	assert_int_equal(in_file(2), 5);
	soft_check(w.m);
}

static void shared_memory_moves(void **state)
{
	(void)state;
	map_file(shmem_file_setup(w.e, P(4)));
	put(0, 6);
	assert_int_equal(get(1), 5);
	move(0);
	move(1);
	reclaim_range(mm, AT(0), AT(4));
	assert_int_equal(get(0) + get(1), 11);
}

/* ---- others have it ---- */

static struct page *held;

static void is_held_from_now_on(void)
{
	held = page_of(mm, 0);
	page_get(held);
}

static void a_page_that_somebody_uses_stays_as_it_is(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	is_held_from_now_on();
	asked = 0;
	assert_int_equal(try_move(held, MIGRATE_SYNC), -EAGAIN);
	assert_true(asked > 3);
	asked = 0;
	assert_int_equal(try_move(held, MIGRATE_ASYNC), -EAGAIN);
	assert_in_range(asked, 1, 3);
	page_put(w.e, held);
	soft_check(w.m);
	assert_ptr_equal(page_of(mm, 0), held);
	assert_true(pte_write(pte_of(mm, 0)));
	assert_int_equal(get(0), 7);
	put(0, 8);
	move(0);
	assert_int_equal(get(0), 8);
}

static void one_that_is_locked_is_left_if_there_is_no_time(void **state)
{
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	page = page_of(mm, 0);
	page_lock(page);
	assert_int_equal(try_move(page, MIGRATE_ASYNC), -EAGAIN);
	page_unlock(page);
	move(0);
}

static int status_then;

static void try_it_now(void)
{
	status_then = try_move(held, MIGRATE_SYNC);
}

/* Another CPU may still write through the translation that is about to be flushed. */
static void not_before_an_unmapper_has_flushed(void **state)
{
	(void)state;
	map_file(shmem_file_setup(w.e, P(4)));
	assert_int_equal(vm_map_file(mm, AT(20), P(4), RW, VMAP_FIXED, SHARED, file, 0), AT(20));
	put(0, 6);
	write_on(cpu1, 20, 7);
	held = page_of(mm, 0);
	status_then = 0;
	at.flush = try_it_now;
	assert_int_equal(vm_unmap(mm, AT(20), P(4)), 0);
	assert_int_equal(status_then, -EAGAIN);
	assert_ptr_equal(page_of(mm, 0), held);
	move(0);
	assert_int_equal(get(0), 7);
}

static void fork_only(void)
{
	assert_int_equal(mm_fork(mm, &child), 0);
}

/* The walk that freezes has the family's lock, and fork is next: it meets the entry frozen, or just
 * thawing. */
static void it_is_held_and_fork_waits(void)
{
	is_held_from_now_on();
	begin(fork_only);
	waits(layout_is_locked);
}

static void what_fork_copies_thaws_where_it_was_if_it_cannot_move(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.flush = it_is_held_and_fork_waits;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_ASYNC), -EAGAIN);
	join();
	soft_load_mm(cpu1, child);
	page_put(w.e, held);
	soft_check(w.m);
	assert_ptr_equal(page_of(mm, 0), held);
	assert_ptr_equal(page_of(child, 0), held);
	assert_int_equal(read_on(cpu1, 0), 7);
	put(0, 8);
	assert_int_equal(read_on(cpu1, 0), 7);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(a_page_moves_and_nobody_notices),
		T(only_what_is_on_a_list_is_moved),
		T(where_frames_are_a_mere_budget_nothing_is),
		T(without_a_frame_it_stays),
		T(it_keeps_its_place_among_the_others),
		T(what_is_locked_into_memory_moves_and_stays_locked),
		T(rights_are_what_they_were),
		T(all_that_share_it_go_on_sharing_it),
		T(a_kept_copy_stays_its),
		T(those_who_have_its_slot_find_it),
		T(what_was_given_up_stays_given_up),
		T(a_page_of_a_file_moves_in_all_mappings_and_in_the_cache),
		T(what_was_written_to_it_is_written_out_from_there),
		T(a_page_that_is_only_in_the_cache_moves),
		T(shared_memory_moves),
		T(a_page_that_somebody_uses_stays_as_it_is),
		T(one_that_is_locked_is_left_if_there_is_no_time),
		T(not_before_an_unmapper_has_flushed),
		T(what_fork_copies_thaws_where_it_was_if_it_cannot_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
