/* SPDX-License-Identifier: MIT */
/* Rule: blocks of many sizes from malloc, calloc and realloc keep their contents while others come
 * and go. */
#include "check.h"

struct block {
	uint64_t *p;
	size_t words;
	uint64_t seed;
};

static void put(struct block *b, size_t from)
{
	for (size_t i = from; i < b->words; i++)
		b->p[i] = i % 2 ? b->seed : mix(b->seed + i);
}

static void look(struct block *b, size_t words)
{
	for (size_t i = 0; i < words; i++)
		EXPECT(b->p[i] == (i % 2 ? b->seed : mix(b->seed + i)));
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), most = 4096, have = 0;
	struct block *blocks = calloc(most, sizeof(*blocks));
	uint64_t x = 1;

	EXPECT(blocks);
	for (size_t step = 0; step < 30000; step++) {
		struct block *b = &blocks[(x = mix(x + step)) % most];
		size_t words = (x >> 20) % 64 ? (x >> 32) % 2000 : (x >> 32) % 100000;

		if (b->p && (x >> 10) % 4 == 0) {
			size_t kept = words < b->words ? words : b->words;

			if (!words)
				continue;
			b->p = realloc(b->p, words * 8);
			EXPECT(b->p);
			look(b, kept);
			have += words - b->words;
			b->words = words;
			put(b, kept);
			continue;
		}
		if (b->p) {
			look(b, b->words);
			free(b->p);
			have -= b->words;
		}
		*b = (struct block){ 0 };
		if (have * 8 > size)
			continue;
		b->p = x % 2 ? malloc(words * 8 + 8) : calloc(words + 1, 8);
		EXPECT(b->p);
		b->words = words;
		b->seed = x;
		have += words;
		put(b, 0);
	}
	for (size_t i = 0; i < most; i++)
		look(&blocks[i], blocks[i].words);
	return passed();
}
