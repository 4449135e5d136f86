/* SPDX-License-Identifier: MIT */
/* Huge pages of the one world, with a mark in each of their pages. */
#ifndef VMF_TESTS_HUGE_MARKS_H
#define VMF_TESTS_HUGE_MARKS_H

#include "engine/space/huge.h"
#include "tests/unit/marks.h"

/* The entry of the table that has the huge ones; none: there is no such table. */
static inline pte_t pmd_at(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *pmdp = pmd_find(of, AT(page), &ptl);

	return pmdp ? pte_read(pmdp) : (pte_t){ 0 };
}

static inline bool is_huge(unsigned page)
{
	return pmd_is_huge(pmd_at(mm, page));
}

#endif
