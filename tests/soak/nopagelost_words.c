/* SPDX-License-Identifier: MIT */
/* A process's pages: the words that it must find in each, and what a signal means. */
#include "tests/soak/nopagelost.h"

enum { BUS_TRIES = 50 };
#define GIVEN 0xffffffffu /* by the monitor */

u32 fresh_version(unsigned page)
{
	return with.userfault && page >= SERVED_FIRST && !(page & 1) ? GIVEN : 0;
}

u64 va_of(const struct worker *k, unsigned page)
{
	if (page < HUGE_FIRST)
		return OWN + P(page);
	if (page >= SERVED_FIRST)
		return SERVED + P(page - SERVED_FIRST);
	page -= HUGE_FIRST;
	return k->range_at[page / HUGE_PAGES] + P(page % HUGE_PAGES);
}

unsigned any_page(struct worker *k)
{
	for (;;) {
		unsigned page = rnd_below(&k->rnd, ALL_PAGES);

		/* The single ones are few, and asked for as often as the others. */
		if (rnd_below(&k->rnd, 2))
			page = rnd_below(&k->rnd, OWN_PAGES);
		if (page >= SERVED_FIRST ? k->served != NULL : page < HUGE_FIRST || with.thp)
			return page;
	}
}

void make_words(const struct worker *k, unsigned page, u32 version, u64 *words, unsigned n)
{
	u64 x = ((u64)k->number << 56 | (u64)page << 32 | version) * 0x9e3779b97f4a7c15ULL;

	if (!version)
		memset(words, 0, n * sizeof(*words));
	for (unsigned i = 0; version && i < n; i++)
		words[i] = x + i * 0x0101010101010101ULL;
}

void forget(struct worker *k, unsigned page, unsigned n)
{
	for (unsigned i = page; i < page + n; i++)
		k->version[i] = fresh_version(i);
}

enum end must(struct worker *k, bool ok, const char *what, s64 result)
{
	if (ok)
		return DONE;
	if (!mm_is_oom_victim(k->mm))
		DIE(k, "%s: %ld", what, (long)result);
	return KILLED;
}

/* As the signals say: the process is dead, or the page is not to be had. */
static enum end end_of(struct worker *k, enum fault_reason reason, const char *what, u64 va)
{
	if (reason == FAULT_OK)
		return DONE;
	if (reason == FAULT_KILLED)
		return KILLED;
	if (reason != FAULT_BUS || !atomic_load(&failed_loads))
		DIE(k, "%s at %lx: reason %d", what, (unsigned long)va, reason);
	k->buses++;
	return LOST;
}

enum end check_words(struct worker *k, u64 va, unsigned page, u32 version, unsigned n)
{
	u64 got[PAGE_SIZE / 8], want[PAGE_SIZE / 8];
	enum end end = end_of(k, soft_read(k->cpu, va, got, n * 8), "read", va);

	if (end != DONE)
		return end;
	make_words(k, page, version, want, n);
	for (unsigned i = 0; i < n; i++)
		if (got[i] != want[i])
			DIE(k, "page %u%s, word %u at %lx: %lx, not %lx (version %u)", page,
			    k->is_child ? " of a child" : "", i, (unsigned long)va,
			    (unsigned long)got[i], (unsigned long)want[i], version);
	k->reads++;
	return DONE;
}

enum end write_words(struct worker *k, u64 va, unsigned page, u32 *version, unsigned n)
{
	u64 words[PAGE_SIZE / 8];
	u32 next = *version == GIVEN ? 1 : *version + 1;
	enum end end;

	make_words(k, page, next, words, n);
	end = end_of(k, soft_write(k->cpu, va, words, n * 8), "write", va);
	if (end == DONE) {
		*version = next;
		k->writes++;
	}
	return end;
}

/* Memory that the store has lost for good is given up. */
static void give_up(struct worker *k, unsigned page)
{
	s64 err = do_madvise(k->mm, va_of(k, page), PAGE_SIZE, UAPI_MADV_DONTNEED);

	must(k, !err, "a lost page cannot be given up", err);
	forget(k, page, 1);
	k->lost++;
}

enum end own_page(struct worker *k, unsigned page, bool write)
{
	u64 va = va_of(k, page);
	enum end end = LOST;

	for (unsigned i = 0; i < BUS_TRIES && end == LOST; i++) {
		end = check_words(k, va, page, k->version[page], PAGE_SIZE / 8);
		if (end == DONE && write)
			end = write_words(k, va, page, &k->version[page], PAGE_SIZE / 8);
	}
	if (end == LOST)
		give_up(k, page);
	return end;
}

u64 shared_offset(const struct worker *k, unsigned f, unsigned page)
{
	/* Some of each huge page. */
	u64 at = f == POOL_FILE ? P((u64)page * (2 * HUGE_PAGES / SHARED_PAGES)) : P(page);

	return at + k->number * PIECE;
}

enum end shared_page(struct worker *k, unsigned f, unsigned page, bool write)
{
	u64 va = SHARED(f) + shared_offset(k, f, page);
	unsigned name = 10000 * (f + 1) + page;
	enum end end = check_words(k, va, name, k->shared[f][page], PIECE / 8);

	if (end == DONE && write)
		end = write_words(k, va, name, &k->shared[f][page], PIECE / 8);
	return end;
}

enum end check_all(struct worker *k)
{
	unsigned last = k->served ? ALL_PAGES : with.thp ? SERVED_FIRST : HUGE_FIRST;
	enum end end = DONE;

	for (unsigned page = 0; page < last && end != KILLED; page++)
		if (with.thp || page < HUGE_FIRST || page >= SERVED_FIRST)
			end = own_page(k, page, false);
	for (unsigned page = 0; page < FILES * SHARED_PAGES && end != KILLED; page++)
		if (files[page % FILES])
			end = shared_page(k, page % FILES, page / FILES, false);
	return end;
}

void be_child(struct worker *child, const struct worker *k, struct mm *mm)
{
	*child = *k;
	child->mm = mm;
	child->is_child = true;
	child->served = NULL;
	soft_load_mm(k->cpu, mm);
}
