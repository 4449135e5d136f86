/* SPDX-License-Identifier: MIT */
#include "engine/kernel/extable.h"

#include "engine/base/errno.h"

int ex_set(struct exception_entry *x, u64 insn, u64 fixup, u32 data)
{
	s64 to_insn = (s64)(insn - (u64)&x->insn), to_fixup = (s64)(fixup - (u64)&x->fixup);

	if (to_insn != (s32)to_insn || to_fixup != (s32)to_fixup)
		return -ERANGE;
	*x = (struct exception_entry){ .insn = (s32)to_insn, .fixup = (s32)to_fixup, .data = data };
	return 0;
}

/* They are near each other, so what could be reached from one can be from the other, but for tables
 * at the very end of the reach, which a linker does not make. */
static void swap_entries(struct exception_entry *a, struct exception_entry *b)
{
	u64 insn = ex_insn(a), fixup = ex_fixup(a);
	u32 data = a->data;

	ex_set(a, ex_insn(b), ex_fixup(b), b->data);
	ex_set(b, insn, fixup, data);
}

/* Heap sort: no memory, and no table that it is slow with. */
static void sift(struct exception_entry *x, size_t root, size_t n)
{
	for (;;) {
		size_t child = 2 * root + 1;

		if (child >= n)
			return;
		if (child + 1 < n && ex_insn(&x[child]) < ex_insn(&x[child + 1]))
			child++;
		if (ex_insn(&x[root]) >= ex_insn(&x[child]))
			return;
		swap_entries(&x[root], &x[child]);
		root = child;
	}
}

int sort_extable(struct exception_table *table)
{
	struct exception_entry *x = table->entries;

	for (size_t i = table->n / 2; i-- > 0;)
		sift(x, i, table->n);
	for (size_t n = table->n; n > 1; n--) {
		swap_entries(&x[0], &x[n - 1]);
		sift(x, 0, n - 1);
	}
	for (size_t i = 0; i < table->n; i++) {
		if (ex_type_of(&x[i]) >= NR_EX_TYPES)
			return -EINVAL;
		if (i && ex_insn(&x[i]) == ex_insn(&x[i - 1]))
			return -EINVAL;
	}
	return 0;
}

const struct exception_entry *search_extable(const struct exception_table *table, u64 ip)
{
	size_t low = 0, high = table->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		u64 insn = ex_insn(&table->entries[middle]);

		if (insn == ip)
			return &table->entries[middle];
		if (insn < ip)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/*
 * A word was loaded that reaches into a page that is not there: its first bytes are, at the aligned
 * word below.  The register holds the address that was loaded from.
 */
static void zero_pad(struct pt_regs *regs, enum reg reg)
{
	u64 address = regs->reg[reg], offset = address % sizeof(u64), word;

	__builtin_memcpy(&word, (const void *)(address - offset), sizeof(word));
	regs->reg[reg] = word >> 8 * offset;
}

bool fixup_exception(const struct exception_table *table, struct pt_regs *regs, u32 trap)
{
	const struct exception_entry *x = search_extable(table, regs->ip);

	if (!x)
		return false;
	switch (ex_type_of(x)) {
	case EX_FAULT:
		regs->reg[REG_AX] = trap;
		break;
	case EX_IMM_REG:
		regs->reg[ex_reg(x)] = (u64)(s64)ex_imm(x);
		break;
	case EX_UCOPY_LEN:
		regs->reg[REG_CX] += (u64)(s64)ex_imm(x) * regs->reg[ex_reg(x)];
		break;
	case EX_ZEROPAD:
		zero_pad(regs, ex_reg(x));
		break;
	default:
		break;
	}
	regs->ip = ex_fixup(x);
	return true;
}
