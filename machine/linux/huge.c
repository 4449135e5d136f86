/* SPDX-License-Identifier: MIT */
#include "machine/linux/huge.h"

#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/sys.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* With HUGE_LOOK_PAGES it never takes much of a CPU: to put one together is to copy 2 MiB. */
#define LOOK_EVERY_NS (50 * 1000 * 1000ULL)

/* Two bits for each 2 MiB of the program's addresses; 16 MiB of them, which are hardly ever
 * touched. */
enum { SEEN_FULL = 1, IS_HUGE = 2, STATE = SEEN_FULL | IS_HUGE };
#define PLACES	    (USER_END >> PMD_SHIFT)
#define PLACES_WORD 32
#define STATE_WORDS (PLACES / PLACES_WORD + 1)

static struct {
	_Atomic u64 *state; /* NULL: none are made */
	u64 looked_at;
} huge;

static _Atomic u64 *word_of(u64 va, unsigned *shift)
{
	u64 place = va >> PMD_SHIFT;

	*shift = 2 * (unsigned)(place % PLACES_WORD);
	return &huge.state[place / PLACES_WORD];
}

int huge_init(void)
{
	if (!agent.options.keep_huge)
		return 0;
	huge.state = arena_alloc(STATE_WORDS * sizeof(*huge.state));
	return huge.state ? 0 : -ENOMEM;
}

bool huge_is_due(u64 now)
{
	if (!huge.state || now - huge.looked_at < LOOK_EVERY_NS)
		return false;
	huge.looked_at = now;
	return true;
}

int huge_collapse(struct mm *mm, u64 va)
{
	unsigned shift;
	_Atomic u64 *word = word_of(va, &shift);
	u64 before = atomic_fetch_or(word, (u64)SEEN_FULL << shift) >> shift;

	(void)mm;
	if (before & IS_HUGE)
		return -EEXIST;
	if (!(before & SEEN_FULL))
		return -EAGAIN;
	if (sys(madvise, va, PMD_SIZE, MADV_COLLAPSE) < 0)
		return -EAGAIN;
	atomic_fetch_or(word, (u64)IS_HUGE << shift);
	return 0;
}

void huge_broken(u64 va)
{
	unsigned shift;
	_Atomic u64 *word;

	if (likely(!huge.state))
		return;
	word = word_of(va, &shift);
	if (!(atomic_load_explicit(word, memory_order_relaxed) >> shift & STATE))
		return;
	if (atomic_fetch_and(word, ~((u64)STATE << shift)) >> shift & IS_HUGE)
		stat_add(&agent.engine.stats->thp_split, 1);
}
