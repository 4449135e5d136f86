/* SPDX-License-Identifier: MIT */
/* What every unit test includes: cmocka, and a random generator that gives the same everywhere. */
#ifndef VMF_TESTS_UNIT_H
#define VMF_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* xorshift64*; the seed is not 0. */
static inline uint64_t rnd_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* 0 .. n - 1 */
static inline uint64_t rnd_below(uint64_t *state, uint64_t n)
{
	return (rnd_next(state) >> 11) % n;
}

#endif
