/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: some ranges of each process that may be huge, which it fills, drops, cuts, protects,
 * moves and has collapsed, while others reclaim, split, collapse and migrate them.
 */
#include "tests/soak/nopagelost.h"

_Atomic bool plenty;

void map_ranges(struct worker *k)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	for (unsigned range = 0; range < RANGES; range++) {
		u64 at = RANGE_PLACE(range, 0);

		if (do_mmap(k->mm, at, PMD_SIZE, RW, flags, NULL, 0) != (s64)at)
			DIE(k, "it has no range");
		k->range_at[range] = at;
		k->range_place[range] = 0;
	}
}

struct stretch {
	unsigned page, n;
	u64 va;
};

/* Of one range; now and then all of it. */
static struct stretch any_stretch(struct worker *k, unsigned most)
{
	unsigned range = rnd_below(&k->rnd, RANGES), at = rnd_below(&k->rnd, HUGE_PAGES);
	struct stretch s = { .n = 1 + rnd_below(&k->rnd, min_of(HUGE_PAGES - at, most)) };

	if (!rnd_below(&k->rnd, 8) && most == HUGE_PAGES) {
		at = 0;
		s.n = HUGE_PAGES;
	}
	s.page = HUGE_FIRST + range * HUGE_PAGES + at;
	s.va = va_of(k, s.page);
	return s;
}

static enum end fill(struct worker *k)
{
	struct stretch s = any_stretch(k, HUGE_PAGES);
	enum end end = DONE;

	for (unsigned i = 0; i < s.n && end != KILLED; i++)
		end = own_page(k, s.page + i, true);
	return end;
}

static enum end drop_stretch(struct worker *k, struct stretch s)
{
	s64 err = do_madvise(k->mm, s.va, P(s.n), UAPI_MADV_DONTNEED);

	forget(k, s.page, s.n);
	k->drops++;
	return must(k, !err, "dropping of a range", err);
}

static enum end drop(struct worker *k)
{
	return drop_stretch(k, any_stretch(k, HUGE_PAGES));
}

/* All of a range goes, and comes back with its next write: huge, if there is memory. */
static enum end renew(struct worker *k)
{
	unsigned page = HUGE_FIRST + rnd_below(&k->rnd, RANGES) * HUGE_PAGES;
	enum end end = drop_stretch(k, (struct stretch){ page, HUGE_PAGES, va_of(k, page) });

	if (end == DONE)
		end = own_page(k, page + rnd_below(&k->rnd, HUGE_PAGES), true);
	return end;
}

/* What is written after MADV_FREE stays. */
static enum end free_and_write(struct worker *k)
{
	struct stretch s = any_stretch(k, 16);
	s64 err = do_madvise(k->mm, s.va, P(s.n), UAPI_MADV_FREE);
	enum end end = must(k, !err, "freeing of a range", err);

	for (unsigned i = 0; i < s.n && end != KILLED; i++) {
		u32 *version = &k->version[s.page + i];

		end = write_words(k, s.va + P(i), s.page + i, version, PAGE_SIZE / 8);
		if (end == LOST)
			err = do_madvise(k->mm, s.va + P(i), PAGE_SIZE, UAPI_MADV_DONTNEED);
		if (end == LOST)
			forget(k, s.page + i, 1);
	}
	return end;
}

/* A hole, and new memory in its place. */
static enum end cut_out(struct worker *k)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;
	struct stretch s = any_stretch(k, HUGE_PAGES);
	s64 err = vm_unmap(k->mm, s.va, P(s.n));
	u8 byte;

	if (must(k, !err, "unmapping of a range", err) == KILLED)
		return KILLED;
	if (soft_read_byte(k->cpu, s.va, &byte) == FAULT_OK)
		DIE(k, "what was unmapped can be read");
	err = do_mmap(k->mm, s.va, P(s.n), RW, flags, NULL, 0);
	forget(k, s.page, s.n);
	return must(k, err == (s64)s.va, "mapping of a range", err);
}

static enum end protect(struct worker *k)
{
	struct stretch s = any_stretch(k, HUGE_PAGES);
	unsigned page = s.page + rnd_below(&k->rnd, s.n);
	enum fault_reason reason;
	enum end end;
	s64 err = do_mprotect(k->mm, s.va, P(s.n), UAPI_PROT_READ);

