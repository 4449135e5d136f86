/* SPDX-License-Identifier: MIT */
#include "machine/linux/window.h"
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/uffd_abi.h"

#include <sys/mman.h>

#define SEGMENTS WINDOW_SEGMENTS
#define BINS	 (MAX_HANDLERS + 1) /* one a thread */
/* Dropped together, with one flush. */
#define BIN_SEGMENTS 4
#define BIN_SIZE     (BIN_SEGMENTS * SEGMENT_SIZE)

static struct {
	char *base, *bins;
	spinlock_t lock; /* guards free and nr_free */
	u8 free[SEGMENTS];
	unsigned nr_free;
	_Atomic u32 held[SEGMENTS]; /* pages in it */
	struct open_segment {
		char *base;
		unsigned used; /* pages, from its start */
	} open[BINS];	       /* what each thread is filling */
	u8 binned[BINS];       /* segments in its bin */
} window;

static char *segments_alloc(unsigned n)
{
	char *p = arena_alloc((n + 1) * SEGMENT_SIZE);

	return p ? (char *)(((u64)p + SEGMENT_SIZE - 1) & ~(SEGMENT_SIZE - 1)) : NULL;
}

int window_init(void)
{
	int err;

	if (!window.base) {
		window.base = segments_alloc(SEGMENTS);
		window.bins = segments_alloc(BINS * BIN_SEGMENTS);
		if (!window.base || !window.bins)
			return -ENOMEM;
	}
	spin_init(&window.lock);
	window.nr_free = 0;
	for (unsigned i = SEGMENTS; i-- > 0;) {
		if (!window.held[i])
			window.free[window.nr_free++] = (u8)i;
	}
	agent.bin_uffd = uffd_open(UFFD_FEATURE_MOVE);
	if (agent.bin_uffd < 0)
		return agent.bin_uffd;
	err = uffd_register(agent.bin_uffd, (u64)window.bins, BINS * BIN_SIZE);
	return err ? err : uffd_register(agent.uffd, (u64)window.base, SEGMENTS * SEGMENT_SIZE);
}

static char *segment_get(void)
{
	char *at = NULL;

	spin_lock(&window.lock);
	if (window.nr_free)
		at = window.base + window.free[--window.nr_free] * SEGMENT_SIZE;
	spin_unlock(&window.lock);
	if (at) /* counted as full until we know better: who has it open gives the rest back */
		window.held[(at - window.base) / SEGMENT_SIZE] = MMU_BATCH;
	return at;
}

char *window_get(unsigned n)
{
	struct open_segment *open = &window.open[thread_self()->index];
	char *at;

	if (open->base && open->used + n > MMU_BATCH)
		window_close(thread_self()->index);
	if (!open->base) {
		open->base = segment_get();
		open->used = 0;
	}
	if (!open->base)
		return NULL;
	at = open->base + open->used * PAGE_SIZE;
	open->used += n;
	return at;
}

/* Holes are fine, and so is a segment that never held anything.  False: something stays in it. */
static bool move_to_bin(char *bin, char *segment)
{
	u64 at = 0, exclusive = ~0ULL;

	while (at < SEGMENT_SIZE) {
		s64 done = uffd_move(agent.bin_uffd, (u64)bin + at, (u64)segment + at,
				     SEGMENT_SIZE - at);

		if (done > 0) {
			at += (u64)done;
		} else if (done == -EBUSY && exclusive != at) {
			/* Shared with a forked child: a write makes it ours alone. */
			exclusive = at;
			sys(madvise, segment + at, PAGE_SIZE, MADV_POPULATE_WRITE);
		} else if (done == -EEXIST && !proc_has_page(agent.pagemap, (u64)segment + at)) {
			at += PAGE_SIZE; /* it went there uncounted: see uffd_move() */
		} else if (done != -EAGAIN) {
			return false;
		}
	}
	return true;
}

static void segment_empty(char *segment)
{
	unsigned t = thread_self()->index;
	char *bin = window.bins + t * BIN_SIZE;
	bool empty = move_to_bin(bin + window.binned[t] * SEGMENT_SIZE, segment);

	if (++window.binned[t] == BIN_SEGMENTS) {
		sys(madvise, bin, BIN_SIZE, MADV_DONTNEED);
		window.binned[t] = 0;
	}
	if (!empty) {
		agent_warn("a part of the agent's window could not be emptied");
		return;
	}
	spin_lock(&window.lock);
	window.free[window.nr_free++] = (u8)((u64)(segment - window.base) / SEGMENT_SIZE);
	spin_unlock(&window.lock);
}

void window_put(char *at, unsigned n)
{
	u64 i = (u64)(at - window.base) / SEGMENT_SIZE;

	if (n && atomic_fetch_sub(&window.held[i], n) == n)
		segment_empty(window.base + i * SEGMENT_SIZE);
}

bool window_holds(u64 where)
{
	return where - (u64)window.base < SEGMENTS * SEGMENT_SIZE;
}

void window_close(unsigned thread)
{
	struct open_segment open = window.open[thread];

	window.open[thread].base = NULL;
	if (open.base)
		window_put(open.base, MMU_BATCH - open.used);
}
