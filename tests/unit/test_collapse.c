/* SPDX-License-Identifier: MIT */
/* Huge pages made of single ones: MADV_COLLAPSE, and the scan in the background. */
#include "engine/base/errno.h"
#include "engine/fault/collapse.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "tests/unit/huge_marks.h"
#include "tests/unit/one_world.h"

#define HUGE(n) ((n)*HUGE_PAGES)

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 4096, .thp = THP_MADVISE, .cpus = 2 });
	w.e->config.collapse.max_none = HUGE_PAGES - 1;
	w.e->config.collapse.max_swap = HUGE_PAGES / 8;
	w.e->config.collapse.max_shared = HUGE_PAGES / 2;
	return 0;
}

static s64 collapse(unsigned page, unsigned n)
{
	return do_madvise(mm, AT(page), P(n), UAPI_MADV_COLLAPSE);
}

static s64 advise(unsigned page, unsigned n, u32 advice)
{
	return do_madvise(mm, AT(page), P(n), advice);
}

static void collapsed_pages_keep_their_bytes_and_cost_no_fault(void **state)
{
	u64 before, free;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	assert_false(is_huge(HUGE(0)));
	before = atomic_load(&mm->minor);
	free = zone_free_pages(w.e, ZONE_USER);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0);
	assert_true(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_filled(HUGE(0), HUGE(1));
	fill(HUGE(0), HUGE(1));
	assert_int_equal(atomic_load(&mm->minor), before);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0); /* it is done */
	assert_int_equal(atomic_load(&w.e->stats->thp_collapse), 1);
}

static void what_was_never_touched_is_zeros(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	put(HUGE(0) + 5, 5);
	assert_int_equal(get(HUGE(0) + 6), 0); /* the zero page */
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0);
	assert_int_equal(atomic_load(&mm->rss), HUGE_PAGES);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(0) + i), i == 5 ? 5 : 0);
}

static void what_is_swapped_out_comes_back_first(void **state)
{
	u64 before;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	assert_int_equal(advise(HUGE(0), HUGE(1), UAPI_MADV_PAGEOUT), 0);
	assert_int_equal(atomic_load(&mm->swapped), HUGE_PAGES);
	before = atomic_load(&mm->minor) + atomic_load(&mm->major);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0);
	assert_int_equal(atomic_load(&mm->minor) + atomic_load(&mm->major), before);
	assert_int_equal(atomic_load(&mm->swapped), 0);
	assert_true(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_filled(HUGE(0), HUGE(1));
}

static void what_cannot_be_says_why(void **state)
{
	struct page *held[8], *page;
	unsigned n = 0;

	(void)state;
	map(HUGE(0), HUGE(2), RW);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), -EINVAL); /* nothing there */
	fill(HUGE(0), HUGE(1));
	assert_int_equal(collapse(HUGE(0), HUGE(2)), -EINVAL); /* no table in the second half */
	assert_true(is_huge(HUGE(0)));
	split_huge_pmd(mm, AT(HUGE(0)));
	assert_int_equal(advise(HUGE(0), HUGE(2), UAPI_MADV_NOHUGEPAGE), 0);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), -EINVAL);
	assert_int_equal(advise(HUGE(0), HUGE(2), UAPI_MADV_HUGEPAGE), 0);
	assert_int_equal(collapse(HUGE(0) + 1, HUGE(1) - 2), -EINVAL); /* no whole one */

	page = pfn_page(w.e, pte_pfn(pte_peek(mm, AT(HUGE(0) + 9))));
	page_get(page);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), -EAGAIN);
	page_put(w.e, page);
	page_lock(page);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), -EAGAIN);
	page_unlock(page);

	while ((held[n] = page_alloc(w.e, ZONE_USER, HUGE_ORDER, ALLOC_NORECLAIM)))
		n++;
	assert_int_equal(collapse(HUGE(0), HUGE(1)), -ENOMEM);
	while (n--)
		page_put(w.e, held[n]);
	assert_false(is_huge(HUGE(0)));
	assert_filled(HUGE(0), HUGE(1));
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0);
}

