/* SPDX-License-Identifier: MIT */
#include "machine/linux/window.h"
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/uffd_abi.h"

#include <sys/mman.h>

#define SEGMENTS WINDOW_SEGMENTS
#define BINS	 (MAX_HANDLERS + 1) /* one a thread */

static struct {
	char *base, *bins;
	spinlock_t lock; /* guards free and nr_free */
	u8 free[SEGMENTS];
	unsigned nr_free;
	_Atomic u32 held[SEGMENTS]; /* pages in it */
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
		window.bins = segments_alloc(BINS);
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
	err = uffd_register(agent.bin_uffd, (u64)window.bins, BINS * SEGMENT_SIZE);
	return err ? err : uffd_register(agent.uffd, (u64)window.base, SEGMENTS * SEGMENT_SIZE);
}

char *window_get(void)
{
	char *at = NULL;

	spin_lock(&window.lock);
	if (window.nr_free)
		at = window.base + window.free[--window.nr_free] * SEGMENT_SIZE;
	spin_unlock(&window.lock);
	if (at) /* counted as full until we know better: the caller gives the rest back */
		window.held[(at - window.base) / SEGMENT_SIZE] = MMU_BATCH;
	return at;
}

/* Holes are fine, and so is a segment that never held anything. */
static void segment_empty(char *segment)
{
	char *bin = window.bins + thread_self()->index * SEGMENT_SIZE;
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
		} else if (done != -EAGAIN) {
			break;
		}
	}
	sys(madvise, bin, SEGMENT_SIZE, MADV_DONTNEED);
	if (at < SEGMENT_SIZE) {
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
