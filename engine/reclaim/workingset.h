/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of pages that are out: a number for each, its shadow.
 *
 * It is left where the page is looked for when it is wanted again: in its swap slot (anonymous
 * pages and shared memory), or in its place in the file's tree.  It tells what time it was when the
 * page went, in pages that were evicted (the nonresident age); so when the page comes back it tells
 * how many others of its node went meanwhile, the refault distance.  With so much more memory it
 * would have stayed: if the pages that are active are as many, it has as good a right to be there
 * as they have, and comes back active; they will have to show that they are still in use.
 *
 * The idea is Johannes Weiner's (Linux, mm/workingset.c).
 */
#ifndef VMF_RECLAIM_WORKINGSET_H
#define VMF_RECLAIM_WORKINGSET_H

#include "engine/base/types.h"

struct engine;
struct lruvec;
struct page;

/* The page is evicted now.  Its shadow: not 0, below 2^63. */
u64 workingset_eviction(struct engine *e, const struct page *page);
/* The page, which is on no list yet, was asked for again and had this shadow; 0: none.  It gets
 * PG_WORKINGSET if it was hot. */
void workingset_refault(struct engine *e, struct page *page, u64 shadow);
/* Pages of the node evicted since its age was that; a policy that remembers the age asks. */
u64 workingset_distance(const struct lruvec *v, u64 age);

#endif
