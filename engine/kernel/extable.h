/* SPDX-License-Identifier: MIT */
/*
 * The exception table: the instructions of the kernel that may fault, and where each goes on then.
 *
 * An entry is 12 bytes, its addresses relative to the field that holds them, so that a table need
 * not be relocated.  Sorted by instruction, and found by halving.
 */
#ifndef VMF_KERNEL_EXTABLE_H
#define VMF_KERNEL_EXTABLE_H

#include "engine/kernel/task.h"

/* What is done besides going on at the fixup. */
enum ex_type {
	EX_DEFAULT,   /* nothing */
	EX_FAULT,     /* AX = the trap's number */
	EX_UACCESS,   /* nothing; the instruction accesses the program's memory */
	EX_IMM_REG,   /* a register = an immediate value, such as -EFAULT */
	EX_UCOPY_LEN, /* CX = bytes left: CX + the immediate value times the register */
	EX_ZEROPAD,   /* a register = the bytes of its word that were there, zeros behind them */
	NR_EX_TYPES
};

struct exception_entry {
	s32 insn, fixup;
	u32 data; /* type: 8 bits, register: 4, unused: 4, immediate: 16, signed */
};

static inline u32 ex_data(enum ex_type type, enum reg reg, int imm)
{
	return (u32)type | (u32)reg << 8 | (u32)imm << 16;
}
static inline enum ex_type ex_type_of(const struct exception_entry *x)
{
	return x->data & 0xff;
}
static inline enum reg ex_reg(const struct exception_entry *x)
{
	return x->data >> 8 & 0xf;
}
static inline int ex_imm(const struct exception_entry *x)
{
	return (s32)x->data >> 16;
}
static inline u64 ex_insn(const struct exception_entry *x)
{
	return (u64)&x->insn + (u64)(s64)x->insn;
}
static inline u64 ex_fixup(const struct exception_entry *x)
{
	return (u64)&x->fixup + (u64)(s64)x->fixup;
}
/* 0, or -ERANGE: an address is further away than 2 GiB. */
int ex_set(struct exception_entry *x, u64 insn, u64 fixup, u32 data);

struct exception_table {
	struct exception_entry *entries;
	size_t n;
};

/* Sort by instruction; what is relative stays right.  0, or -EINVAL: two entries for one
 * instruction, or a type that is none. */
int sort_extable(struct exception_table *table);
/* The entry of the instruction at ip, or NULL. */
const struct exception_entry *search_extable(const struct exception_table *table, u64 ip);
/* The context goes on at the fixup, if its instruction has one.  False: it has none. */
bool fixup_exception(const struct exception_table *table, struct pt_regs *regs, u32 trap);

#endif