static void shared_pages_are_copied_and_stay_the_others(void **state)
{
	struct soft_cpu *other = &w.m->cpus[1];
	struct mm *child;
	u8 byte;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	assert_int_equal(mm_fork(mm, &child), 0);
	soft_load_mm(other, child);
	assert_int_equal(collapse(HUGE(0), HUGE(1)), 0);
	soft_check(w.m);
	put(HUGE(0) + 1, 1);
	assert_int_equal(soft_read_byte(other, AT(HUGE(0) + 1), &byte), FAULT_OK);
	assert_int_equal(byte, mark_of(HUGE(0) + 1));
	soft_load_mm(other, NULL);
	mmput(child);
}

/* ---- in the background ---- */

/* So that the entry says so: reclaim may have looked meanwhile. */
static void use(unsigned page)
{
	soft_invlpg(w.cpu, AT(page));
	(void)get(page);
}

/* Two slices, so that one goes through all spaces from the beginning. */
static unsigned scan_all(void)
{
	unsigned made = khugepaged_scan(w.e, HUGE(64));

	return made + khugepaged_scan(w.e, HUGE(64));
}

static void the_scan_makes_huge_pages_where_they_are_wanted(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	map(HUGE(2), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	fill(HUGE(2), HUGE(1));
	assert_int_equal(scan_all(), 0);
	assert_int_equal(advise(HUGE(2), HUGE(1), UAPI_MADV_HUGEPAGE), 0);
	assert_int_equal(scan_all(), 1);
	assert_false(is_huge(HUGE(0)));
	assert_true(is_huge(HUGE(2)));
	assert_filled(HUGE(2), HUGE(1));
	assert_int_equal(scan_all(), 0);
}

/* Each call does its slice, and the next goes on from there. */
static void the_scan_goes_on_where_it_was(void **state)
{
	unsigned made = 0;

	(void)state;
	w.e->config.thp = THP_NEVER;
	map(HUGE(0), HUGE(3), RW);
	fill(HUGE(0), HUGE(3));
	w.e->config.thp = THP_ALWAYS;
	for (unsigned i = 0; i < 3; i++) {
		use(HUGE(i));
		assert_int_equal(khugepaged_scan(w.e, 1), 1);
		made++;
	}
	assert_true(is_huge(HUGE(0)) && is_huge(HUGE(1)) && is_huge(HUGE(2)));
	assert_int_equal(atomic_load(&w.e->stats->thp_collapse), made);
}

static void the_scan_keeps_to_its_limits(void **state)
{
	struct mm *child;

	(void)state;
	w.e->config.thp = THP_ALWAYS;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	split_huge_pmd(mm, AT(HUGE(0)));
	assert_int_equal(advise(HUGE(0), HUGE_PAGES / 2, UAPI_MADV_PAGEOUT), 0);
	assert_int_equal(scan_all(), 0);
	assert_filled(HUGE(0), HUGE(1));
	w.e->config.collapse.max_none = 10;
	assert_int_equal(advise(HUGE(0), 11, UAPI_MADV_DONTNEED), 0);
	assert_int_equal(scan_all(), 0);
	put(HUGE(0), 1);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(scan_all(), 0);
	mmput(child);
	assert_int_equal(scan_all(), 1);
}

/* Pages that nobody has used since they were last looked at are not worth it. */
static void the_scan_leaves_idle_pages(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	assert_int_equal(advise(HUGE(0), HUGE(1), UAPI_MADV_HUGEPAGE), 0);
	assert_int_equal(advise(HUGE(0), HUGE(1), UAPI_MADV_COLD), 0);
	assert_int_equal(scan_all(), 0);
	use(HUGE(0));
	assert_int_equal(scan_all(), 1);
}

static void the_scan_forgets_spaces_that_go(void **state)
{
	struct mm *child;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	assert_int_equal(advise(HUGE(0), HUGE(1), UAPI_MADV_HUGEPAGE), 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	w.e->config.collapse.max_shared = HUGE_PAGES;
	assert_true(scan_all() > 0);
	mmput(child);
	scan_all();
	assert_filled(HUGE(0), HUGE(1));
}

#define collapse_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- where the host does it ---- */

static struct {
	u64 asked[8];
	unsigned n;
	int answer;
} host;

static int host_collapse(struct mm *of, u64 va)
{
	assert_ptr_equal(of, mm);
	assert_false(rwsem_is_locked(&mm->mmap_lock));
	host.asked[host.n++ % ARRAY_SIZE(host.asked)] = va;
	if (host.answer)
		return host.answer;
	host.answer = -EEXIST; /* it has it from now on */
	return 0;
}

static struct mmu_ops host_ops(void)
{
	struct mmu_ops ops = *w.e->mmu;

	ops.set_huge = NULL;
	ops.change_huge = NULL;
	ops.clear_huge = NULL;
	ops.test_and_clear_young_huge = NULL;
	ops.collapse = host_collapse;
	ops.never_young = true;
	host.n = 0;
	host.answer = 0;
	return ops;
}

static void a_host_is_asked_for_what_is_all_there(void **state)
{
	const struct mmu_ops *before = w.e->mmu, ops = host_ops();

	(void)state;
	w.e->config.collapse.max_none = w.e->config.collapse.max_swap = 0;
	w.e->config.thp = THP_ALWAYS;
	w.e->mmu = &ops;
	map(HUGE(0), HUGE(3), RW);
	fill(HUGE(0), HUGE(2) + 511);
	reclaim_range(mm, AT(HUGE(1) + 3), AT(HUGE(1) + 4));
	assert_int_equal(scan_all(), 1);
	for (unsigned i = 0; i < host.n; i++)
		assert_int_equal(host.asked[i], AT(HUGE(0)));
	assert_int_equal(atomic_load(&w.e->stats->thp_collapse), 1);
	/* What is in one piece goes last. */
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_ACTIVE], HUGE_PAGES);
	assert_filled(HUGE(0), HUGE(2) + 511);
	w.e->mmu = before;
}

