/* SPDX-License-Identifier: MIT */
/*
 * Which memory is managed, and how the engine learns of it.
 *
 * The program's libc makes areas inside itself, so nothing can be hooked.  Instead /proc/self/maps
 * is compared with the engine's VMAs: what is private, anonymous, writable and not yet known is
 * entered, registered with userfaultfd and adopted: pages that are already there become present
 * entries, all others fault to us from now on.  Until then such an area works at native speed.
 *
 * What goes away is told by events, in order.  The comparison also goes the other way round for
 * one case that has no event: an area that vanished between our reading of maps and registering.
 *
 * Adopting looks at the kernel's page table and then enters what it saw: nothing may be taken in
 * between, so each chunk is done with the gate held.
 */
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/proc.h"
#include "machine/linux/uffd.h"
#include "machine/linux/wires.h"

/* Areas below this size that were there when the agent was loaded are the loader's and the
 * libraries' own: unmanaged, so that the agent's code never waits for itself. */
#define SMALL_AREA (128 * 1024)
#define MAX_EARLY  256
#define CHUNK	   512 /* pages adopted in one go */
/* Bytes that may be touched unseen while they go over from the wires to paging. */
#define LEAST_PIECE (1ULL << 20)

/* Of this library, by the linker. */
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));

static struct {
	struct {
		u64 start, end;
	} early[MAX_EARLY];
	unsigned nr_early;
	u64 bytes;
} early;

#define MAX_NEW 512 /* areas registered in one scan before they are adopted */

/* One reader at a time: the kernel finds its place again by counting bytes. */
static spinlock_t maps_lock;

struct scan {
	u64 unmanaged[NR_UNMANAGED];
	struct proc_area area; /* the line of maps before the present one */
	/* What to do with a part that can be managed, and is followed by free space up to `upto`.
	 */
	void (*found)(struct scan *scan, u64 start, u64 end, u64 upto);
	void (*each)(u64 start, u64 end); /* see areas_each() */
	unsigned nr_new;		  /* registered by this scan, to be adopted */
	struct {
		u64 start, end;
	} new[MAX_NEW];
};

static int note_early(const struct proc_area *a, void *ctx)
{
	(void)ctx;
	if (a->anonymous && a->private && a->write && a->name[0] != '[' &&
	    a->end - a->start < SMALL_AREA && early.nr_early < MAX_EARLY) {
		early.early[early.nr_early].start = a->start;
		early.early[early.nr_early].end = a->end;
		early.nr_early++;
		early.bytes += a->end - a->start;
	}
	return 0;
}

void areas_note_early(int maps)
{
	early.nr_early = 0;
	early.bytes = 0;
	proc_areas(maps, note_early, NULL);
}

/* The lowest part of [start, end) that must not be managed; false: all of it may be. */
static bool excluded_part(u64 start, u64 end, u64 *from, u64 *to)
{
	bool found = stacks_overlap(start, end, from, to);
	u64 own = (u64)__bss_start & PAGE_MASK, own_end = PAGE_ALIGN((u64)_end);

	if (own < end && own_end > start && (!found || own < *from)) {
		*from = own;
		*to = own_end;
		found = true;
	}
	for (unsigned i = 0; i < early.nr_early; i++) {
		u64 s = early.early[i].start, e = early.early[i].end;

		if (s < end && e > start && (!found || s < *from)) {
			*from = s;
			*to = e;
			found = true;
		}
	}
	return found;
}

/* One chunk with the gate held: -ENOMEM when the engine has no frame for it. */
static int adopt_chunk(struct mm *mm, u64 va, unsigned n)
{
	bool present[CHUNK];
	struct vma *vma;
	u64 adopted = 0;
	int err;

	gate_lock();
	down_read(&mm->mmap_lock);
	err = proc_present(agent.pagemap, va, n, present);
	for (unsigned i = 0; !err && i < n; i++) {
		u64 at = va + i * PAGE_SIZE;

		if (!present[i])
			continue;
		vma = find_vma(mm, at);
		if (!vma || vma->start > at)
			continue;
		err = adopt_page(mm, vma, at);
		if (err == -EEXIST)
			err = 0;
		else if (!err)
			adopted++;
	}
	up_read(&mm->mmap_lock);
	gate_unlock();
	atomic_fetch_add(&agent.slot->native, adopted);
	return err;
}

void areas_adopt_page(u64 va)
{
	struct vma *vma;

	down_read(&agent.mm->mmap_lock);
	vma = find_vma(agent.mm, va);
	if (vma && vma->start <= va)
		adopt_page(agent.mm, vma, va);
	up_read(&agent.mm->mmap_lock);
}

