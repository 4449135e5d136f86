/* SPDX-License-Identifier: MIT */
/*
 * mmu_ops of the linux machine: the host kernel's page table is our TLB.
 *
 * Where a frame's bytes are (page->where):
 *   0                   at its address in the program, or nowhere
 *   in a staging area   being filled, to be set by UFFDIO_COPY
 *   in the window       taken from the program, not yet written out
 */
#include "machine/linux/agent.h"
#include "engine/base/errno.h"
#include "machine/linux/huge.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"

#include <sys/mman.h>

static int linux_stage(struct engine *e, struct page **pages, unsigned n)
{
	char *staging = thread_self()->staging;

	(void)e;
	/* One fault at a time is filled by a thread, so its staging area is free. */
	for (unsigned i = 0; i < n; i++)
		pages[i]->where = (u64)(staging + i * PAGE_SIZE);
	return 0;
}

static void forget(struct page *page)
{
	u64 where = page->where;

	page->where = 0;
	if (window_holds(where))
		window_put((char *)where, 1);
}

static void linux_unstage(struct engine *e, struct page *page)
{
	(void)e;
	forget(page);
}

static void *linux_bytes(struct engine *e, struct page *page)
{
	(void)e;
	return (void *)page->where;
}

/* How many of the pages lie one behind the other, from the first on. */
static unsigned contiguous(struct page **pages, unsigned n)
{
	unsigned run = 1;

	while (run < n && pages[run]->where == pages[0]->where + run * PAGE_SIZE)
		run++;
	return run;
}

/*
 * The kernel copies within one of its areas only, and neighbouring areas may be one VMA here: what
 * was prefetched across a border is left out then.
 */
static s64 copy_in(u64 va, const void *bytes, unsigned n, bool wake)
{
	s64 done = uffd_copy(agent.uffd, va, bytes, n * PAGE_SIZE, wake);

	while (done == -ENOENT && n > 1) {
		n = n > 8 ? n / 2 : 1;
		done = uffd_copy(agent.uffd, va, bytes, n * PAGE_SIZE, wake);
	}
	return done;
}

void mmu_wake_placed(void)
{
	struct agent_thread *t = thread_self();

	if (t->wakes_later && t->placed_to)
		uffd_wake(agent.uffd, t->placed_from, t->placed_to - t->placed_from);
}

static int linux_set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		     unsigned n)
{
	struct agent_thread *t = thread_self();
	s64 done;

	(void)mm;
	if (!gate_enter_soon())
		return -EAGAIN;
	done = copy_in(va, (void *)pages[0]->where, contiguous(pages, n), !t->wakes_later);
	gate_leave();
	if (done < 0)
		return (int)done;
	mmu_wake_placed(); /* of a set before this one */
	t->placed_from = va;
	t->placed_to = va + (u64)done;
	n = (unsigned)(done / PAGE_SIZE);
	for (unsigned i = 0; i < n; i++) {
		forget(pages[i]);
		pte_store(ptep + i, ptes[i]);
	}
	return (int)n;
}

static void linux_change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	(void)mm, (void)va;
	pte_store(ptep, pte);
}

static pte_t linux_clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	(void)mm;
	huge_broken(va);
	return pte_with(pte_exchange(ptep, left), PTE_DIRTY);
}

static bool linux_young(struct mm *mm, u64 va, pte_t *ptep)
{
	(void)mm, (void)va, (void)ptep;
	return false;
}

/* How many of the takes lie one behind the other, from the first on. */
static unsigned adjacent(const struct mmu_take *takes, unsigned n)
{
	unsigned run = 1;

	while (run < n && takes[run].va == takes[0].va + run * PAGE_SIZE)
		run++;
	return run;
}

/*
 * A page that the kernel calls busy is pinned, or was shared with a forked child at some time and
 * not written since.  A write makes the latter exclusive again (copying it if the child is still
 * there) and changes nothing for the former.  Done for all adjacent pages of the run at once.
 * Only for pages that are there: an absent one would be a fault that waits for ourselves.
 */
static bool make_exclusive(const struct mmu_take *takes, unsigned n)
{
	unsigned char vec[MMU_BATCH];
	unsigned run = adjacent(takes, n);

	if (sys(mincore, takes[0].va, run * PAGE_SIZE, vec) < 0)
		return false;
	for (unsigned i = 0; i < run; i++) {
		if (!(vec[i] & 1))
			run = i;
	}
	return run && sys(madvise, takes[0].va, run * PAGE_SIZE, MADV_POPULATE_WRITE) == 0;
}

/*
 * Move the adjacent pages of takes[0..n) to `to` and on; sets result of each.
 *
 * -EEXIST can mean that the kernel moved the page and lost count of it: see uffd_move().
 */
