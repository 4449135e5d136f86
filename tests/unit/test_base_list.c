/* SPDX-License-Identifier: MIT */
#include "engine/base/list.h"
#include "tests/unit/unit.h"

struct item {
	int n;
	struct list_head link;
};

static void add_tail_keeps_order_and_add_reverses(void **state)
{
	struct item a[3] = { { .n = 0 }, { .n = 1 }, { .n = 2 } }, *i;
	struct list_head fifo = LIST_HEAD_INIT(fifo);
	int expected = 0;

	(void)state;
	for (int k = 0; k < 3; k++)
		list_add_tail(&a[k].link, &fifo);
	list_for_each_entry (i, &fifo, link)
		assert_int_equal(i->n, expected++);
	assert_int_equal(expected, 3);
	list_move(&a[2].link, &fifo);
	assert_ptr_equal(list_first_entry(&fifo, struct item, link), &a[2]);
	list_move_tail(&a[2].link, &fifo);
	assert_ptr_equal(list_last_entry(&fifo, struct item, link), &a[2]);
}

static void a_deleted_item_knows_that_it_is_on_no_list(void **state)
{
	struct item a[4], *i, *tmp;
	struct list_head l;

	(void)state;
	list_init(&l);
	for (int k = 0; k < 4; k++)
		list_add_tail(&a[k].link, &l);
	list_for_each_entry_safe (i, tmp, &l, link)
		list_del(&i->link);
	assert_true(list_empty(&l));
	for (int k = 0; k < 4; k++)
		assert_true(list_empty(&a[k].link));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(add_tail_keeps_order_and_add_reverses),
		cmocka_unit_test(a_deleted_item_knows_that_it_is_on_no_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
