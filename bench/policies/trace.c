/* SPDX-License-Identifier: MIT */
#include "bench/policies/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

struct maker {
	struct trace *t;
	u64 room, rnd;
	u32 *mixed; /* the pages in some order */
};

static void *get(void *old, size_t bytes)
{
	void *p = realloc(old, bytes);

	if (!p) {
		perror("policies");
		exit(1);
	}
	return p;
}

/* xorshift64* */
static u64 next_random(struct maker *m)
{
	m->rnd ^= m->rnd >> 12;
	m->rnd ^= m->rnd << 25;
	m->rnd ^= m->rnd >> 27;
	return m->rnd * 0x2545f4914f6cdd1dULL;
}

static u32 below(struct maker *m, u32 n)
{
	return (next_random(m) >> 11) % n;
}

/* [0, 1) */
static double fraction(struct maker *m)
{
	return (double)(next_random(m) >> 11) / (double)(1ULL << 53);
}

static void emit(struct maker *m, u32 ref)
{
	struct trace *t = m->t;

	if (t->n == m->room) {
		m->room = m->room ? 2 * m->room : 4096;
		t->refs = get(t->refs, m->room * sizeof(*t->refs));
	}
	t->refs[t->n++] = ref;
}

static void mix(struct maker *m)
{
	for (u32 i = 0; i < m->t->pages; i++) {
		u32 j = below(m, i + 1);

		m->mixed[i] = m->mixed[j];
		m->mixed[j] = i;
	}
}

/* ---- the patterns ---- */

static void uniform(struct maker *m)
{
	struct trace *t = m->t;

	t->independent = true;
	for (u64 i = 0; i < 20ULL * t->pages; i++)
		emit(m, below(m, t->pages));
}

/* p[i] ~ 1 / (i + 1)^0.99 */
static void zipf(struct maker *m)
{
	struct trace *t = m->t;
	double *sum = get(NULL, t->pages * sizeof(*sum)), all = 0;

	t->independent = true;
	for (u32 i = 0; i < t->pages; i++)
		sum[i] = all += pow(i + 1, -0.99);
	for (u64 i = 0; i < 20ULL * t->pages; i++) {
		double at = fraction(m) * all;
		u32 from = 0, to = t->pages - 1;

		while (from < to) {
			u32 mid = (from + to) / 2;

			if (sum[mid] > at)
				to = mid;
			else
				from = mid + 1;
		}
		emit(m, m->mixed[from]);
	}
	free(sum);
}

static void loop(struct maker *m)
{
	m->t->looping = true;
	for (unsigned round = 0; round < 20; round++)
		for (u32 i = 0; i < m->t->pages; i++)
			emit(m, i);
}

/* A hot eighth, anonymous; when it has been used for a while a file is read beside it, once. */
static void scan(struct maker *m)
{
	u32 hot = m->t->anonymous;

	for (u32 i = 0; i < 16 * hot; i++)
		emit(m, below(m, hot));
	for (u32 i = hot; i < m->t->pages; i++) {
		emit(m, i);
		emit(m, below(m, hot) | TRACE_HOT);
	}
	for (u32 i = 0; i < 16 * hot; i++)
		emit(m, below(m, hot) | TRACE_HOT);
}

/* Twenty times a fifth of the pages, drawn anew each time; within a phase each is as likely. */
static void phases(struct maker *m)
{
	u32 set = m->t->pages / 5;

	m->t->draws = 20;
	m->t->drawn = set;
	for (unsigned phase = 0; phase < 20; phase++) {
		mix(m);
		for (u32 i = 0; i < 10 * set; i++)
			emit(m, m->mixed[below(m, set)]);
	}
}

static const struct {
	const char *name, *what;
	void (*make)(struct maker *m);
	unsigned anonymous; /* eighths */
} patterns[NR_PATTERNS] = {
	{ "uniform", "every page is as likely as any other", uniform, 8 },
	{ "zipf", "independent references, Zipf 0.99", zipf, 8 },
	{ "loop", "all pages in turn, again and again", loop, 8 },
	{ "scan", "a hot eighth, beside which a file is read once", scan, 1 },
	{ "phases", "twenty phases, each on a fifth of the pages", phases, 8 },
};

struct trace trace_make(unsigned pattern, u32 pages)
{
	struct trace t = { .name = patterns[pattern].name,
			   .what = patterns[pattern].what,
			   .pages = pages,
			   .anonymous = pages / 8 * patterns[pattern].anonymous };
	struct maker m = { .t = &t, .rnd = 0x9e3779b97f4a7c15ULL + pattern };