static void move_run(char *to, struct mmu_take *takes, unsigned n)
{
	u64 base = takes[0].va, end = takes[n - 1].va + PAGE_SIZE;
	unsigned i = 0, again = 0;
	u64 exclusive = 0; /* the page that was last made so, in vain if it is still busy */

	while (i < n) {
		u64 at = takes[i].va, stop = max_of(end, at + PAGE_SIZE);
		s64 done = uffd_move(agent.uffd, (u64)to + (at - base), at, stop - at);

		if (done > 0) {
			for (; i < n && takes[i].va < at + (u64)done; i++)
				takes[i].result = 0;
		} else if (done == -EAGAIN && again++ < 3) {
			continue;
		} else if (done == -EBUSY && exclusive != at) {
			exclusive = at;
			if (!make_exclusive(takes + i, n - i))
				takes[i++].result = -EBUSY;
		} else if (done == -EBUSY) {
			takes[i++].result = -EBUSY;
		} else if (done == -EINVAL && stop - at > PAGE_SIZE) {
			end = at + PAGE_SIZE; /* across a border of areas: page by page from here */
		} else if (done == -EINVAL) {
			takes[i++].result = -EINVAL; /* locked, or not writable */
		} else if (done == -EEXIST) {
			takes[i++].result = proc_has_page(agent.pagemap, at) ? -EBUSY : 0;
		} else if (done == -ENOENT) {
			takes[i++].result = -ENOENT; /* unmapped; what follows may not be */
		} else {
			/* The layout changes. */
			while (i < n)
				takes[i++].result = (int)done;
		}
	}
}

/*
 * What really came?  A page that the kernel had dropped by itself (MADV_FREE) left a hole; one that
 * it had swapped out came without its bytes, which mincore() takes for a hole.
 */
static void check_segment(char *segment, struct mmu_take *takes, unsigned n)
{
	unsigned char vec[MMU_BATCH];

	if (sys(mincore, segment, n * PAGE_SIZE, vec) < 0)
		machine_panic("the agent's window cannot be looked at");
	for (unsigned i = 0; i < n; i++)
		if (takes[i].result == 0 && !(vec[i] & 1) &&
		    !proc_has_page(agent.pagemap, (u64)segment + i * PAGE_SIZE))
			takes[i].result = -ENOENT;
}

static unsigned finish_takes(char *segment, struct mmu_take *takes, unsigned n)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < n; i++) {
		struct mmu_take *t = &takes[i];

		t->dirty = true;
		if (t->result == 0 || t->result == -ENOENT)
			huge_broken(t->va);
		if (t->result == 0) {
			t->page->where = (u64)segment + i * PAGE_SIZE;
			pte_store(t->ptep, t->left);
			taken++;
		} else if (t->result == -ENOENT) {
			pte_store(t->ptep, (pte_t){ 0 });
		}
	}
	return taken;
}

/*
 * The takes go to the segment one behind the other, without the holes between them: the kernel
 * flushes the TLBs once for each run of pages that it moves, and so the segment is emptied with one
 * flush.  Nothing between them is taken along, either: a page that the engine does not know
 * (MADV_FREE and a write bring that about) could not be given back while the layout changes.
 */
static unsigned linux_take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	unsigned taken, run;
	char *segment;

	(void)mm;
	for (unsigned i = 0; i < n; i++)
		takes[i].result = locks_all() ? -EINVAL : -EAGAIN;
	if (locks_all())
		return 0;
	segment = window_get(n);
	if (!segment)
		return 0;
	for (unsigned i = 0; i < n; i += run) {
		run = adjacent(takes + i, n - i);
		if (!gate_enter_soon())
			break;
		move_run(segment + i * PAGE_SIZE, takes + i, run);
		gate_leave();
	}
	check_segment(segment, takes, n);
	taken = finish_takes(segment, takes, n);
	window_put(segment, n - taken);
	return taken;
}

static void linux_flush(struct mm *mm, u64 start, u64 end)
{
	(void)mm, (void)start, (void)end; /* the kernel flushed when it changed the entry */
}

static void linux_release(struct engine *e, struct page *page)
{
	(void)e;
	forget(page);
}

const struct mmu_ops linux_mmu_ops = {
	.name = "linux",
	.stage = linux_stage,
	.unstage = linux_unstage,
	.bytes = linux_bytes,
	.set = linux_set,
	.change = linux_change,
	.clear = linux_clear,
	.test_and_clear_young = linux_young,
	.never_young = true,
	.take = linux_take,
	.collapse = huge_collapse,
	.flush = linux_flush,
	.release = linux_release,
	.silent_write = true,
	.pages_vanish = true,
};
