/* SPDX-License-Identifier: MIT */
/*
 * The fault of a kernel address: MmAccessFault.
 *
 *   1. The entry is valid by now (another CPU was first): the access is made again.  It is valid
 *      and forbids this: bug check 0xBE, or 0xFC for a fetch.
 *   2. Not valid, at DISPATCH_LEVEL or above: nobody may wait here.  Bug check 0xA; 0xD1 if the
 *      instruction is a driver's.
 *   3. Not valid, on the way to the page file or back: that way must not need itself.  Bug check
 *      0x7F, a double fault.
 *   4. There is nothing, or not in a pageable region: bug check 0x50.
 *   5. MiDispatchFault, by the entry's state:
 *        demand zero   a frame, filled with zeros
 *        transition    the frame still has the page: it leaves its list.  If it is just being read,
 *                      by another CPU, this one waits for that, and looks again
 *        page file     a frame, the page is read; that fails: bug check 0x7A
 *        prototype     the same, by the prototype's state; then this entry maps what it has
 *   6. The entry is valid; the access is made again.
 */
#include "engine/base/errno.h"
#include "systems/windows/pages.h"

int ke_bug_check(struct nt *k, enum bugcheck_code code, u64 p1, u64 p2, u64 p3, u64 p4)
{
	const u64 parameters[4] = { p1, p2, p3, p4 };

	ledger_step(k->actor, "KeBugCheckEx: the kernel stops", p1);
	return bugcheck_raise(&k->bugcheck, code, parameters);
}

void nt_count(struct nt *k, unsigned cpu, enum nt_fault kind)
{
	atomic_fetch_add_explicit(&k->cpus[cpu].faults[kind], 1, memory_order_relaxed);
}

u64 nt_faults(const struct nt *k, enum nt_fault kind)
{
	u64 n = 0;

	for (unsigned i = 0; i < k->machine->nr_cpus; i++)
		n += atomic_load_explicit(&k->cpus[i].faults[kind], memory_order_relaxed);
	return n;
}

/* ---- MiDispatchFault ---- */

/* No frame is to be had without waiting. */
static int wait_for_room(struct nt *k, unsigned cpu)
{
	int err = mi_make_room(k, cpu);

	return err ? err : -EAGAIN;
}

static int mi_resolve_demand_zero_fault(struct nt *k, unsigned cpu, pte_t *owner)
{
	struct mi_frame *f = mi_take_frame(k);

	if (!f)
		return wait_for_room(k, cpu);
	ledger_step(k->actor, "the entry is demand zero: a frame, filled with zeros", 0);
	memset(mi_bytes(k, f), 0, PAGE_SIZE);
	ledger_count(PAID_PAGES_ZEROED);
	nt_count(k, cpu, NT_DEMAND_ZERO);
	mi_activate(k, f, owner);
	return 0;
}

static int mi_resolve_transition_fault(struct nt *k, unsigned cpu, pte_t *owner)
{
	struct mi_frame *f = mi_frame_of(k, pte_read(owner));

	if (f->state == MI_READING) {
		ledger_step(k->actor, "the page is being read for another: waits for that", 0);
		nt_count(k, cpu, NT_COLLIDED);
		mi_wait_for_io(k, f);
		return -EAGAIN;
	}
	ledger_step(k->actor, "the entry is in transition: its frame still has the page", 0);
	nt_count(k, cpu, NT_TRANSITION);
	mi_activate(k, f, owner);
	return 0;
}

/* Until it is read the entry is in transition: who else wants the page waits for this reading. */
static int mi_resolve_page_file_fault(struct nt *k, unsigned cpu, pte_t *owner)
{
	pte_t before = pte_read(owner);
	struct mi_frame *f = mi_take_frame(k);
	u64 pfn;
	int err;

	if (!f)
		return wait_for_room(k, cpu);
	ledger_step(k->actor, "the entry names a slot of the page file: a frame, and a read", 0);
	pfn = k->first_pfn + (u64)(f - k->frames);
	pte_store(owner, mi_entry(MI_TRANSITION, pfn, mi_rights(before)));
	ledger_count(PAID_ENTRY_WRITES);
	err = mi_read_page(k, cpu, mi_number(before), f);
	if (err) {
		pte_store(owner, before);
		mi_release_frame(k, f);
		return err;
	}
	f->slot = mi_number(before);
	f->dirty = false;
	nt_count(k, cpu, NT_HARD);
	mi_activate(k, f, owner);
	return 0;
}

int mi_resolve(struct nt *k, unsigned cpu, pte_t *owner)
{
	switch (mi_state(pte_read(owner))) {
	case MI_DEMAND_ZERO:
		return mi_resolve_demand_zero_fault(k, cpu, owner);
	case MI_TRANSITION:
		return mi_resolve_transition_fault(k, cpu, owner);
	case MI_PAGE_FILE:
		return mi_resolve_page_file_fault(k, cpu, owner);
	case MI_VALID:
		return 0;
	case MI_NOTHING:
	case MI_PROTOTYPE:
		break;
	}
	return -EFAULT;
}

