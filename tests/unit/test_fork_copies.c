/* SPDX-License-Identifier: MIT */
/* fork: who copies a page that is shared, and who may write to it as it is. */
#include "tests/unit/fork_world.h"

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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_last_one_writes_without_a_copy),
		T(who_writes_first_copies_and_the_other_keeps_the_page),
		T(a_page_that_somebody_else_is_copying_is_not_written_to),
		T(a_copy_that_cannot_be_mapped_leaves_all_as_it_was),
		T(no_frame_for_a_copy_is_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
