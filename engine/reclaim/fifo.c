/* SPDX-License-Identifier: MIT */
/*
 * First in, first out: one list, and nobody asks what is used.  The yardstick for what the others
 * make of knowing it; there are patterns that miss more with more memory (Belady 1969).
 */
#include "engine/reclaim/internal.h"

#define QUEUE 0

static void fifo_init(struct lruvec *v)
{
	lru_set_joinable(v, 1u << QUEUE);
}

static unsigned fifo_place(struct lruvec *v, struct page *page, enum page_arrival why)
{
	(void)v, (void)page, (void)why;
	return QUEUE;
}

static void fifo_used(struct lruvec *v, struct page *page)
{
	(void)v, (void)page;
}

static struct page *fifo_next(struct lruvec *v, struct page *after)
{
	return lru_from_tail(v, QUEUE, after);
}

static bool fifo_refault_is_hot(struct lruvec *v, u64 shadow)
{
	(void)v, (void)shadow;
	return false;
}

const struct reclaim_policy policy_fifo = {
	.name = "fifo",
	.init = fifo_init,
	.place = fifo_place,
	.young = fifo_used,
	.accessed = fifo_used,
	.next = fifo_next,
	.refault_is_hot = fifo_refault_is_hot,
};