	if (must(k, !err, "protecting of a range", err) == KILLED)
		return KILLED;
	end = own_page(k, page, false);
	reason = soft_write_byte(k->cpu, va_of(k, page), 0x77);
	if (reason == FAULT_OK)
		DIE(k, "what is protected can be written, page %u", page);
	k->refused += reason == FAULT_ACCERR;
	err = do_mprotect(k->mm, s.va, P(s.n), RW);
	return must(k, !err, "unprotecting of a range", err) == KILLED ? KILLED : end;
}

/* To another place, where it may or may not be huge. */
static enum end move(struct worker *k)
{
	unsigned range = rnd_below(&k->rnd, RANGES);
	unsigned n = (k->range_place[range] + 1 + rnd_below(&k->rnd, PLACES - 1)) % PLACES;
	u64 to = RANGE_PLACE(range, n) + (rnd_below(&k->rnd, 2) ? P(rnd_below(&k->rnd, 9)) : 0);
	s64 at;

	/* Areas that are watched move one by one only. */
	if (k->served && !range)
		watch(k, k->range_at[0], PMD_SIZE, false);
	at = do_mremap(k->mm, k->range_at[range], PMD_SIZE, PMD_SIZE,
		       UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, to);

	if (must(k, at == (s64)to, "moving of a range", at) == KILLED)
		return KILLED;
	k->range_at[range] = to;
	k->range_place[range] = n;
	k->remapped++;
	return DONE;
}

/* The same by a monitor's means, by huge pages where there are any. */
static enum end move_without_a_copy(struct worker *k)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;
	unsigned range = 1 + rnd_below(&k->rnd, RANGES - 1),
		 n = (k->range_place[range] + 1) % PLACES;
	u64 from = k->range_at[range], to = RANGE_PLACE(range, n);
	s64 err = do_mmap(k->mm, to, PMD_SIZE, RW, flags, NULL, 0);

	if (must(k, err == (s64)to, "mapping a range", err) == KILLED)
		return KILLED;
	if (move_range(k, to, from, PMD_SIZE)) {
		k->range_at[range] = to;
		k->range_place[range] = n;
		to = from;
	}
	err = vm_unmap(k->mm, to, PMD_SIZE);
	return must(k, !err, "unmapping where a range was", err);
}

/* The first range, or a stretch of it. */
static void be_watched(struct worker *k)
{
	unsigned at = rnd_below(&k->rnd, HUGE_PAGES), n = 1 + rnd_below(&k->rnd, HUGE_PAGES - at);

	switch (rnd_below(&k->rnd, 6)) {
	case 0:
	case 1:
		watch(k, k->range_at[0], PMD_SIZE, true);
		break;
	case 2:
		watch(k, k->range_at[0], PMD_SIZE, false);
		break;
	case 3:
		write_protect(k, k->range_at[0], PMD_SIZE);
		break;
	default:
		write_protect(k, k->range_at[0] + P(at), P(n));
	}
}

static enum end advise(struct worker *k, u32 advice)
{
	struct stretch s = any_stretch(k, HUGE_PAGES);
	s64 err = do_madvise(k->mm, s.va, P(s.n), advice);

	k->advised++;
	return must(k, !err, "advice on a range", err);
}

/* Whether it can be done is for others to say. */
static void collapse(struct worker *k)
{
	u64 at = k->range_at[rnd_below(&k->rnd, RANGES)];

	k->collapsed += !do_madvise(k->mm, at, PMD_SIZE, UAPI_MADV_COLLAPSE);
}

enum end operate_on_ranges(struct worker *k)
{
	if (atomic_load(&plenty) && !rnd_below(&k->rnd, 4))
		return renew(k);
	switch (rnd_below(&k->rnd, 24)) {
	case 0:
	case 1:
		return fill(k);
	case 2:
		return drop(k);
	case 3:
		return free_and_write(k);
	case 4:
		return cut_out(k);
	case 5:
	case 6:
		return protect(k);
	case 7:
		return move(k);
	case 8:
		return advise(k, UAPI_MADV_PAGEOUT);
	case 9:
		return advise(k, UAPI_MADV_COLD);
	case 10:
		return advise(k, rnd_below(&k->rnd, 3) ? UAPI_MADV_HUGEPAGE : UAPI_MADV_NOHUGEPAGE);
	case 11:
	case 12:
		collapse(k);
		return DONE;
	case 13:
		if (k->served)
			be_watched(k);
		return DONE;
	case 14:
		return k->served ? move_without_a_copy(k) : DONE;
	default:
		return own_page(k, HUGE_FIRST + rnd_below(&k->rnd, RANGES * HUGE_PAGES),
				rnd_below(&k->rnd, 2));
	}
}