static void a_host_that_has_it_or_will_not_makes_none(void **state)
{
	const struct mmu_ops *before = w.e->mmu, ops = host_ops();

	(void)state;
	w.e->config.thp = THP_ALWAYS;
	w.e->mmu = &ops;
	map(HUGE(0), HUGE(1), RW);
	fill(HUGE(0), HUGE(1));
	host.answer = -EEXIST;
	assert_int_equal(scan_all(), 0);
	host.answer = -EAGAIN;
	assert_int_equal(scan_all(), 0);
	assert_true(host.n >= 2);
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_ACTIVE], 0);
	w.e->config.thp = THP_NEVER;
	host.n = 0;
	assert_int_equal(scan_all(), 0);
	assert_int_equal(host.n, 0);
	w.e->mmu = before;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		collapse_test(collapsed_pages_keep_their_bytes_and_cost_no_fault),
		collapse_test(what_was_never_touched_is_zeros),
		collapse_test(what_is_swapped_out_comes_back_first),
		collapse_test(what_cannot_be_says_why),
		collapse_test(shared_pages_are_copied_and_stay_the_others),
		collapse_test(the_scan_makes_huge_pages_where_they_are_wanted),
		collapse_test(the_scan_goes_on_where_it_was),
		collapse_test(the_scan_keeps_to_its_limits),
		collapse_test(the_scan_leaves_idle_pages),
		collapse_test(the_scan_forgets_spaces_that_go),
		collapse_test(a_host_is_asked_for_what_is_all_there),
		collapse_test(a_host_that_has_it_or_will_not_makes_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