	m.mixed = get(NULL, pages * sizeof(*m.mixed));
	mix(&m);
	for (u32 i = 0; i < pages; i++)
		if (m.mixed[i] < t.anonymous)
			emit(&m, m.mixed[i]);
	mix(&m);
	patterns[pattern].make(&m);
	free(m.mixed);
	return t;
}

void trace_free(struct trace *t)
{
	free(t->refs);
}

/* ---- the optimum ---- */

/* Pages in memory, by when each is used next: the latest on top; with what has changed since. */
struct entry {
	u64 next;
	u32 page;
};

struct heap {
	struct entry *e;
	u64 n;
};

static void push(struct heap *h, struct entry new)
{
	u64 i = h->n++;

	for (; i && h->e[(i - 1) / 2].next < new.next; i = (i - 1) / 2)
		h->e[i] = h->e[(i - 1) / 2];
	h->e[i] = new;
}

static struct entry pop(struct heap *h)
{
	struct entry top = h->e[0], last = h->e[--h->n];
	u64 i = 0, child;

	while ((child = 2 * i + 1) < h->n) {
		if (child + 1 < h->n && h->e[child + 1].next > h->e[child].next)
			child++;
		if (h->e[child].next <= last.next)
			break;
		h->e[i] = h->e[child];
		i = child;
	}
	h->e[i] = last;
	return top;
}

/* When the page of each reference is used again; t->n: never. */
static u64 *next_uses(const struct trace *t)
{
	u64 *next = get(NULL, t->n * sizeof(*next)), *seen = get(NULL, t->pages * sizeof(*seen));

	for (u32 i = 0; i < t->pages; i++)
		seen[i] = t->n;
	for (u64 i = t->n; i--;) {
		u32 page = t->refs[i] & ~TRACE_HOT;

		next[i] = seen[page];
		seen[page] = i;
	}
	free(seen);
	return next;
}

u64 trace_optimum(const struct trace *t, u32 frames)
{
	u64 *next = next_uses(t), *when = get(NULL, t->pages * sizeof(*when)), misses = 0;
	struct heap h = { .e = get(NULL, t->n * sizeof(*h.e)) };
	u32 used = 0;

	/* when[page]: its next use if it is in memory, else 0 (nothing comes before the first). */
	memset(when, 0, t->pages * sizeof(*when));
	for (u64 i = 0; i < t->n; i++) {
		u32 page = t->refs[i] & ~TRACE_HOT;

		if (!when[page]) {
			misses += i >= t->anonymous;
			while (used == frames) {
				struct entry e = pop(&h);

				if (when[e.page] == e.next) {
					when[e.page] = 0;
					used--;
				}
			}
			used++;
		}
		when[page] = next[i];
		push(&h, (struct entry){ next[i], page });
	}
	free(next);
	free(when);
	free(h.e);
	return misses;
}

/* Of the pages in memory the one used least often, of these the one used the longest ago. */
static u32 least_used(const struct trace *t, const u32 *uses, const u64 *last, const bool *in)
{
	u32 found = t->pages;

	for (u32 i = 0; i < t->pages; i++) {
		if (!in[i])
			continue;
		if (found == t->pages || uses[i] < uses[found] ||
		    (uses[i] == uses[found] && last[i] < last[found]))
			found = i;
	}
	return found;
}

static u64 most_often_used(const struct trace *t, u32 frames)
{
	u32 *uses = get(NULL, t->pages * sizeof(*uses)), used = 0;
	u64 *last = get(NULL, t->pages * sizeof(*last)), misses = 0;
	bool *in = get(NULL, t->pages * sizeof(*in));

	memset(uses, 0, t->pages * sizeof(*uses));
	memset(in, 0, t->pages * sizeof(*in));
	for (u64 i = 0; i < t->n; i++) {
		u32 page = t->refs[i] & ~TRACE_HOT;

		if (!in[page]) {
			misses += i >= t->anonymous;
			if (used == frames)
				in[least_used(t, uses, last, in)] = false;
			else
				used++;
			in[page] = true;
		}
		uses[page]++;
		last[page] = i;
	}
	free(uses);
	free(last);
	free(in);
	return misses;
}

u64 trace_blind(const struct trace *t, u32 frames)
{
	if (t->independent)
		return most_often_used(t, frames);
	return (u64)t->draws * t->drawn * (t->pages - frames) / t->pages;
}