static int mi_resolve_proto_pte_fault(struct nt *k, unsigned cpu, pte_t *ptep)
{
	pte_t entry = pte_read(ptep), *owner = &k->prototypes[mi_number(entry)];
	struct mi_frame *f;
	int err;

	ledger_step(k->actor, "the entry leads to a prototype, which has the page's state", 0);
	err = mi_resolve(k, cpu, owner);
	if (err)
		return err;
	f = mi_frame_of(k, *owner);
	/* The view may have gone while the page was read. */
	if (!pte_same(pte_read(ptep), entry)) {
		if (!f->views)
			mi_drop_prototype(k, f);
		return -EAGAIN;
	}
	f->views++;
	nt_count(k, cpu, NT_PROTOTYPE);
	pte_store(ptep, mi_entry(MI_VALID, mi_number(*owner), mi_rights(entry)));
	ledger_count(PAID_ENTRY_WRITES);
	return 0;
}

/* 0, -EFAULT (nothing is there any more), -ENOMEM, -EIO. */
static int mi_dispatch_fault(struct nt *k, unsigned cpu, pte_t *ptep)
{
	int err;

	do {
		if (mi_state(pte_read(ptep)) == MI_PROTOTYPE)
			err = mi_resolve_proto_pte_fault(k, cpu, ptep);
		else
			err = mi_resolve(k, cpu, ptep);
	} while (err == -EAGAIN);
	return err;
}

/* ---- what stops the kernel ---- */

static u64 kind_of(u32 code)
{
	if (code & PF_INSTR)
		return BUGCHECK_EXECUTE;
	return code & PF_WRITE ? BUGCHECK_WRITE : BUGCHECK_READ;
}

static int irql_bug_check(struct nt *k, unsigned cpu, u32 code, u64 va)
{
	const struct nt_cpu *c = &k->cpus[cpu];

	return ke_bug_check(
		k, c->module == NT_DRIVER ? DRIVER_IRQL_NOT_LESS_OR_EQUAL : IRQL_NOT_LESS_OR_EQUAL,
		va, c->irql, kind_of(code), c->module);
}

static bool permits(pte_t entry, u32 code)
{
	if (code & PF_WRITE)
		return pte_write(entry);
	return !(code & PF_INSTR) || !pte_nx(entry);
}

static int rights_bug_check(struct nt *k, u32 code, u64 va, pte_t entry)
{
	return ke_bug_check(k,
			    code & PF_INSTR ? ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY
					    : ATTEMPTED_WRITE_TO_READONLY_MEMORY,
			    va, entry.v, 0, 0);
}

int ki_enter_trap(struct nt *k, unsigned cpu)
{
	const struct nt_cpu *c = &k->cpus[cpu];
	u64 at = atomic_load_explicit(&c->stack, memory_order_relaxed);

	if (bugcheck_errno(&k->bugcheck))
		return bugcheck_errno(&k->bugcheck);
	if (!mi_can_be_pushed_to(k, at))
		return ke_bug_check(k, UNEXPECTED_KERNEL_MODE_TRAP, TRAP_DOUBLE_FAULT, at, 0, 0);
	return 0;
}

int ki_check_irql(struct nt *k, unsigned cpu, u32 code, u64 va)
{
	const struct nt_cpu *c = &k->cpus[cpu];

	if (c->irql >= DISPATCH_LEVEL)
		return irql_bug_check(k, cpu, code, va);
	if (c->paging)
		return ke_bug_check(k, UNEXPECTED_KERNEL_MODE_TRAP, TRAP_DOUBLE_FAULT, va, 0, 0);
	return 0;
}

static int resolve_or_stop(struct nt *k, unsigned cpu, pte_t *ptep, u32 code, u64 va)
{
	int err = mi_dispatch_fault(k, cpu, ptep);

	switch (err) {
	case 0:
		return 0;
	case -EIO:
		return ke_bug_check(k, KERNEL_DATA_INPAGE_ERROR, (u64)ptep, (u64)err, cpu, va);
	case -ENOMEM:
		return ke_bug_check(k, NO_PAGES_AVAILABLE, 0, 0, 0, 0);
	default:
		return ke_bug_check(k, PAGE_FAULT_IN_NONPAGED_AREA, va, kind_of(code), 0, 0);
	}
}

/* With the lock, which may have been dropped in between. */
static int access_fault(struct nt *k, unsigned cpu, u32 code, u64 va)
{
	pte_t *ptep = mi_entry_at(k, va), entry = { 0 };
	int err;

	if (ptep) {
		entry = pte_read(ptep);
		ledger_count(PAID_SOFTWARE_READS); /* the walk down to it has counted its own */
	}
	if (mi_state(entry) == MI_VALID) {
		if (!permits(entry, code))
			return rights_bug_check(k, code, va, entry);
		nt_count(k, cpu, NT_SPURIOUS);
		return 0;
	}
	err = ki_check_irql(k, cpu, code, va);
	if (err)
		return err;
	if (mi_state(entry) == MI_NOTHING || !nt_is_pageable(va))
		return ke_bug_check(k, PAGE_FAULT_IN_NONPAGED_AREA, va, kind_of(code), 0, 0);
	if (!permits(entry, code))
		return rights_bug_check(k, code, va, entry);
	return resolve_or_stop(k, cpu, ptep, code, va);
}

int mm_access_fault(struct nt *k, unsigned cpu, u32 code, u64 va)
{
	int err;

	ledger_step(k->actor, "MmAccessFault: looks at IRQL and entry", va);
	nt_lock(k);
	err = access_fault(k, cpu, code, va);
	nt_unlock(k);
	return err;
}
