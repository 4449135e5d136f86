/* SPDX-License-Identifier: MIT */
/* The kernel side's life, and the accesses of its code: see nt.h. */
#include "systems/windows/nt.h"

#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/engine.h"
#include "systems/windows/pages.h"
#include "systems/windows/pool.h"

#define STACK_TAG  0x6b636174 /* "tack" */
#define STACK_SIZE 512	      /* bytes: a trap frame, and what there is besides */

/* ---- accesses ---- */

int nt_access(struct nt *k, unsigned cpu, enum nt_module module, u64 va, u32 access, void *bytes,
	      size_t n)
{
	struct soft_cpu *c = &k->machine->cpus[cpu];
	enum fault_reason reason;

	if (bugcheck_errno(&k->bugcheck))
		return bugcheck_errno(&k->bugcheck);
	ledger_begin(k->ledger, cpu);
	k->cpus[cpu].module = module;
	if (access & PF_WRITE)
		reason = soft_kernel_write(c, va, bytes, n, true);
	else if (access & PF_INSTR)
		reason = soft_kernel_fetch(c, va, bytes, n);
	else
		reason = soft_kernel_read(c, va, bytes, n, true);
	k->cpus[cpu].module = NT_KERNEL;
	if (reason == FAULT_OK)
		return 0;
	return bugcheck_errno(&k->bugcheck) ? bugcheck_errno(&k->bugcheck) : -EFAULT;
}

void ke_switch_stack(struct nt *k, unsigned cpu, u64 va)
{
	atomic_store(&k->cpus[cpu].stack, va);
}

/* ---- its life ---- */

static int read_page_file(struct nt *k, unsigned cpu, u64 slot, void *bytes)
{
	struct store *s = &k->page_file.store;

	(void)cpu;
	return s->ops->load(s, slot, bytes);
}

static int write_page_file(struct nt *k, unsigned cpu, u64 slot, const void *bytes)
{
	struct store *s = &k->page_file.store;

	(void)cpu;
	return s->ops->save(s, slot, bytes);
}

static const struct nt_disk page_file_disk = { .read = read_page_file, .write = write_page_file };

/* One last-level table for each region, made by mapping something there once. */
static int make_regions(struct nt *k)
{
	int err;

	for (unsigned r = 0; r < NR_NT_REGIONS; r++) {
		k->regions[r].start = nt_region_start(r);
		err = kernel_map(&k->half, k->regions[r].start, k->first_pfn, PTE_NX);
		if (err)
			return err;
		kernel_unmap(&k->half, k->regions[r].start);
	}
	return 0;
}

/* What a trap frame is pushed to must be there whatever happens. */
static int make_stacks(struct nt *k)
{
	u64 va, n = k->machine->nr_cpus;
	int err = ex_allocate_pool(k, 0, NON_PAGED_POOL, n * STACK_SIZE, STACK_TAG, &va);

	for (unsigned i = 0; !err && i < n; i++)
		ke_switch_stack(k, i, va + i * STACK_SIZE);
	return err;
}

static int set_up(struct nt *k)
{
	int err = kernel_init_half(&k->half);

	if (err)
		return err;
	err = mi_init_pages(k);
	if (err) {
		kernel_fini_half(&k->half);
		return err;
	}
	err = make_regions(k);
	if (!err)
		err = make_stacks(k);
	if (err) {
		mi_fini_pages(k);
		kernel_fini_half(&k->half);
	}
	return err;
}

int nt_create(struct soft_machine *m, struct ledger *ledger, const struct ledger_actor *actor,
	      struct nt **nt)
{
	struct nt *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return -ENOMEM;
	k->machine = m;
	k->ledger = ledger;
	k->actor = actor;
	k->disk = &page_file_disk;
	k->half = (struct kernel){ .engine = &m->engine,
				   .half = KERNEL_HALF_LAZY,
				   .vmalloc_start = NT_BASE,
				   .vmalloc_end = nt_region_start(NR_NT_REGIONS) };
	err = set_up(k);
	if (err)
		free(k);
	else
		*nt = k;
	return err;
}

void nt_destroy(struct nt *k)
{
	mi_fini_pages(k);
	kernel_fini_half(&k->half);
	free(k);
}

void nt_attach(struct nt *k, struct mm *mm)
{
	vmalloc_fault(&k->half, mm, NT_BASE);
}
