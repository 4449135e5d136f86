/* SPDX-License-Identifier: MIT */
/* A mark in each page, by its number: none is taken for another. */
#ifndef VMF_TESTS_MARKS_H
#define VMF_TESTS_MARKS_H

#include "tests/unit/one_world.h"

static inline u8 mark_of(unsigned page)
{
	return (u8)(page * 31 + 7);
}

/* In each page of [page, page + n). */
static inline void fill(unsigned page, unsigned n)
{
	for (unsigned i = page; i < page + n; i++)
		put(i, mark_of(i));
}

static inline void assert_filled(unsigned page, unsigned n)
{
	for (unsigned i = page; i < page + n; i++)
		assert_int_equal(get(i), mark_of(i));
}

#endif