/* Account what is present in [start, end) although the engine did not put it there. */
static void adopt_range(u64 start, u64 end)
{
	for (u64 va = start; va < end;) {
		unsigned n = (unsigned)min_of((end - va) / PAGE_SIZE, (u64)CHUNK);

		if (adopt_chunk(agent.mm, va, n) == -ENOMEM && reclaim_direct(&agent.engine, CHUNK))
			continue;
		/* Out of descriptors: the pages stay where they are, and nobody takes them. */
		va += n * PAGE_SIZE;
	}
}

static int register_piece(u64 at, u64 len)
{
	int err = wires_release(at, len);

	return err ? err : uffd_register(agent.uffd, at, len);
}

/*
 * From the wires over to paging.  For a moment memory is neither; so it goes in pieces, first every
 * second one, then the others.  A thread that touches a piece just then, and perhaps keeps us from
 * our CPU, comes to one that is still wired, or to one that is paged already.
 */
static int register_wired(u64 start, u64 end)
{
	u64 piece = PAGE_ALIGN(max_of(agent.options.limit / 64, LEAST_PIECE));
	int err = 0;

	for (u64 at = start + piece; !err && at < end; at += 2 * piece)
		err = register_piece(at, min_of(piece, end - at));
	for (u64 at = start; !err && at < end; at += 2 * piece)
		err = register_piece(at, min_of(piece, end - at));
	return err;
}

/*
 * Where the area ends there, it may have been enlarged since maps was read.  Registering a part
 * would split it in two, and the program's next mremap() of it would fail; so the free space up to
 * `upto` is registered with it.
 */
static int register_whole(u64 start, u64 end, u64 upto)
{
	int err;

	if (upto > end && uffd_register(agent.uffd, start, upto - start) == 0)
		return 0;
	err = uffd_register(agent.uffd, start, end - start);
	return err == -EBUSY ? register_wired(start, end) : err;
}

/* Register [start, end), of which the engine knows nothing: from now on it cannot grow by itself.
 */
static void area_register(struct scan *scan, u64 start, u64 end, u64 upto)
{
	u32 prot = VM_READ | VM_WRITE | (scan->area.exec ? VM_EXEC : 0);
	s64 at;

	if (scan->nr_new == MAX_NEW)
		return; /* the next scan finds it */
	at = vm_map(agent.mm, start, end - start, prot, VMAP_FIXED_NOREPLACE, 0);
	if (at == -EEXIST)
		return;
	if (at >= 0 && register_whole(start, end, upto)) {
		vm_unmap(agent.mm, start, end - start);
		at = -EINVAL;
	}
	if (at < 0) {
		scan->unmanaged[UNMANAGED_REFUSED] += end - start;
		return;
	}
	scan->new[scan->nr_new].start = start;
	scan->new[scan->nr_new].end = end;
	scan->nr_new++;
}

/* The first VMA of the engine that ends above addr, as plain numbers. */
static bool engine_area(u64 addr, u64 *start, u64 *end)
{
	struct vma *vma;

	down_read(&agent.mm->mmap_lock);
	vma = find_vma(agent.mm, addr);
	if (vma) {
		*start = vma->start;
		*end = vma->end;
	}
	up_read(&agent.mm->mmap_lock);
	return vma != NULL;
}

/* Register what the engine does not have of [start, end). */
static void fill_gaps(struct scan *scan, u64 start, u64 end, u64 upto)
{
	while (start < end) {
		u64 have_start, have_end;

		if (!engine_area(start, &have_start, &have_end) || have_start >= end) {
			area_register(scan, start, end, upto);
			return;
		}
		if (have_start > start)
			area_register(scan, start, have_start, have_start);
		start = have_end;
	}
}

/* The area is followed by free space up to `upto`. */
static void manage(struct scan *scan, const struct proc_area *a, u64 upto)
{
	u64 start = a->start, from, to;

	while (start < a->end && excluded_part(start, a->end, &from, &to)) {
		if (from > start)
			scan->found(scan, start, from, from);
		start = to;
	}
	if (start < a->end)
		scan->found(scan, start, a->end, upto);
}

