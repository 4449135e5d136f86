/* SPDX-License-Identifier: MIT */
/* Huge pages on the engine's side: a soft machine with a CPU for the program and one for a child.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "engine/userfault/userfault.h"
#include "tests/differential/worlds/huge.h"
#include "tests/unit/world.h"

static struct world w;
static struct userfaultfd_ctx *ctx;

static s64 engine_touch(struct soft_cpu *cpu, const struct huge_step *op, bool write)
{
	u8 byte = (u8)op->byte;
	enum fault_reason reason = write ? soft_write_byte(cpu, huge_at(op->page), byte)
					 : soft_read_byte(cpu, huge_at(op->page), &byte);

	switch (reason) {
	case FAULT_OK:
		return byte;
	case FAULT_MAPERR:
		return TOUCH_MAPERR;
	case FAULT_ACCERR:
		return TOUCH_ACCERR;
	case FAULT_BUS:
		return TOUCH_BUS;
	default:
		return -2000 - (s64)reason;
	}
}

static s64 engine_fork(const struct huge_step *op)
{
	struct soft_cpu *cpu = &w.m->cpus[1];
	struct mm *child;
	s64 told;

	if (mm_fork(w.mm, &child))
		abort();
	soft_load_mm(cpu, child);
	told = engine_touch(cpu, op, op->prot & PROT_WRITE);
	soft_load_mm(cpu, NULL);
	mmput(child);
	return told;
}

static s64 engine_watch(const struct huge_step *op, u64 va, u64 len)
{
	u64 features = huge_watch_features(op), ioctls;

	if (!ctx && (userfaultfd_create(w.mm, 0, &ctx) ||
		     userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls)))
		abort();
	return op->prot ? userfaultfd_register(ctx, va, len, huge_watch_modes(op), &ioctls)
			: userfaultfd_unregister(ctx, va, len);
}

/* Bytes moved, or the error. */
static s64 engine_move(const struct huge_step *op, u64 va, u64 len)
{
	u64 mode = op->prot & PROT_READ ? UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES : 0;
	s64 done = 0;
	int err = userfaultfd_move(ctx, w.mm, huge_at(op->page2), va, len, mode, &done);

	return done > 0 ? done : err;
}

static s64 engine_do(const struct huge_step *op)
{
	u64 va = huge_at(op->page), len = op->n * PAGE_SIZE, len2 = (op->n2 ?: op->n) * PAGE_SIZE;

	switch (op->kind) {
	case OP_MAP:
		return min_of(do_mmap(w.mm, va, len, op->prot,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			      0);
	case OP_UNMAP:
		return vm_unmap(w.mm, va, len);
	case OP_PROTECT:
		return do_mprotect(w.mm, va, len, op->prot);
	case OP_ADVISE:
		return do_madvise(w.mm, va, len, op->advice);
	case OP_REMAP:
		return min_of(do_mremap(w.mm, va, len, len2, MREMAP_MAYMOVE | MREMAP_FIXED,
					huge_at(op->page2)),
			      0);
	case OP_WATCH:
		return engine_watch(op, va, len);
	case OP_WRITEPROTECT:
		return !ctx ? -EBADF
			    : userfaultfd_writeprotect(
				      ctx, va, len,
				      op->prot & PROT_WRITE ? 0 : UAPI_UFFDIO_WRITEPROTECT_MODE_WP);
	case OP_MOVE:
		return ctx ? engine_move(op, va, len) : -EBADF;
	case OP_FORK:
		return engine_fork(op);
	default:
		return engine_touch(w.cpu, op, op->kind == OP_WRITE);
	}
}

static s64 engine_faults(void)
{
	return (s64)(atomic_load(&w.mm->minor) + atomic_load(&w.mm->major));
}

static bool engine_mincore(unsigned page, unsigned n, u8 *vec)
{
	return !do_mincore(w.mm, huge_at(page), n * PAGE_SIZE, vec);
}

/* An entry of the table that has the huge ones, empty if there is none. */
static pte_t huge_entry(unsigned page)
{
	spinlock_t *ptl;
	pte_t *pmdp = pmd_find(w.mm, huge_at(page), &ptl);
	pte_t pmd = pmdp ? pte_read(pmdp) : (pte_t){ 0 };

	return pmd_is_huge(pmd) ? pmd : (pte_t){ 0 };
}

static void engine_look(struct outcome *o)
{
	huge_see_present(engine_mincore, o->present, 0, WINDOW);
	o->anon_bytes = 0;
	for (unsigned i = 0; i < WINDOW; i++)
		o->marked[i] = pte_uffd_wp(pte_peek(w.mm, huge_at(i)));
	for (unsigned i = 0; i < WINDOW; i += HUGE_PAGES) {
		pte_t pmd = huge_entry(i);
		bool zero = w.e->huge_zero && pte_pfn(pmd) == page_pfn(w.e, w.e->huge_zero);

		memset(o->huge + i, !pte_none(pmd), HUGE_PAGES);
		o->anon_bytes += pte_none(pmd) || zero ? 0 : HUGE_PAGES * PAGE_SIZE;
	}
}

void huge_engine_do(const struct huge_step *op, struct outcome *o)
{
	s64 start = engine_faults();

	o->result = engine_do(op);
	o->faults = engine_faults() - start;
	if (op->kind != OP_READ || (o->faults && o->result >= 0))
		engine_look(o);
}

void huge_engine_begin(void)
{
	if (ctx)
		userfaultfd_release(ctx);
	ctx = NULL;
	vm_unmap(w.mm, huge_at(0), WINDOW * PAGE_SIZE);
}

u64 huge_engine_splits(void)
{
	return atomic_load(&w.e->stats->thp_split);
}

void huge_engine_end(void)
{
	soft_check(w.m);
}

const char *huge_engine_open(int mode)
{
	static const char no_memory[] = "there is no memory for the engine";

	return world_create(&w, (struct world_options){ .frames = 16384,
							.cpus = 2,
							.rewalks = true,
							.thp = (enum thp_mode)mode })
		       ? no_memory
		       : NULL;
}
