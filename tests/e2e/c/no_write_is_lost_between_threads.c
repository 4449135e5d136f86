/* SPDX-License-Identifier: MIT */
/* Rule: threads that add to counters all over evicted memory lose no addition, atomic or in a word
 * of their own. */
#include "check.h"

#define THREADS 8

static size_t pages;
static uint64_t (*table)[PAGE / 8];
static uint64_t rounds;

static void *adder(void *argument)
{
	size_t which = (size_t)argument;

	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t *page = table[mix(i * THREADS + which) % pages];

		__atomic_fetch_add(&page[0], 1, __ATOMIC_RELAXED);
		page[1 + which]++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	uint64_t total = 0, own[THREADS] = { 0 };
	pthread_t threads[THREADS];

	pages = size / PAGE;
	rounds = pages * 2;
	table = map(size);
	for (size_t i = 0; i < pages; i++)
		for (size_t j = 64; j < PAGE / 8; j++)
			table[i][j] = mix(i * 512 + j);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, adder, (void *)i) == 0);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	for (size_t i = 0; i < pages; i++) {
		total += table[i][0];
		for (size_t j = 0; j < THREADS; j++)
			own[j] += table[i][1 + j];
		for (size_t j = 64; j < PAGE / 8; j++)
			EXPECT(table[i][j] == mix(i * 512 + j));
	}
	EXPECT(total == rounds * THREADS);
	for (size_t j = 0; j < THREADS; j++)
		EXPECT(own[j] == rounds);
	return passed();
}
