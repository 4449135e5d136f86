/* SPDX-License-Identifier: MIT */
#include "systems/windows/pool.h"

#include "engine/base/errno.h"
#include "systems/windows/pages.h"

static enum nt_region_type region_of(enum pool_type type)
{
	return type == PAGED_POOL ? NT_PAGED_POOL : NT_NONPAGED_POOL;
}

/* The highest level at which that pool may be used. */
static u8 highest_irql(enum nt_region_type region)
{
	return region == NT_PAGED_POOL ? APC_LEVEL : DISPATCH_LEVEL;
}

/* They are there from the start, and stay.  May drop the lock below DISPATCH_LEVEL. */
static int give_frames(struct nt *k, unsigned cpu, u64 va, u64 pages)
{
	struct mi_frame *f;
	int err = 0;

	for (u64 i = 0; i < pages && !err; i++) {
		while (!(f = mi_take_frame(k)) && !err)
			err = k->cpus[cpu].irql < DISPATCH_LEVEL ? mi_make_room(k, cpu) : -ENOMEM;
		if (!f)
			break;
		memset(mi_bytes(k, f), 0, PAGE_SIZE);
		ledger_count(PAID_PAGES_ZEROED);
		f->nonpaged = true;
		mi_activate(k, f, mi_entry_at(k, va + i * PAGE_SIZE));
	}
	return err;
}

static int allocate(struct nt *k, unsigned cpu, enum nt_region_type region, u64 pages, u32 tag,
		    u64 *va)
{
	int err = 0;

	*va = mi_take_range(k, region, pages, tag);
	if (!*va)
		return -ENOMEM;
	mi_promise(k, *va, pages);
	if (region == NT_NONPAGED_POOL)
		err = give_frames(k, cpu, *va, pages);
	if (err) {
		mi_delete(k, *va, pages);
		mi_release_range(k, region, *va);
	}
	return err;
}

int ex_allocate_pool(struct nt *k, unsigned cpu, enum pool_type type, u64 bytes, u32 tag, u64 *va)
{
	enum nt_region_type region = region_of(type);
	u8 irql = k->cpus[cpu].irql;
	int err = bugcheck_errno(&k->bugcheck);

	if (err)
		return err;
	if (!bytes)
		return ke_bug_check(k, BAD_POOL_CALLER, POOL_OF_NO_BYTES, 0, type, tag);
	if (irql > highest_irql(region))
		return ke_bug_check(k, BAD_POOL_CALLER, POOL_ALLOCATED_AT_IRQL, irql, type, bytes);
	if (bytes > NT_REGION_PAGES * PAGE_SIZE)
		return -ENOMEM;
	ledger_begin(k->ledger, cpu);
	nt_lock(k);
	err = allocate(k, cpu, region, PAGE_ALIGN(bytes) >> PAGE_SHIFT, tag, va);
	nt_unlock(k);
	return err;
}

static bool is_a_stack(const struct nt *k, u64 start, u64 end)
{
	for (unsigned i = 0; i < k->machine->nr_cpus; i++) {
		u64 stack = atomic_load(&k->cpus[i].stack);

		if (stack >= start && stack < end)
			return true;
	}
	return false;
}

/* With the lock. */
static int free_range(struct nt *k, unsigned cpu, enum nt_region_type region, u64 va, u32 tag)
{
	u64 pages = mi_range_at(k, region, va);
	u8 irql = k->cpus[cpu].irql;

	if (!pages)
		return ke_bug_check(k, BAD_POOL_CALLER, POOL_FREED_TWICE, va, tag, 0);
	if (irql > highest_irql(region))
		return ke_bug_check(k, BAD_POOL_CALLER, POOL_FREED_AT_IRQL, irql, region, va);
	if (k->regions[region].tag[(va - k->regions[region].start) >> PAGE_SHIFT] != tag)
		return ke_bug_check(k, BAD_POOL_CALLER, POOL_FREED_BY_ANOTHER_TAG, va, tag, 0);
	if (is_a_stack(k, va, va + pages * PAGE_SIZE))
		return -EBUSY;
	mi_delete(k, va, pages);
	mi_release_range(k, region, va);
	return 0;
}

int ex_free_pool(struct nt *k, unsigned cpu, u64 va, u32 tag)
{
	enum nt_region_type region = nt_is_pageable(va) ? NT_PAGED_POOL : NT_NONPAGED_POOL;
	int err = bugcheck_errno(&k->bugcheck);

	if (err)
		return err;
	ledger_begin(k->ledger, cpu);
	nt_lock(k);
	err = free_range(k, cpu, region, va, tag);
	nt_unlock(k);
	return err;
}
