/* SPDX-License-Identifier: MIT */
/*
 * CLOCK (Corbato 1968): pages in a circle and a hand that passes by those used since it came last.
 *
 * The circle is a list that turns instead of the hand: what the hand points to is the tail, a page
 * that is passed goes to the head, and new pages come in there, just behind the hand.  A page's
 * reference bit is its entries' accessed bits (the caller of young() has reset them) and, for use
 * by calls, PG_REFERENCED.
 */
#include "engine/reclaim/internal.h"

#define CIRCLE 0

static void clock_init(struct lruvec *v)
{
	lru_set_joinable(v, 1u << CIRCLE);
}

static unsigned clock_place(struct lruvec *v, struct page *page, enum page_arrival why)
{
	(void)v, (void)page, (void)why;
	return CIRCLE;
}

static void clock_young(struct lruvec *v, struct page *page)
{
	lru_move(v, page, CIRCLE);
}

static void clock_accessed(struct lruvec *v, struct page *page)
{
	(void)v, (void)page; /* PG_REFERENCED is all that there is to know */
}

static struct page *clock_next(struct lruvec *v, struct page *after)
{
	struct page *page = lru_from_tail(v, CIRCLE, after);

	/* Once around at most, for each page passed has lost its bit. */
	while (!after && page && page_test_clear(page, PG_REFERENCED)) {
		lru_move(v, page, CIRCLE);
		page = lru_from_tail(v, CIRCLE, NULL);
	}
	return page;
}

static bool clock_refault_is_hot(struct lruvec *v, u64 shadow)
{
	(void)v, (void)shadow;
	return false;
}

const struct reclaim_policy policy_clock = {
	.name = "clock",
	.spares_young = true,
	.init = clock_init,
	.place = clock_place,
	.young = clock_young,
	.accessed = clock_accessed,
	.next = clock_next,
	.refault_is_hot = clock_refault_is_hot,
};
