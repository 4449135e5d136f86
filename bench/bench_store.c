/* SPDX-License-Identifier: MIT */
/*
 * What one page costs the memory store: ns for save, load, same and drop, by kind of page.
 * `bench_store [ROUNDS]`: medians of so many rounds (5) over 4096 pages each,
 * one thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stores/memory.h"

enum { N = 4096, BATCH = 64, MAX_ROUNDS = 99 };

static void *plain_alloc(void *ctx, u64 bytes)
{
	void *p = NULL;

	(void)ctx;
	if (posix_memalign(&p, 64, bytes))
		return NULL;
	return memset(p, 0, bytes);
}

static void plain_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	(void)bytes;
	free(p);
}

static const struct engine_memory memory = { .alloc = plain_alloc, .free = plain_free };

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static u64 next_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- pages ---- */

static void zeros(u8 *page, u64 *seed)
{
	(void)seed;
	memset(page, 0, PAGE_SIZE);
}

/* Words of a few hundred, in random order. */
static void text(u8 *page, u64 *seed)
{
	unsigned at = 0;

	while (at < PAGE_SIZE) {
		u64 word = next_random(seed) % 300;
		u64 letters = (word + 1) * 0x9e3779b97f4a7c15ull;

		for (unsigned n = 2 + word % 8; n > 0 && at < PAGE_SIZE; n--, letters >>= 5)
			page[at++] = 'a' + letters % 26;
		if (at < PAGE_SIZE)
			page[at++] = ' ';
	}
}

/* What a heap of small objects looks like: pointers near one another, small numbers. */
static void heap(u8 *page, u64 *seed)
{
	u64 *words = (u64 *)page;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i += 4) {
		words[i] = 1 + next_random(seed) % 3;
		words[i + 1] = 0x00007f12a4c51b20ull;
		words[i + 2] = 0x00007f1280000000ull + next_random(seed) % (64 << 20) / 16 * 16;
		words[i + 3] = next_random(seed) % 100000;
	}
}

static void half_random(u8 *page, u64 *seed)
{
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		((u64 *)page)[i] = i < PAGE_SIZE / 16 ? next_random(seed) : 0x2020202020202020ull;
}

static void random_bytes(u8 *page, u64 *seed)
{
	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		((u64 *)page)[i] = next_random(seed);
}

static const struct {
	const char *name;
	void (*make)(u8 *page, u64 *seed);
} kinds_of_page[] = {
	{ "zero", zeros },	    { "text", text },
	{ "heap", heap },	    { "half random", half_random },
	{ "random", random_bytes },
};

/* ---- measuring ---- */

enum { SAVE, LOAD, SAME, DROP, NR_CALLS };

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The store is full of the pages before and after; they are dropped and saved again a few at a
 * time, as a program that is paged does it, so that room is reused and not fetched from the
 * machine. */
static void one_round(struct store *s, const u8 *pages, double *ns[NR_CALLS], unsigned round)
{
	static u8 back[PAGE_SIZE];
	double spent[NR_CALLS] = { 0 }, t;
	unsigned wrong = 0;

	t = now_ns();
	for (unsigned i = 0; i < N; i++)
		wrong += s->ops->load(s, i * 1021 % N, back) != 0;
	spent[LOAD] = now_ns() - t;
	t = now_ns();
	for (unsigned i = 0; i < N; i++)
		wrong += !s->ops->same(s, i, pages + i * PAGE_SIZE);
	spent[SAME] = now_ns() - t;
	for (unsigned first = 0; first < N; first += BATCH) {
		t = now_ns();
		for (unsigned i = first; i < first + BATCH; i++)
			s->ops->drop(s, i);
		spent[DROP] += now_ns() - t;
		t = now_ns();
		for (unsigned i = first; i < first + BATCH; i++)
			wrong += s->ops->save(s, i, pages + i * PAGE_SIZE) < 0;
		spent[SAVE] += now_ns() - t;
	}
	for (unsigned c = 0; c < NR_CALLS; c++)
		ns[c][round] = spent[c] / N;
	if (wrong)
		printf("%u calls failed\n", wrong);
}

static void measure(enum compression how, unsigned kind, const u8 *pages, unsigned rounds)
{
	static double room[NR_CALLS][MAX_ROUNDS];
	double *ns[NR_CALLS] = { room[SAVE], room[LOAD], room[SAME], room[DROP] };
	struct store *s;
	double share;

	if (memory_store_create(&memory, how, N, 0, 1, &s))
		exit(1);
	for (unsigned i = 0; i < N; i++)
		s->ops->save(s, i, pages + i * PAGE_SIZE);
	share = (double)s->stats.stored_bytes / s->stats.raw_bytes;
	for (unsigned r = 0; r < rounds; r++)
		one_round(s, pages, ns, r);
	for (unsigned c = 0; c < NR_CALLS; c++)
		qsort(ns[c], rounds, sizeof(double), by_value);
	printf("%-5s %-12s %8.0f %8.0f %8.0f %8.0f %9.2f\n", s->ops->kind, kinds_of_page[kind].name,
	       ns[SAVE][rounds / 2], ns[LOAD][rounds / 2], ns[SAME][rounds / 2],
	       ns[DROP][rounds / 2], share);
	memory_store_destroy(s);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? atoi(argv[1]) : 5;
	u8 *pages = aligned_alloc(PAGE_SIZE, N * PAGE_SIZE);
	u64 seed = 88172645463325252ull;

	if (!pages || rounds < 1 || rounds > MAX_ROUNDS)
		return 1;
	printf("kind  page         save, ns     load     same     drop  stored/raw\n");
	for (unsigned k = 0; k < ARRAY_SIZE(kinds_of_page); k++) {
		for (unsigned i = 0; i < N; i++)
			kinds_of_page[k].make(pages + i * PAGE_SIZE, &seed);
		measure(COMPRESS_LZ4, k, pages, rounds);
		measure(COMPRESS_ZSTD, k, pages, rounds);
		measure(COMPRESS_NONE, k, pages, rounds);
	}
	free(pages);
	return 0;
}
