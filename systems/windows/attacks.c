/* SPDX-License-Identifier: MIT */
/* What drivers do wrong, and programs try.  The kernel may stop for it, but nothing is lost. */
#include "systems/windows/attacks.h"

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/windows/irql.h"
#include "systems/windows/pool.h"
#include "systems/windows/section.h"
#include "systems/windows/windows.h"

#define TAG 0x6b746174

/* The kernel has stopped for that, or (0) goes on. */
static int outcome(struct nt *k, int err, unsigned code)
{
	nt_check(k);
	return (unsigned)atomic_load(&k->bugcheck.code) == code ? err : 1;
}

static int driver_reads(struct nt *k, u64 va)
{
	char byte;

	return nt_access(k, 0, NT_DRIVER, va, 0, &byte, 1);
}

static int driver_writes(struct nt *k, u64 va)
{
	char byte = 1;

	return nt_access(k, 0, NT_DRIVER, va, PF_WRITE, &byte, 1);
}

/* A page of paged pool that has been written to, and trimmed. */
static u64 trimmed_pool(struct nt *k)
{
	u64 va = 0;

	if (ex_allocate_pool(k, 0, PAGED_POOL, PAGE_SIZE, TAG, &va) || driver_writes(k, va) ||
	    mm_page_out(k, 0, va, PAGE_SIZE, false))
		return 0;
	return va;
}

static int kernel_touches_paged_pool(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);
	char byte;
	u8 old;

	ke_raise_irql(k, 0, DISPATCH_LEVEL, &old);
	return outcome(k, nt_access(k, 0, NT_KERNEL, va, 0, &byte, 1), IRQL_NOT_LESS_OR_EQUAL);
}

static int driver_touches_paged_pool(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);
	u8 old;

	ke_raise_irql(k, 0, DEVICE_LEVEL, &old);
	return outcome(k, driver_reads(k, va), DRIVER_IRQL_NOT_LESS_OR_EQUAL);
}

static int fault_with_a_spin_lock(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);
	struct ke_spin_lock lock;
	u8 old;

	ke_initialize_spin_lock(&lock);
	if (ke_acquire_spin_lock(k, 0, &lock, &old))
		return 1;
	return outcome(k, driver_writes(k, va), DRIVER_IRQL_NOT_LESS_OR_EQUAL);
}

static int program_memory_at_dispatch(struct system *s)
{
	struct nt *k = windows_nt(s);
	u8 old;

	ke_raise_irql(k, 0, DISPATCH_LEVEL, &old);
	return outcome(k, driver_reads(k, ENGINE_SYSTEM_LOW), DRIVER_IRQL_NOT_LESS_OR_EQUAL);
}

static int freed_pool(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);

	if (ex_free_pool(k, 0, va, TAG))
		return 1;
	return outcome(k, driver_reads(k, va), PAGE_FAULT_IN_NONPAGED_AREA);
}

static int freed_nonpaged_pool(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va;

	if (ex_allocate_pool(k, 0, NON_PAGED_POOL, PAGE_SIZE, TAG, &va) || driver_writes(k, va) ||
	    ex_free_pool(k, 0, va, TAG))
		return 1;
	return outcome(k, driver_writes(k, va), PAGE_FAULT_IN_NONPAGED_AREA);
}

static int pool_freed_twice(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);

	if (ex_free_pool(k, 0, va, TAG))
		return 1;
	return outcome(k, ex_free_pool(k, 0, va, TAG), BAD_POOL_CALLER);
}

static int paged_pool_at_dispatch(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va;
	u8 old;

	ke_raise_irql(k, 0, DISPATCH_LEVEL, &old);
	return outcome(k, ex_allocate_pool(k, 0, PAGED_POOL, PAGE_SIZE, TAG, &va), BAD_POOL_CALLER);
}

static int page_file_fails(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);

	if (mm_page_out(k, 0, va, PAGE_SIZE, true))
		return 1;
	lab_store_fail(&k->page_file, RAMFILE_READ, -EIO);
	return outcome(k, driver_reads(k, va), KERNEL_DATA_INPAGE_ERROR);
}

static int unlock_of_what_is_not_locked(struct system *s)
{
	struct nt *k = windows_nt(s);
	unsigned handle;
	u64 va;

	if (mm_load_section(k, 0, 2, false, NULL, 0, &va) ||
	    mm_lock_pageable_section(k, 0, va, &handle) || mm_unlock_pageable_section(k, 0, handle))
		return 1;
	return outcome(k, mm_unlock_pageable_section(k, 0, handle), MEMORY_MANAGEMENT);
}

static int code_written_to(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va;

	if (mm_load_section(k, 0, 1, true, "\xc3", 1, &va))
		return 1;
	return outcome(k, driver_writes(k, va), ATTEMPTED_WRITE_TO_READONLY_MEMORY);
}

