/* SPDX-License-Identifier: MIT */
/* Anonymous pages against pages of files: which go, and how many of each. */
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "tests/unit/one_world.h"

enum { EACH = 120, TURNS = 3000 };

static struct file *file;

/* As many pages of a clean file as anonymous ones. */
static void start_half_and_half(int swappiness)
{
	u8 bytes[PAGE_SIZE] = { 1 };

	start((struct world_options){ .frames = 400, .segment = 1, .swappiness = swappiness });
	file = ramfile_create(w.e, FILE_READ | FILE_WRITE, EACH);
	for (unsigned i = 0; i < EACH; i++)
		assert_int_equal(file_write(file, P(i), bytes, PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(vfs_fsync_range(file, 0, P(EACH)), 0);
	map(0, EACH, RW);
	for (unsigned i = 0; i < EACH; i++)
		put(i, i + 1);
}

static int end(void **state)
{
	file_put(file);
	return teardown(state);
}

static u64 files_gone(void)
{
	return EACH - file->mapping->nr_pages;
}

static u64 anon_gone(void)
{
	return EACH - mm->rss;
}

/* How many of so many turns are of anonymous pages, in hundredths. */
static unsigned anon_share(u64 anon, u64 of_files)
{
	unsigned n = 0;

	for (unsigned i = 0; i < TURNS; i++)
		n += lru_choose_kind(&w.e->lru.nodes[0], anon, of_files) == KIND_ANON;
	return n * 100 / TURNS;
}

static void at_0_anonymous_pages_stay_while_there_are_files(void **state)
{
	(void)state;
	start_half_and_half(-1);
	reclaim_direct(w.e, 80);
	assert_int_equal(anon_gone(), 0);
	assert_true(files_gone() >= 80);
	reclaim_direct(w.e, 80);
	assert_int_equal(files_gone(), EACH);
	assert_true(anon_gone() >= 40);
}

static void at_200_files_stay_while_there_are_anonymous_pages(void **state)
{
	(void)state;
	start_half_and_half(200);
	reclaim_direct(w.e, 80);
	assert_true(anon_gone() >= 80);
	assert_int_equal(files_gone(), 0);
}

static void at_100_they_go_alike(void **state)
{
	(void)state;
	start_half_and_half(100);
	reclaim_direct(w.e, 100);
	assert_in_range(anon_gone(), 40, 60);
	assert_in_range(files_gone(), 40, 60);
}

static void at_60_three_go_of_ten(void **state)
{
	(void)state;
	start_half_and_half(60);
	assert_in_range(anon_share(500, 500), 29, 31);
}

static void they_go_by_how_many_there_are(void **state)
{
	(void)state;
	start_half_and_half(100);
	assert_in_range(anon_share(300, 100), 74, 76);
	assert_int_equal(anon_share(300, 0), 100);
	assert_int_equal(anon_share(0, 300), 0);
}

static void what_has_to_be_brought_back_is_spared(void **state)
{
	unsigned before;

	(void)state;
	start_half_and_half(100);
	before = anon_share(500, 500);
	lru_note_cost(&w.e->lru.nodes[0], KIND_ANON, 30);
	/* All the cost on one side: two to one. */
	assert_in_range(anon_share(500, 500), 32, 34);
	assert_in_range(before, 49, 51);
}

static void old_costs_are_forgotten(void **state)
{
	(void)state;
	start_half_and_half(100);
	lru_note_cost(&w.e->lru.nodes[0], KIND_ANON, 60);
	for (unsigned i = 0; i < 1000; i++)
		lru_note_cost(&w.e->lru.nodes[0], KIND_FILE, 1);
	assert_int_equal(w.e->lru.nodes[0].cost[KIND_ANON], 0);
	assert_true(w.e->lru.nodes[0].cost[KIND_FILE] <= 60);
	assert_in_range(anon_share(500, 500), 66, 68);
}

static void without_swap_only_files_go(void **state)
{
	(void)state;
	start_half_and_half(200);
	assert_int_equal(swap_area_off(w.e, 0), 0);
	reclaim_direct(w.e, 80);
	assert_int_equal(anon_gone(), 0);
	assert_true(files_gone() >= 80);
}

static void shared_memory_is_of_the_anonymous_kind(void **state)
{
	struct file *shm;
	struct page *page;

	(void)state;
	start_half_and_half(60);
	shm = shmem_file_setup(w.e, P(1));
	assert_int_equal(file_write(shm, 0, "x", 1), 1);
	page = find_get_page(shm->mapping, 0);
	assert_int_equal(page_kind(page), KIND_ANON);
	page_put(w.e, page);
	page = find_get_page(file->mapping, 0);
	assert_int_equal(page_kind(page), KIND_FILE);
	page_put(w.e, page);
	file_put(shm);
}

static void a_refault_makes_its_kind_dearer(void **state)
{
	(void)state;
	start_half_and_half(60);
	reclaim_range(mm, AT(0), AT(4));
	assert_int_equal(w.e->lru.nodes[0].cost[KIND_ANON], 0);
	get(0);
	assert_int_equal(w.e->lru.nodes[0].cost[KIND_ANON], 1);
	assert_int_equal(w.e->lru.nodes[0].cost[KIND_FILE], 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, end)
	const struct CMUnitTest tests[] = {
		T(at_0_anonymous_pages_stay_while_there_are_files),
		T(at_200_files_stay_while_there_are_anonymous_pages),
		T(at_100_they_go_alike),
		T(at_60_three_go_of_ten),
		T(they_go_by_how_many_there_are),
		T(what_has_to_be_brought_back_is_spared),
		T(old_costs_are_forgotten),
		T(without_swap_only_files_go),
		T(shared_memory_is_of_the_anonymous_kind),
		T(a_refault_makes_its_kind_dearer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
