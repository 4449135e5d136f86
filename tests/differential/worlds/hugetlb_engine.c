/* SPDX-License-Identifier: MIT */
/* Huge pages on the engine's side. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/backing/memfd.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"
#include "tests/differential/worlds/hugetlb.h"

enum { FRAMES = (HUGE_POOL + 4) * 512 };

static struct {
	struct soft_machine *m;
	struct store *store;
	struct file *file;
	struct mm *mm[2]; /* the process and its child */
} side;

static void *memory_alloc(void *ctx, u64 bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) & ~63ULL);

	(void)ctx;
	if (p)
		memset(p, 0, bytes);
	return p;
}

static void memory_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	(void)bytes;
	free(p);
}

static const struct engine_memory memory = { .alloc = memory_alloc, .free = memory_free };

static struct hstate *pool(void)
{
	return hstate_sizelog(&side.m->engine, 21);
}

static bool begin(u64 pages)
{
	struct engine_config config = engine_default_config(FRAMES);
	struct soft_options o = {
		.table_frames = 512,
		.user_frames = FRAMES,
		.nr_cpus = 1,
		.config = &config,
	};

	config.prefetch = 1;
	if (memory_store_create(&memory, COMPRESS_NONE, 64, 0, 2, &side.store))
		return false;
	o.store = side.store;
	if (soft_create(&o, &side.m))
		return false;
	if (mm_create(&side.m->engine, 0x10000, 0x7ffffffff000, &side.mm[0]))
		return false;
	side.mm[0]->limits.may_lock_all = true;
	side.file = memfd_alloc_file(&side.m->engine, MEMFD_HUGETLB);
	return side.file && hugetlb_set_pool(pool(), pages) == pages;
}

static void reap(void)
{
	soft_load_mm(&side.m->cpus[0], NULL);
	mm_destroy(side.mm[1]);
	side.mm[1] = NULL;
}

static void end(void)
{
	soft_load_mm(&side.m->cpus[0], NULL);
	if (side.mm[1])
		reap();
	mm_destroy(side.mm[0]);
	file_put(side.file);
	engine_check(&side.m->engine);
	soft_destroy(side.m);
	memory_store_destroy(side.store);
}

static void access_byte(struct mm *mm, const struct huge_op *op, struct huge_result *r)
{
	struct soft_cpu *cpu = &side.m->cpus[0];
	u64 before = mm->minor;
	enum fault_reason reason;
	u8 byte = 0;

	soft_load_mm(cpu, mm);
	reason = op->call == HUGE_READ ? soft_read_byte(cpu, op->arg[0], &byte)
				       : soft_write_byte(cpu, op->arg[0], (u8)op->arg[1]);
	r->value = byte;
	r->faults = mm->minor - before;
	if (reason == FAULT_MAPERR)
		r->signal = SIGSEGV << 8 | SEGV_MAPERR;
	else if (reason == FAULT_ACCERR)
		r->signal = SIGSEGV << 8 | SEGV_ACCERR;
	else if (reason != FAULT_OK)
		r->signal = SIGBUS << 8 | BUS_ADRERR;
}

static s64 map(struct mm *mm, const u64 *a)
{
	s64 at = do_mmap(mm, a[0], a[1], a[2], a[3], a[3] & MAP_ANONYMOUS ? NULL : side.file, a[4]);

	if (at < 0 || (a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
		return at;
	vm_unmap(mm, (u64)at, (a[1] + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	return !((u64)at % HUGE_BYTES);
}

static s64 core(struct mm *mm, const u64 *a, u64 *sum)
{
	static u8 vec[HUGE_PLACES * 512];
	s64 result = do_mincore(mm, a[0], a[1], vec);

	for (u64 i = 0; !result && i < (a[1] + 4095) / 4096; i++)
		*sum += (i + 1) * vec[i];
	return result;
}

/*
 * Would a part of a private area move, and leave a part that is promised its pages?  Linux 6.18
 * (clear_vma_resv_huge_pages()) then forgets the promises of all that stays: nobody gives them back
 * any more, and the kernel's pool has lost as many pages until it is started anew.
 */
static bool loses_promises(struct mm *mm, const struct huge_op *op)
{
	u64 start = op->arg[0], end = start + ((op->arg[1] + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));

	if (op->call != HUGE_REMAP || !(op->arg[3] & MREMAP_FIXED))
		return false;
	for (const struct vma *vma = find_vma(mm, start); vma && vma->start < end;
	     vma = vma_next(vma))
		if (vma->resv && (vma->start < start || vma->end > end))
			return true;
	return false;
}

/*
 * Does the new area replace shared ones whose files go with them?  In Linux these go when the new
 * one has been promised its pages, here before.
 */
static bool replaces_files(struct mm *mm, const struct huge_op *op)
{
	u64 start = op->arg[0], end = start + ((op->arg[1] + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));

	if (op->call != HUGE_MMAP || !(op->arg[3] & MAP_FIXED))
		return false;
	for (const struct vma *vma = find_vma(mm, start); vma && vma->start < end;
	     vma = vma_next(vma))
		if (vma->file != side.file && (vma->flags & VM_MAYSHARE))
			return true;
	return false;
}

static void perform(const struct huge_op *op, struct huge_result *r)
{
	struct mm *mm = side.mm[op->child];
	const u64 *a = op->arg;
	struct hstate_counts n;

	*r = (struct huge_result){ .left_out = loses_promises(mm, op) || replaces_files(mm, op) };
	switch (r->left_out ? NR_HUGE_CALLS : (enum pool_call)op->call) {
	case NR_HUGE_CALLS:
		break;
	case HUGE_MMAP:
		r->value = map(mm, a);
		break;
	case HUGE_MUNMAP:
		r->value = vm_unmap(mm, a[0], a[1]);
		break;
	case HUGE_PROTECT:
		r->value = do_mprotect(mm, a[0], a[1], a[2]);
		break;
	case HUGE_ADVISE:
		r->value = do_madvise(mm, a[0], a[1], (u32)a[2]);
		break;
	case HUGE_REMAP:
		r->value = do_mremap(mm, a[0], a[1], a[2], a[3], a[4]);
		break;
	case HUGE_READ:
	case HUGE_WRITE:
		access_byte(mm, op, r);
		break;
	case HUGE_MINCORE:
		r->value = core(mm, a, &r->sum);
		break;
	case HUGE_TRUNCATE:
		r->value = file_truncate(side.file, a[0]);
		break;
	case HUGE_PUNCH:
		r->value = file_punch_hole(side.file, a[0], a[1]);
		break;
	case HUGE_LOCK:
		r->value = do_mlock(mm, a[0], a[1]);
		break;
	case HUGE_FORK:
		r->value = mm_fork(mm, &side.mm[1]);
		break;
	case HUGE_REAP:
		reap();
		break;
	}
	n = hugetlb_counts(pool());
	r->nr = n.nr;
	r->free = n.free;
	r->resv = n.resv;
	r->surplus = n.surplus;
	engine_check(&side.m->engine);
}

const struct huge_side huge_engine = {
	.name = "engine", .begin = begin, .perform = perform, .end = end
};
