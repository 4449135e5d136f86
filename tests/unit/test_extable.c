/* SPDX-License-Identifier: MIT */
/* The exception table: sorting, finding, and what each type of entry does to the context. */
#include "engine/base/errno.h"
#include "engine/kernel/extable.h"
#include "tests/unit/unit.h"

enum { N = 200 };
static char text[4 * N]; /* instructions and fixups are addresses in here */
static struct exception_entry entries[N];
static struct exception_table table;

static u64 at(unsigned i)
{
	return (u64)&text[i];
}

static void fill(unsigned n)
{
	table = (struct exception_table){ .entries = entries, .n = n };
	for (unsigned i = 0; i < n; i++) {
		unsigned k = i * 67 % n; /* in no order */

		assert_int_equal(ex_set(&entries[i], at(2 * k), at(2 * N + k),
					ex_data(EX_DEFAULT, REG_AX, (int)k)),
				 0);
	}
}

static void a_sorted_table_finds_every_instruction_and_no_other(void **state)
{
	(void)state;
	for (unsigned n = 0; n <= N; n += n < 4 ? 1 : 49) {
		if (n % 67 == 0 && n)
			n++;
		fill(n);
		assert_int_equal(sort_extable(&table), 0);
		for (unsigned k = 0; k < n; k++) {
			const struct exception_entry *x = search_extable(&table, at(2 * k));

			assert_non_null(x);
			assert_int_equal(ex_insn(x), at(2 * k));
			assert_int_equal(ex_fixup(x), at(2 * N + k));
			assert_int_equal(ex_imm(x), k);
			assert_null(search_extable(&table, at(2 * k + 1)));
		}
		assert_null(search_extable(&table, at(0) - 1));
		assert_null(search_extable(&table, at(2 * n)));
	}
}

static void two_entries_for_one_instruction_are_refused(void **state)
{
	(void)state;
	fill(7);
	assert_int_equal(ex_set(&entries[3], ex_insn(&entries[5]), at(1), 0), 0);
	assert_int_equal(sort_extable(&table), -EINVAL);
}

static void an_unknown_type_is_refused(void **state)
{
	(void)state;
	fill(7);
	entries[2].data = NR_EX_TYPES;
	assert_int_equal(sort_extable(&table), -EINVAL);
}

static void what_is_too_far_away_is_refused(void **state)
{
	(void)state;
	assert_int_equal(ex_set(&entries[0], at(0) + (1ULL << 32), at(0), 0), -ERANGE);
	assert_int_equal(ex_set(&entries[0], at(0), at(0) - (1ULL << 32), 0), -ERANGE);
}

static struct pt_regs fixed_up(enum ex_type type, enum reg reg, int imm, struct pt_regs regs)
{
	table = (struct exception_table){ .entries = entries, .n = 1 };
	assert_int_equal(ex_set(&entries[0], at(8), at(16), ex_data(type, reg, imm)), 0);
	regs.ip = at(8);
	assert_true(fixup_exception(&table, &regs, 14));
	assert_int_equal(regs.ip, at(16));
	return regs;
}

static void each_type_does_its_own_to_the_context(void **state)
{
	struct pt_regs regs = { .reg = { [REG_AX] = 1, [REG_CX] = 5, [REG_R12] = 3 } }, after;
	u64 word[2] = { 0x8877665544332211ULL, 0 };

	(void)state;
	after = fixed_up(EX_DEFAULT, REG_R12, -14, regs);
	assert_memory_equal(after.reg, regs.reg, sizeof(regs.reg));
	after = fixed_up(EX_UACCESS, REG_R12, -14, regs);
	assert_memory_equal(after.reg, regs.reg, sizeof(regs.reg));
	assert_int_equal(fixed_up(EX_FAULT, 0, 0, regs).reg[REG_AX], 14);
	assert_int_equal(fixed_up(EX_IMM_REG, REG_R12, -14, regs).reg[REG_R12], (u64)-14);
	/* Five bytes behind, and three words of eight not copied. */
	assert_int_equal(fixed_up(EX_UCOPY_LEN, REG_R12, 8, regs).reg[REG_CX], 5 + 3 * 8);
	regs.reg[REG_DI] = (u64)word + 5;
	assert_int_equal(fixed_up(EX_ZEROPAD, REG_DI, 0, regs).reg[REG_DI], 0x887766);
}

static void an_instruction_without_an_entry_is_not_fixed_up(void **state)
{
	struct pt_regs regs = { .ip = at(9) };

	(void)state;
	fixed_up(EX_DEFAULT, 0, 0, (struct pt_regs){ 0 });
	assert_false(fixup_exception(&table, &regs, 14));
	assert_int_equal(regs.ip, at(9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sorted_table_finds_every_instruction_and_no_other),
		cmocka_unit_test(two_entries_for_one_instruction_are_refused),
		cmocka_unit_test(an_unknown_type_is_refused),
		cmocka_unit_test(what_is_too_far_away_is_refused),
		cmocka_unit_test(each_type_does_its_own_to_the_context),
		cmocka_unit_test(an_instruction_without_an_entry_is_not_fixed_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
