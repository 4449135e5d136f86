/* SPDX-License-Identifier: MIT */
/* The kernel's copies from and to the program: what is copied, what is left, what is zeroed. */
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"

static struct soft_kernel *k;
static struct task task;
static struct uaccess u;

/* Two pages that can be written, one that can only be read, then nothing. */
static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0, 0, &k), 0);
	task = (struct task){ .mm = mm, .pid = 100, .name = "program" };
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	u = soft_uaccess(k, 0);
	map(0, 2, RW);
	map(2, 1, VM_READ);
	return 0;
}

static int end_of_test(void **state)
{
	soft_load_mm(w.cpu, NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
	assert_int_equal(task.signal.sig, 0); /* the program is told of none of this */
	assert_false(task.killed);
	return teardown(state);
}

static char pattern(unsigned i)
{
	return i * 7 + 1;
}

static void copies_go_over_pages_that_were_never_touched(void **state)
{
	char out[3000], in[3000] = { 0 };

	(void)state;
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = pattern(i);
	assert_int_equal(copy_to_user(&u, AT(1) - 1500, out, sizeof(out)), 0);
	assert_int_equal(copy_from_user(&u, in, AT(1) - 1500, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(copy_to_user(&u, AT(0), out, 0), 0);
}

static void copies_bring_evicted_pages_back(void **state)
{
	char byte;

	(void)state;
	put(0, 77);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(copy_from_user(&u, &byte, AT(0), 1), 0);
	assert_int_equal(byte, 77);
}

static void what_cannot_be_copied_is_counted_and_the_rest_is_there(void **state)
{
	char out[300];

	(void)state;
	memset(out, 'o', sizeof(out));
	/* 100 bytes before the page that may not be written. */
	assert_int_equal(copy_to_user(&u, AT(2) - 100, out, sizeof(out)), 200);
	assert_int_equal(get(1), 0);
	for (unsigned i = 1; i <= 100; i++) {
		u8 byte;

		assert_int_equal(soft_read_byte(w.cpu, AT(2) - i, &byte), FAULT_OK);
		assert_int_equal(byte, 'o');
	}
	assert_int_equal(get(2), 0);
	assert_int_equal(copy_to_user(&u, AT(2), out, 10), 10);
}

static void what_is_missing_of_a_copy_from_the_program_is_zeros(void **state)
{
	char in[300];

	(void)state;
	memset(in, 'i', sizeof(in));
	for (unsigned i = 1; i <= 100; i++)
		assert_int_equal(soft_kernel_read(w.cpu, AT(3) - i, in, 1, true), FAULT_OK);
	memset(in, 'i', sizeof(in));
	assert_int_equal(copy_from_user(&u, in, AT(3) - 100, sizeof(in)), 200);
	for (unsigned i = 100; i < sizeof(in); i++)
		assert_int_equal(in[i], 0);
	memset(in, 'i', sizeof(in));
	assert_int_equal(copy_from_user(&u, in, KERNEL_START, sizeof(in)), sizeof(in));
	for (unsigned i = 0; i < sizeof(in); i++)
		assert_int_equal(in[i], 0);
}

static void the_kernels_own_addresses_are_refused_without_a_fault(void **state)
{
	u64 faults = w.cpu->faults;
	char byte = 0;

	(void)state;
	assert_true(access_ok(0, TASK_END));
	assert_false(access_ok(1, TASK_END));
	assert_false(access_ok(~0ULL, 2)); /* it wraps around */
	assert_int_equal(copy_to_user(&u, KERNEL_START, &byte, 1), 1);
	assert_int_equal(copy_to_user(&u, TASK_END, &byte, 1), 1);
	assert_int_equal(copy_from_user(&u, &byte, ~0ULL, 2 - 1), 1);
	assert_int_equal(w.cpu->faults, faults);
}

static void single_values_come_whole_or_not_at_all(void **state)
{
	u64 value = 1;

	(void)state;
	for (unsigned bytes = 1; bytes <= 8; bytes *= 2) {
		assert_int_equal(put_user(&u, 0x1122334455667788ULL, AT(0) + 8, bytes), 0);
		assert_int_equal(get_user(&u, &value, AT(0) + 8, bytes), 0);
		assert_int_equal(value,
				 bytes == 8 ? 0x1122334455667788ULL
					    : 0x1122334455667788ULL & ((1ULL << 8 * bytes) - 1));
	}
	assert_int_equal(put_user(&u, 1, AT(0), 3), -EFAULT);
	assert_int_equal(put_user(&u, 1, AT(2), 4), -EFAULT);
	/* Half of it is there: the value is 0 all the same. */
	assert_int_equal(get_user(&u, &value, AT(3) - 4, 8), -EFAULT);
	assert_int_equal(value, 0);
}

static void strings_end_at_their_nul_or_where_memory_ends(void **state)
{
	char to[64];
	static const char text[] = "a name";

	(void)state;
	/* With the NUL as the last byte before nothing is mapped. */
	vm_protect(mm, AT(2), P(1), RW);
	assert_int_equal(copy_to_user(&u, AT(3) - sizeof(text), text, sizeof(text)), 0);
	assert_int_equal(strncpy_from_user(&u, to, AT(3) - sizeof(text), sizeof(to)), 6);
	assert_string_equal(to, text);
	assert_int_equal(strncpy_from_user(&u, to, AT(3) - sizeof(text), 4), 4);
	/* Without one. */
	assert_int_equal(copy_to_user(&u, AT(3) - 3, "xyz", 3), 0);
	assert_int_equal(strncpy_from_user(&u, to, AT(3) - 3, sizeof(to)), -EFAULT);
	assert_int_equal(strncpy_from_user(&u, to, AT(3) - 3, 3), 3);
	/* Over the end of a page. */
	assert_int_equal(copy_to_user(&u, AT(1) - 3, text, sizeof(text)), 0);
	assert_int_equal(strncpy_from_user(&u, to, AT(1) - 3, sizeof(to)), 6);
	assert_string_equal(to, text);
}

static void clearing_stops_where_it_must(void **state)
{
	(void)state;
	put(1, 9);
	assert_int_equal(clear_user(&u, AT(1), 1000), 0);
	assert_int_equal(get(1), 0);
	assert_int_equal(clear_user(&u, AT(2) - 10, 1000), 990);
}

static void nofault_takes_only_what_is_there(void **state)
{
	char byte = 5;

	(void)state;
	assert_int_equal(copy_from_user_nofault(&u, &byte, AT(0), 1), -EFAULT);
	assert_int_equal(copy_to_user_nofault(&u, AT(0), &byte, 1), -EFAULT);
	assert_int_equal(mm->minor, 0);
	put(0, 8);
	assert_int_equal(copy_from_user_nofault(&u, &byte, AT(0), 1), 0);
	assert_int_equal(byte, 8);
	assert_int_equal(task.pagefault_disabled, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, end_of_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(copies_go_over_pages_that_were_never_touched),
		T(copies_bring_evicted_pages_back),
		T(what_cannot_be_copied_is_counted_and_the_rest_is_there),
		T(what_is_missing_of_a_copy_from_the_program_is_zeros),
		T(the_kernels_own_addresses_are_refused_without_a_fault),
		T(single_values_come_whole_or_not_at_all),
		T(strings_end_at_their_nul_or_where_memory_ends),
		T(clearing_stops_where_it_must),
		T(nofault_takes_only_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