static int data_executed(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 va = trimmed_pool(k);
	char byte;

	return outcome(k, nt_access(k, 0, NT_DRIVER, va, PF_INSTR, &byte, 1),
		       ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY);
}

static int page_table_paged_out(struct system *s)
{
	struct nt *k = windows_nt(s);

	return outcome(k, mm_page_out_frame(k, 0, k->half.pgd_phys >> PAGE_SHIFT), NO_BUGCHECK);
}

static int nonpaged_pool_paged_out(struct system *s)
{
	struct nt *k = windows_nt(s);

	return outcome(k, mm_page_out(k, 0, nt_region_start(NT_NONPAGED_POOL), PAGE_SIZE, true),
		       NO_BUGCHECK);
}

static int stack_paged_out(struct system *s)
{
	struct nt *k = windows_nt(s);
	u64 stack = trimmed_pool(k), va = trimmed_pool(k);

	ke_switch_stack(k, 0, stack);
	return outcome(k, driver_reads(k, va), UNEXPECTED_KERNEL_MODE_TRAP);
}

/* A disk whose driver has a buffer that is paged itself. */
static int read_by_way_of_pool(struct nt *k, unsigned cpu, u64 slot, void *bytes)
{
	int err = nt_access(k, cpu, NT_DRIVER, nt_region_start(NT_PAGED_POOL), 0, bytes, 1);

	(void)slot;
	return err ? -EIO : 0;
}

static int disk_needs_itself(struct system *s)
{
	static const struct nt_disk disk = { .read = read_by_way_of_pool };
	struct nt *k = windows_nt(s);
	u64 buffer = trimmed_pool(k), va = trimmed_pool(k);

	if (buffer != nt_region_start(NT_PAGED_POOL) || mm_page_out(k, 0, va, PAGE_SIZE, true))
		return 1;
	k->disk = &disk;
	return outcome(k, driver_reads(k, va), UNEXPECTED_KERNEL_MODE_TRAP);
}

static int irql_raised_downwards(struct system *s)
{
	struct nt *k = windows_nt(s);
	u8 old;

	ke_raise_irql(k, 0, DISPATCH_LEVEL, &old);
	return outcome(k, ke_raise_irql(k, 0, APC_LEVEL, &old), IRQL_NOT_GREATER_OR_EQUAL);
}

/* That it asked is no reason to stop the kernel. */
static int program_reads_the_kernel(struct system *s)
{
	struct nt *k = windows_nt(s);
	char byte;
	enum fault_reason reason = s->program->ops->access(
		s->program, 0, nt_region_start(NT_NONPAGED_POOL), 0, &byte, 1);

	if (bugcheck_errno(&k->bugcheck))
		return 1;
	return outcome(k, reason == FAULT_OK ? 0 : -EFAULT, NO_BUGCHECK);
}

const struct system_attack windows_attacks[NR_WINDOWS_ATTACKS] = {
	{ "the kernel touches paged pool at DISPATCH_LEVEL: 0xA", kernel_touches_paged_pool,
	  -EPERM },
	{ "a driver touches paged pool at its device's level: 0xD1", driver_touches_paged_pool,
	  -EACCES },
	{ "a driver touches paged pool with a spin lock: 0xD1", fault_with_a_spin_lock, -EACCES },
	{ "a driver touches a program's memory at DISPATCH_LEVEL: 0xD1", program_memory_at_dispatch,
	  -EACCES },
	{ "a driver touches paged pool that is freed: 0x50", freed_pool, -EFAULT },
	{ "a driver touches nonpaged pool that is freed: 0x50", freed_nonpaged_pool, -EFAULT },
	{ "a driver frees pool twice: 0xC2", pool_freed_twice, -EINVAL },
	{ "a driver wants paged pool at DISPATCH_LEVEL: 0xC2", paged_pool_at_dispatch, -EINVAL },
	{ "the page file cannot be read: 0x7A", page_file_fails, -EIO },
	{ "a driver unlocks what is not locked: 0x1A", unlock_of_what_is_not_locked, -EINVAL },
	{ "a driver writes to its code: 0xBE", code_written_to, -EACCES },
	{ "a driver executes pool: 0xFC", data_executed, -EACCES },
	{ "a page table is to be paged out", page_table_paged_out, -EPERM },
	{ "nonpaged pool is to be paged out", nonpaged_pool_paged_out, -EPERM },
	{ "a fault on a stack that is paged out: 0x7F", stack_paged_out, -EOVERFLOW },
	{ "the disk's driver needs the disk: 0x7F", disk_needs_itself, -EOVERFLOW },
	{ "IRQL is raised to less: 0x9", irql_raised_downwards, -EPERM },
	{ "a program reads the kernel's memory", program_reads_the_kernel, -EFAULT },
};
