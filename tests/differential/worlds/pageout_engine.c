/* SPDX-License-Identifier: MIT */
/* The engine's side of pageout: a soft machine of its own for each sequence. */
#include <stdlib.h>
#include <string.h>

#include "engine/backing/swap_area.h"
#include "engine/space/calls.h"
#include "engine/space/uapi.h"
#include "tests/differential/worlds/pageout.h"
#include "tests/unit/world.h"

#define AWAY (1u << 17)
#define RW   (UAPI_PROT_READ | UAPI_PROT_WRITE)

static struct world w;

static u64 engine_at(unsigned page)
{
	return REGION + ((u64)page << PAGE_SHIFT);
}

static long engine_touch(const struct pageout_step *op, bool write)
{
	u8 byte = (u8)op->n;
	enum fault_reason reason = write ? soft_write_byte(w.cpu, engine_at(op->page), byte)
					 : soft_read_byte(w.cpu, engine_at(op->page), &byte);

	return reason != FAULT_OK ? REFUSED : write ? 0 : byte;
}

static long engine_child(const struct pageout_step *op, bool write)
{
	struct mm *child;
	long result;

	if (mm_fork(w.mm, &child))
		return REFUSED;
	soft_load_mm(w.cpu, child);
	result = engine_touch(op, write);
	soft_load_mm(w.cpu, w.mm);
	mm_destroy(child);
	return result == REFUSED ? 255 : result % 251;
}

static s64 map_part(unsigned from, unsigned to, u64 share)
{
	if (from >= to)
		return 0;
	return min_of(do_mmap(w.mm, engine_at(from), (u64)(to - from) << PAGE_SHIFT, RW,
			      share | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0),
		      (s64)0);
}

static s64 map_pages(unsigned page, unsigned n)
{
	return map_part(page, min_of(page + n, (unsigned)PRIVATE_PAGES), UAPI_MAP_PRIVATE)
		       ?: map_part(max_of(page, (unsigned)PRIVATE_PAGES), page + n,
				   UAPI_MAP_SHARED);
}

static s64 move(u64 from, u64 len)
{
	u64 flags = UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED;
	s64 there = do_mremap(w.mm, from, len, len, flags, engine_at(AWAY));

	if (there < 0)
		return there;
	return min_of(do_mremap(w.mm, engine_at(AWAY), len, len, flags, from), (s64)0);
}

static s64 engine_does(const struct pageout_step *op)
{
	static const u32 advice[NR_PAGEOUT_CALLS] = {
		[PAGEOUT] = UAPI_MADV_PAGEOUT,
		[COLD] = UAPI_MADV_COLD,
		[FREE] = UAPI_MADV_FREE,
		[DONTNEED] = UAPI_MADV_DONTNEED,
		[POPULATE_READ] = UAPI_MADV_POPULATE_READ,
		[POPULATE_WRITE] = UAPI_MADV_POPULATE_WRITE,
	};
	u64 at = engine_at(op->page), len = (u64)op->n << PAGE_SHIFT;
	int err;

	switch ((enum pageout_call)op->call) {
	case READ:
	case WRITE:
		return engine_touch(op, op->call == WRITE);
	case CHILD_READS:
	case CHILD_WRITES:
		return engine_child(op, op->call == CHILD_WRITES);
	case PROTECT:
		return do_mprotect(w.mm, REGION, (u64)PRIVATE_PAGES << PAGE_SHIFT, op->n);
	case REPLACE:
		return map_pages(op->page, op->n);
	case MOVE:
		return move(at, len);
	case SWAPOFF:
		err = swap_area_off(w.e, 0);
		return err ?: min_of(swap_area_on(w.e, w.store, 0), 0);
	default:
		return do_madvise(w.mm, at, len, advice[op->call]);
	}
}

bool pageout_engine(const struct script *script, struct pageout_record *records)
{
	/* A page comes back alone and keeps no slot, as in the kernel with a device that answers at
	 * once; and a fault is one, as real CPUs have them. */
	struct world_options o = { .frames = 512, .slots = 512, .prefetch = 1, .rewalks = true };

	if (world_create(&w, o) || map_pages(0, PAGES))
		return false;
	for (unsigned i = 0; i < script->n; i++) {
		struct pageout_record *r = &records[i];
		u64 minor = w.mm->minor, major = w.mm->major;
		struct pageout_step op;

		memcpy(&op, script->steps[i], sizeof(op));
		*r = (struct pageout_record){ .result = (long)engine_does(&op) };
		if (is_touch(&op) && r->result != REFUSED) {
			r->minor = (long)(w.mm->minor - minor);
			r->major = (long)(w.mm->major - major);
		}
		do_mincore(w.mm, REGION, (u64)PAGES << PAGE_SHIFT, r->there);
	}
	world_destroy(&w);
	return true;
}