static void scan_area(struct scan *scan, u64 upto)
{
	const struct proc_area *a = &scan->area;

	if (a->start >= ARENA_BASE && a->end <= ARENA_BASE + ARENA_SIZE)
		return;
	if (!a->anonymous || !a->private || a->start >= USER_END)
		return;
	if (a->name[0] == '[' && memcmp(a->name, "[heap]", 6) && memcmp(a->name, "[anon", 5)) {
		if (!memcmp(a->name, "[stack]", 7))
			scan->unmanaged[UNMANAGED_STACK] += a->end - a->start;
		return;
	}
	if (a->write)
		manage(scan, a, upto);
	else if (a->read)
		scan->unmanaged[UNMANAGED_READONLY] += a->end - a->start;
}

static int scan_one(const struct proc_area *a, void *ctx)
{
	struct scan *scan = ctx;

	scan_area(scan, min_of(a->start, USER_END));
	scan->area = *a;
	return 0;
}

static int scan_maps(struct scan *scan)
{
	int err;

	spin_lock(&maps_lock);
	err = proc_areas(agent.maps, scan_one, scan);
	spin_unlock(&maps_lock);
	scan_area(scan, scan->area.end);
	return err;
}

static void found_one(struct scan *scan, u64 start, u64 end, u64 upto)
{
	(void)upto;
	scan->each(start, end);
}

int areas_each(void (*fn)(u64 start, u64 end))
{
	struct scan scan = { .found = found_one, .each = fn };

	return scan_maps(&scan);
}

int areas_scan(void)
{
	struct scan scan = { .found = fill_gaps };
	int err = scan_maps(&scan);

	/* First all are stopped from growing, then they are counted. */
	for (unsigned i = 0; i < scan.nr_new; i++)
		adopt_range(scan.new[i].start, scan.new[i].end);

	if (err)
		return err;
	scan.unmanaged[UNMANAGED_STACK] += stacks_bytes();
	scan.unmanaged[UNMANAGED_SMALL] = early.bytes;
	for (unsigned i = 0; i < NR_UNMANAGED; i++) {
		if (i != UNMANAGED_PINNED && i != UNMANAGED_LOCKED)
			agent.slot->unmanaged[i] = scan.unmanaged[i];
	}
	if (scan.nr_new == MAX_NEW)
		agent.rescan = 1;
	if (scan.nr_new)
		areas_forget_gone();
	return 0;
}

/* ---- what vanished between our reading of maps and registering ---- */

#define MAX_GONE 64

struct gone {
	u64 upto; /* engine VMAs below this are accounted for */
	unsigned nr;
	struct {
		u64 start, end;
	} range[MAX_GONE];
};

static void gone_between(struct gone *g, u64 start, u64 end)
{
	u64 s, e;

	while (start < end && g->nr < MAX_GONE && engine_area(start, &s, &e) && s < end) {
		g->range[g->nr].start = max_of(s, start);
		g->range[g->nr].end = min_of(e, end);
		g->nr++;
		start = e;
	}
}

static int gone_one(const struct proc_area *a, void *ctx)
{
	struct gone *g = ctx;

	gone_between(g, g->upto, min_of(a->start, USER_END));
	g->upto = a->end;
	return 0;
}

/*
 * Forget VMAs of the engine that the program does not have.  Only a reading of maps during which
 * no change was on its way tells that truly: the gate keeps changes from being read, and the
 * kernel answers EAGAIN while one waits to be.
 */
void areas_forget_gone(void)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		struct gone gone = { .upto = 0 };
		bool quiet;

		gate_lock();
		spin_lock(&maps_lock);
		proc_areas(agent.maps, gone_one, &gone);
		spin_unlock(&maps_lock);
		quiet = uffd_copy(agent.uffd, 0, agent.report, PAGE_SIZE, true) != -EAGAIN;
		for (unsigned i = 0; quiet && i < gone.nr; i++)
			vm_unmap(agent.mm, gone.range[i].start,
				 gone.range[i].end - gone.range[i].start);
		gate_unlock();
		if (quiet)
			return;
		serve_pending();
	}
}

void areas_reconcile(void)
{
	u64 at = 0, start, end;

	while (engine_area(at, &start, &end)) {
		adopt_range(start, end);
		at = end;
	}
}

int areas_register_again(void)
{
	u64 at = 0, start, end;
	int err = 0;

	while (engine_area(at, &start, &end)) {
		int one = uffd_register(agent.uffd, start, end - start);

		/* Parts that fork did not give to the child (MADV_DONTFORK) are gone. */
		if (one == -EINVAL || one == -ENOMEM)
			vm_unmap(agent.mm, start, end - start);
		else if (one)
			err = one;
		at = end;
	}
	return err;
}
