/* SPDX-License-Identifier: MIT */
/*
 * Eight CPUs on real threads do everything at once, in three spaces that they share, with next to
 * no memory; now and then all stop, and every invariant and every byte that is known is checked.
 *
 *   threads [--seconds N] [--seed S]
 *
 * Each thread has one word of each page, at its own offset, which nobody else writes to; so it
 * knows what must be there:
 *
 *   COUNTED   private memory of each space, which any thread may write-protect for a while: a write
 *             that is refused has not been done
 *   OWN       a window of each thread's in each space, next to the others': only it maps, unmaps,
 *             protects, moves and advises there, private memory and private copies of files
 *   FILES     pages that are never cut, of a file on a disk and of one in shared memory, which all
 *             spaces map
 *   SCRATCH   everybody does anything, and the files' ends come and go: a word there is zero or the
 *             thread's tag
 *
 * Threads fork the space that they are in, compare the child with what they know, live in it and
 * end it.  While all stand still, a space is at times replaced by a child of its own.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/migrate/migrate.h"
#include "engine/space/calls.h"
#include "tests/unit/world.h"

enum {
	CPUS = 8,
	SPACES = 3,
	FILES = 2,
	COUNTED_PAGES = 48,
	OWN_PAGES = 24,
	KEPT_PAGES = 16, /* of each file, */
	FILE_PAGES = 40, /* and with those that come and go */
	SCRATCH_PAGES = 64,
	ROUND = 150, /* operations of a thread from one quiet point to the next */
};

#define P(n) ((u64)(n)*PAGE_SIZE)
/* The owned windows lie across a page table's end. */
#define COUNTED	   0x20000000ULL
#define OWN	   (0x30000000ULL - P(OWN_PAGES * CPUS / 2 + 3))
#define FILE_AT(f) (0x40000000ULL + P(100 * (f)))
#define SCRATCH	   (0x50000000ULL - P(SCRATCH_PAGES / 2))
#define RW	   (UAPI_PROT_READ | UAPI_PROT_WRITE)

enum op {
	OP_COUNT,
	OP_GUARD,
	OP_DROP,
	OP_FILE,
	OP_OWN_TOUCH,
	OP_OWN_MAP,
	OP_OWN_UNMAP,
	OP_OWN_PROTECT,
	OP_OWN_MOVE,
	OP_OWN_ADVISE,
	OP_SCRATCH_TOUCH,
	OP_SCRATCH_CHANGE,
	OP_CUT,
	OP_CLEAN,
	OP_RECLAIM,
	OP_MIGRATE,
	OP_FORK,
	OP_SWITCH,
	NR_OPS
};

static const struct {
	const char *name;
	unsigned weight;
} ops[NR_OPS] = {
	[OP_COUNT] = { "count", 30 },
	[OP_GUARD] = { "guard", 2 },
	[OP_DROP] = { "drop file pages", 2 },
	[OP_FILE] = { "count in files", 14 },
	[OP_OWN_TOUCH] = { "touch own", 20 },
	[OP_OWN_MAP] = { "map own", 5 },
	[OP_OWN_UNMAP] = { "unmap own", 2 },
	[OP_OWN_PROTECT] = { "protect own", 4 },
	[OP_OWN_MOVE] = { "move own", 3 },
	[OP_OWN_ADVISE] = { "advise own", 3 },
	[OP_SCRATCH_TOUCH] = { "touch scratch", 16 },
	[OP_SCRATCH_CHANGE] = { "change scratch", 8 },
	[OP_CUT] = { "cut files", 1 },
	[OP_CLEAN] = { "clean files", 1 },
	[OP_RECLAIM] = { "reclaim", 4 },
	[OP_MIGRATE] = { "migrate", 8 },
	[OP_FORK] = { "fork", 2 },
	[OP_SWITCH] = { "switch space", 1 },
};

/* A page of an owned window. */
struct own {
	bool mapped, writable, readable;
	bool of_file, copied; /* a private mapping; it has a page of its own */
	bool wiped, not_forked;
	u8 file, index;
	u64 word; /* of memory, and of a copy */
};

/* What a thread knows of a space. */
struct known {
	u64 counted[COUNTED_PAGES];
	struct own own[OWN_PAGES];
};

struct worker {
	pthread_t thread;
	struct soft_cpu *cpu;
	unsigned number;
	u64 rnd;
	unsigned space; /* that it is in */
	struct known known[SPACES];
	u64 in_files[FILES][KEPT_PAGES];
	u64 done[NR_OPS], refused, buses;
};

static struct world w;
static struct mm *spaces[SPACES];
static struct file *files[FILES];
static struct worker workers[CPUS];
static pthread_barrier_t stopped, go_on;
static _Atomic bool stop;
static _Atomic u64 migrated; /* pages */
static u64 seed;

/* ---- telling ---- */

/* Where are the frames, if there are none? */
static void tell_of_frames(void)
{
	struct lru *lru = &w.e->lru;

	fprintf(stderr,
		"threads: %lu frames: %lu free, %lu evictable, %lu unevictable, %lu "
		"leaving\n",
		(unsigned long)w.e->zones[ZONE_USER].nr,
		(unsigned long)zone_free_pages(w.e, ZONE_USER), (unsigned long)lru_evictable(lru),
		(unsigned long)lru->nr_unevictable, (unsigned long)lru->nr_writeout);
}

#define DIE(k, ...)                                                                                \
	do {                                                                                       \
		fprintf(stderr, "threads: seed %lu, thread %u, space %u: ", (unsigned long)seed,   \
			(k)->number, (k)->space);                                                  \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		tell_of_frames();                                                                  \
		abort();                                                                           \
	} while (0)

static u64 rnd_next(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static unsigned below(struct worker *k, unsigned n)
{
	return (unsigned)((rnd_next(&k->rnd) >> 11) % n);
}

/* ---- one word ---- */

static u64 word_at(const struct worker *k, u64 page_va)
{
	return page_va + 8 * k->number;
}

/* Write `word` where `old` is, in one of two ways. */
static enum fault_reason store(struct worker *k, u64 va, u64 old, u64 word)
{
	enum fault_reason reason;
	u64 was;

	if (word & 1)
		return soft_write_u64(k->cpu, va, word);
	reason = soft_add_u64(k->cpu, va, word - old, &was);
	if (reason == FAULT_OK && was != old)
		DIE(k, "%lx held %lx, not %lx", (unsigned long)va, (unsigned long)was,
		    (unsigned long)old);
	return reason;
}

static void expect_word(struct worker *k, const char *where, u64 va, u64 word, u64 want)
{
	if (word != want)
		DIE(k, "%s: %lx holds %lx, not %lx", where, (unsigned long)va, (unsigned long)word,
		    (unsigned long)want);
}

/* ---- counted pages ---- */

static void check_counted(struct worker *k, const struct known *known, unsigned page)
{
	u64 va = word_at(k, COUNTED + P(page)), word;
	enum fault_reason reason = soft_read_u64(k->cpu, va, &word);

	if (reason == FAULT_ACCERR)
		k->refused++;
	else if (reason != FAULT_OK)
		DIE(k, "read of counted page %u: reason %d", page, reason);
	else
		expect_word(k, "counted", va, word, known->counted[page]);
}

static void count(struct worker *k, struct known *known)
{
	unsigned page = below(k, COUNTED_PAGES);
	u64 va = word_at(k, COUNTED + P(page)), word = rnd_next(&k->rnd);
	enum fault_reason reason;

	check_counted(k, known, page);
	if (below(k, 2))
		return;
	reason = store(k, va, known->counted[page], word);
	if (reason == FAULT_OK)
		known->counted[page] = word;
	else if (reason == FAULT_ACCERR)
		k->refused++;
	else
		DIE(k, "write of counted page %u: reason %d", page, reason);
}

/* No write or access for a moment; after that everybody's words are as they were. */
static void guard(struct worker *k)
{
	struct mm *mm = spaces[k->space];
	unsigned page = below(k, COUNTED_PAGES), n = 1 + below(k, COUNTED_PAGES - page);
	u64 va = COUNTED + P(page);

	if (do_mprotect(mm, va, P(n), below(k, 2) ? UAPI_PROT_READ : UAPI_PROT_NONE))
		DIE(k, "guard of %u pages at %u", n, page);
	if (do_mprotect(mm, va, P(n), RW))
		DIE(k, "end of the guard of %u pages at %u", n, page);
}

/* ---- files ---- */

static void count_in_file(struct worker *k)
{
	unsigned f = below(k, FILES), page = below(k, KEPT_PAGES);
	u64 va = word_at(k, FILE_AT(f) + P(page)), word;

	if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
		DIE(k, "read of page %u of file %u", page, f);
	expect_word(k, "file", va, word, k->in_files[f][page]);
	if (below(k, 2))
		return;
	word = rnd_next(&k->rnd);
	if (store(k, va, k->in_files[f][page], word) != FAULT_OK)
		DIE(k, "write to page %u of file %u", page, f);
	k->in_files[f][page] = word;
}

static void drop_file_pages(struct worker *k)
{
	unsigned page = below(k, FILE_PAGES), n = 1 + below(k, FILE_PAGES - page);

	if (do_madvise(spaces[k->space], FILE_AT(below(k, FILES)) + P(page), P(n),
		       UAPI_MADV_DONTNEED))
		DIE(k, "DONTNEED of %u pages of a file at %u", n, page);
}

static void cut(struct worker *k)
{
	struct file *file = files[below(k, FILES)];
	u64 at = P(KEPT_PAGES) + 8 * below(k, P(FILE_PAGES - KEPT_PAGES) / 8);
	u64 tag = ~0ULL - k->number;
	int err = 0;

	switch (below(k, 3)) {
	case 0:
		err = file_punch_hole(file, at, 8 + 8 * below(k, PAGE_SIZE));
		break;
	case 1:
		err = file_truncate(file, at);
		break;
	default:
		at = word_at(k, at & PAGE_MASK);
		if (file_write(file, at, &tag, 8) != 8)
			err = -EIO;
	}
	if (err)
		DIE(k, "cut: %d", err);
}

static void clean(struct worker *k)
{
	struct file *file = files[below(k, FILES)];
	u64 from = P(below(k, FILE_PAGES));

	if (vfs_fsync_range(file, from, from + P(below(k, FILE_PAGES))))
		DIE(k, "fsync");
	invalidate_mapping_pages(file->mapping, 0, ~0ULL);
}

/* ---- owned windows ---- */

static u64 own_at(const struct worker *k, unsigned page)
{
	return OWN + P(k->number * OWN_PAGES + page);
}

static u64 own_word(const struct worker *k, const struct own *o)
{
	return o->of_file && !o->copied ? k->in_files[o->file][o->index] : o->word;
}

static enum fault_reason refusal(const struct own *o, bool allowed)
{
	if (!o->mapped)
		return FAULT_MAPERR;
	return allowed ? FAULT_OK : FAULT_ACCERR;
}

static void check_own(struct worker *k, const struct known *known, unsigned page)
{
	const struct own *o = &known->own[page];
	u64 va = word_at(k, own_at(k, page)), word;
	enum fault_reason reason = soft_read_u64(k->cpu, va, &word);

	if (reason != refusal(o, o->readable))
		DIE(k, "read of own page %u at %lx: reason %d, not %d", page, (unsigned long)va,
		    reason, refusal(o, o->readable));
	if (reason == FAULT_OK)
		expect_word(k, "own", va, word, own_word(k, o));
}

static void write_own(struct worker *k, struct known *known, unsigned page)
{
	struct own *o = &known->own[page];
	u64 va = word_at(k, own_at(k, page)), word = rnd_next(&k->rnd);
	enum fault_reason reason = store(k, va, own_word(k, o), word);

	if (reason != refusal(o, o->writable))
		DIE(k, "write of own page %u at %lx: reason %d, not %d", page, (unsigned long)va,
		    reason, refusal(o, o->writable));
	if (reason == FAULT_OK) {
		o->word = word;
		o->copied = o->of_file;
	}
}

static void touch_own(struct worker *k, struct known *known)
{
	unsigned page = below(k, OWN_PAGES);

	check_own(k, known, page);
	if (below(k, 2))
		write_own(k, known, page);
}

static void map_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = &k->known[k->space].own[page];
	bool of_file = below(k, 3) == 0;
	unsigned f = below(k, FILES), index = below(k, KEPT_PAGES);
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	if (of_file)
		n = min_of(n, KEPT_PAGES - index);
	else
		flags |= UAPI_MAP_ANONYMOUS;
	if (do_mmap(spaces[k->space], own_at(k, page), P(n), RW, flags, of_file ? files[f] : NULL,
		    of_file ? P(index) : 0) != (s64)own_at(k, page))
		DIE(k, "map of %u own pages at %u", n, page);
	for (unsigned i = 0; i < n; i++)
		own[i] = (struct own){ .mapped = true,
				       .readable = true,
				       .writable = true,
				       .of_file = of_file,
				       .file = f,
				       .index = index + i };
}

static void unmap_own(struct worker *k, unsigned page, unsigned n)
{
	if (vm_unmap(spaces[k->space], own_at(k, page), P(n)))
		DIE(k, "unmap of %u own pages at %u", n, page);
	memset(&k->known[k->space].own[page], 0, n * sizeof(struct own));
}

static void protect_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = &k->known[k->space].own[page];
	u64 prot = (u64[]){ RW, RW, UAPI_PROT_READ, UAPI_PROT_NONE }[below(k, 4)];
	s64 want = 0, got;

	for (unsigned i = 0; i < n && !want; i++) {
		if (!own[i].mapped) {
			want = -ENOMEM;
			continue;
		}
		own[i].readable = prot & UAPI_PROT_READ;
		own[i].writable = prot & UAPI_PROT_WRITE;
	}
	got = do_mprotect(spaces[k->space], own_at(k, page), P(n), prot);
	if (got != want)
		DIE(k, "protect of %u own pages at %u: %ld, not %ld", n, page, (long)got,
		    (long)want);
	/* Nothing stale is used once it is back. */
	check_own(k, &k->known[k->space], page);
	write_own(k, &k->known[k->space], page);
}

static void move_own(struct worker *k, unsigned page, unsigned n)
{
	struct own *own = k->known[k->space].own;
	unsigned to = below(k, OWN_PAGES - n + 1);
	s64 got;

	if (page < to + n && to < page + n)
		return;
	for (unsigned i = 0; i < n; i++)
		if (!own[page + i].mapped)
			return;
	got = do_mremap(spaces[k->space], own_at(k, page), P(n), P(n),
			UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, own_at(k, to));
	if (got != (s64)own_at(k, to))
		DIE(k, "move of %u own pages from %u to %u: %ld", n, page, to, (long)got);
	memcpy(&own[to], &own[page], n * sizeof(*own));
	memset(&own[page], 0, n * sizeof(*own));
	check_own(k, &k->known[k->space], page);
	check_own(k, &k->known[k->space], to);
}

static void advise_own(struct worker *k, unsigned page)
{
	struct own *o = &k->known[k->space].own[page];
	struct mm *mm = spaces[k->space];
	u64 va = own_at(k, page);
	s64 got = 0;

	if (!o->mapped)
		return;
	switch (below(k, 4)) {
	case 0:
		if (o->of_file)
			return;
		o->wiped = !o->wiped;
		got = do_madvise(mm, va, PAGE_SIZE,
				 o->wiped ? UAPI_MADV_WIPEONFORK : UAPI_MADV_KEEPONFORK);
		break;
	case 1:
		o->not_forked = !o->not_forked;
		got = do_madvise(mm, va, PAGE_SIZE,
				 o->not_forked ? UAPI_MADV_DONTFORK : UAPI_MADV_DOFORK);
		break;
	default:
		got = do_madvise(mm, va, PAGE_SIZE, UAPI_MADV_DONTNEED);
		o->copied = false;
		o->word = 0;
	}
	if (got)
		DIE(k, "advice for own page %u: %ld", page, (long)got);
}

/* ---- scratch ---- */

static void touch_scratch(struct worker *k)
{
	u64 tag = ~0ULL - k->number, va, word = 0;
	enum fault_reason reason;

	if (below(k, 2))
		va = SCRATCH + P(below(k, SCRATCH_PAGES));
	else
		va = FILE_AT(below(k, FILES)) + P(KEPT_PAGES + below(k, FILE_PAGES - KEPT_PAGES));
	va = word_at(k, va);
	if (below(k, 2))
		reason = soft_write_u64(k->cpu, va, tag);
	else
		reason = soft_read_u64(k->cpu, va, &word);
	if (reason == FAULT_BUS)
		k->buses++;
	else if (reason == FAULT_MAPERR || reason == FAULT_ACCERR)
		k->refused++;
	else if (reason != FAULT_OK)
		DIE(k, "scratch at %lx: reason %d", (unsigned long)va, reason);
	if (word && word != tag)
		expect_word(k, "scratch", va, word, tag);
}

static void change_scratch(struct worker *k)
{
	static const u64 advice[] = { UAPI_MADV_DONTNEED,   UAPI_MADV_DONTNEED,
				      UAPI_MADV_WIPEONFORK, UAPI_MADV_KEEPONFORK,
				      UAPI_MADV_DONTFORK,   UAPI_MADV_DOFORK };
	static const u64 prots[] = { RW, RW, UAPI_PROT_READ, UAPI_PROT_NONE };
	struct mm *mm = spaces[k->space];
	unsigned page = below(k, SCRATCH_PAGES), n = 1 + below(k, 16), index;
	u64 va = SCRATCH + P(page), to;
	u64 flags = below(k, 2) ? UAPI_MAP_PRIVATE : UAPI_MAP_SHARED;
	u8 there[16];

	n = min_of(n, SCRATCH_PAGES - page);
	to = SCRATCH + P(below(k, SCRATCH_PAGES - n + 1));
	index = KEPT_PAGES + below(k, FILE_PAGES - KEPT_PAGES);
	switch (below(k, 7)) {
	case 0:
		do_mmap(mm, va, P(n), RW, flags | UAPI_MAP_FIXED | UAPI_MAP_ANONYMOUS, NULL, 0);
		break;
	case 1:
		do_mmap(mm, va, P(n), RW, flags | UAPI_MAP_FIXED, files[below(k, FILES)], P(index));
		break;
	case 2:
		vm_unmap(mm, va, P(n));
		break;
	case 3:
		do_mprotect(mm, va, P(n), prots[below(k, 4)]);
		break;
	case 4:
		do_mremap(mm, va, P(n), P(n), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, to);
		break;
	case 5:
		do_mincore(mm, va, P(n), there);
		break;
	default:
		do_madvise(mm, va, P(n), advice[below(k, 6)]);
	}
}

/* ---- reclaim, fork, another space ---- */

static void reclaim(struct worker *k)
{
	unsigned page = below(k, COUNTED_PAGES);

	switch (below(k, 4)) {
	case 0:
		reclaim_range(spaces[k->space], COUNTED + P(page), COUNTED + P(COUNTED_PAGES));
		break;
	case 1:
		reclaim_range(spaces[k->space], OWN, OWN + P(CPUS * OWN_PAGES));
		break;
	case 2:
		reclaim_direct(w.e, 1 + below(k, 8));
		break;
	default:
		reclaim_step(w.e, 1 + below(k, 8));
	}
}

/* What a child has of what is known. */
static void inherit(struct known *child, const struct known *parent)
{
	*child = *parent;
	for (unsigned i = 0; i < OWN_PAGES; i++) {
		struct own *o = &child->own[i];

		if (o->not_forked)
			*o = (struct own){ 0 };
		else if (o->wiped)
			o->word = 0;
	}
}

static void check_known(struct worker *k, const struct known *known)
{
	for (unsigned i = 0; i < COUNTED_PAGES; i++)
		check_counted(k, known, i);
	for (unsigned i = 0; i < OWN_PAGES; i++)
		check_own(k, known, i);
}

/* Everybody's words of the counted pages, as they are in a child that is ours alone: they stay as
 * they were when it was made, whatever their owners go on to write in the parent. */
struct snapshot {
	bool taken[COUNTED_PAGES];
	u64 words[COUNTED_PAGES][CPUS];
};

static void take_snapshot(struct worker *k, struct snapshot *s)
{
	for (unsigned page = 0; page < COUNTED_PAGES; page++)
		s->taken[page] = soft_read(k->cpu, COUNTED + P(page), s->words[page],
					   sizeof(s->words[page])) == FAULT_OK;
}

static void check_snapshot(struct worker *k, const struct snapshot *s)
{
	u64 words[CPUS];

	for (unsigned page = 0; page < COUNTED_PAGES; page++) {
		u64 va = COUNTED + P(page);

		if (!s->taken[page])
			continue;
		if (soft_read(k->cpu, va, words, sizeof(words)) != FAULT_OK)
			DIE(k, "read of counted page %u in a child", page);
		for (unsigned i = 0; i < CPUS; i++)
			if (i != k->number)
				expect_word(k, "another's word in a child", va + 8 * i, words[i],
					    s->words[page][i]);
	}
}

/* A child, its life, at times a child of its own, and its end. */
static void fork_and_live(struct worker *k, struct mm *parent, const struct known *known,
			  unsigned depth)
{
	struct snapshot others;
	struct known mine;
	struct mm *child;

	if (mm_fork(parent, &child))
		DIE(k, "fork");
	inherit(&mine, known);
	soft_load_mm(k->cpu, child);
	take_snapshot(k, &others);
	if (below(k, 2))
		check_known(k, &mine);
	for (unsigned i = 0; i < 20; i++) {
		count(k, &mine);
		touch_own(k, &mine);
	}
	if (depth && below(k, 2)) {
		fork_and_live(k, child, &mine, depth - 1);
		soft_load_mm(k->cpu, child);
	}
	check_known(k, &mine);
	check_snapshot(k, &others);
	soft_load_mm(k->cpu, NULL);
	mm_destroy(child);
}

static void fork_space(struct worker *k)
{
	fork_and_live(k, spaces[k->space], &k->known[k->space], 1);
	soft_load_mm(k->cpu, spaces[k->space]);
	check_known(k, &k->known[k->space]);
}

static struct page *spare_frame(struct engine *e, const struct page *page, void *arg)
{
	(void)page;
	(void)arg;
	return page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE);
}

/* Frames at random, whoever's they are. */
static void migrate(struct worker *k)
{
	const struct zone *z = &w.e->zones[ZONE_USER];
	struct migrate_target spare = { .get = spare_frame };
	enum { MOST = 4 };
	struct page *pages[MOST];
	int status[MOST];
	unsigned n = 0;

	for (unsigned i = 0; i < 4 * MOST && n < MOST; i++) {
		struct page *page = pfn_page(w.e, z->start_pfn + below(k, z->nr));

		if (migrate_get(w.e, page))
			pages[n++] = page;
	}
	atomic_fetch_add(&migrated,
			 migrate_pages(w.e, pages, n, &spare,
				       below(k, 2) ? MIGRATE_SYNC : MIGRATE_ASYNC, status));
}

static void switch_space(struct worker *k)
{
	k->space = below(k, SPACES);
	soft_load_mm(k->cpu, spaces[k->space]);
}

/* ---- running ---- */

static enum op choose(struct worker *k)
{
	unsigned sum = 0, at;
	enum op op = 0;

	for (unsigned i = 0; i < NR_OPS; i++)
		sum += ops[i].weight;
	at = below(k, sum);
	while (at >= ops[op].weight)
		at -= ops[op++].weight;
	return op;
}

static void operate(struct worker *k)
{
	struct known *known = &k->known[k->space];
	unsigned page = below(k, OWN_PAGES), n = 1 + below(k, OWN_PAGES - page);
	enum op op = choose(k);

	k->done[op]++;
	switch (op) {
	case OP_COUNT:
		count(k, known);
		break;
	case OP_GUARD:
		guard(k);
		break;
	case OP_DROP:
		drop_file_pages(k);
		break;
	case OP_FILE:
		count_in_file(k);
		break;
	case OP_OWN_TOUCH:
		touch_own(k, known);
		break;
	case OP_OWN_MAP:
		map_own(k, page, n);
		break;
	case OP_OWN_UNMAP:
		unmap_own(k, page, 1 + n / 4);
		break;
	case OP_OWN_PROTECT:
		protect_own(k, page, n);
		break;
	case OP_OWN_MOVE:
		move_own(k, page, 1 + n / 4);
		break;
	case OP_OWN_ADVISE:
		advise_own(k, page);
		break;
	case OP_SCRATCH_TOUCH:
		touch_scratch(k);
		break;
	case OP_SCRATCH_CHANGE:
		change_scratch(k);
		break;
	case OP_CUT:
		cut(k);
		break;
	case OP_CLEAN:
		clean(k);
		break;
	case OP_RECLAIM:
		reclaim(k);
		break;
	case OP_MIGRATE:
		migrate(k);
		break;
	case OP_FORK:
		fork_space(k);
		break;
	default:
		switch_space(k);
	}
}

static void *work(void *arg)
{
	struct worker *k = arg;

	soft_load_mm(k->cpu, spaces[k->space]);
	for (;;) {
		for (unsigned i = 0; i < ROUND; i++)
			operate(k);
		soft_load_mm(k->cpu, NULL);
		pthread_barrier_wait(&stopped);
		pthread_barrier_wait(&go_on);
		if (atomic_load(&stop))
			return NULL;
		soft_load_mm(k->cpu, spaces[k->space]);
	}
}

/* ---- quiet points ---- */

/* All that anybody knows, by his own CPU. */
static void check_all_words(void)
{
	for (unsigned i = 0; i < CPUS; i++) {
		struct worker *k = &workers[i];
		unsigned was = k->space;

		for (k->space = 0; k->space < SPACES; k->space++) {
			soft_load_mm(k->cpu, spaces[k->space]);
			check_known(k, &k->known[k->space]);
		}
		k->space = was;
		soft_load_mm(k->cpu, NULL);
		for (unsigned f = 0; f < FILES; f++)
			for (unsigned page = 0; page < KEPT_PAGES; page++) {
				u64 word = 0, pos = word_at(k, P(page));

				if (file_read(files[f], pos, &word, 8) != 8)
					DIE(k, "file %u cannot be read", f);
				expect_word(k, "file read", pos, word, k->in_files[f][page]);
			}
	}
}

/* A space gives way to a child of its own. */
static void replace_space(unsigned n)
{
	struct mm *child;

	if (mm_fork(spaces[n], &child))
		DIE(&workers[0], "fork at a quiet point");
	mm_destroy(spaces[n]);
	spaces[n] = child;
	for (unsigned i = 0; i < CPUS; i++) {
		struct known mine;

		inherit(&mine, &workers[i].known[n]);
		workers[i].known[n] = mine;
	}
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- worlds ---- */

/* How a world can be. */
static const struct world_options kinds[] = {
	{ .frames = 48, .kept = 1000 },
	{ .frames = 72, .prefetch = 16, .segment = 64, .kept = 30, .compress = COMPRESS_LZ4 },
	{ .frames = 160, .prefetch = 4, .segment = 32 },
	{ .frames = 64, .prefetch = 8, .segment = 8, .kept = 100 }, /* whose machine fails often */
};

static void make_space(unsigned n)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	if ((n ? mm_create(w.e, WORLD_LOW, WORLD_HIGH, &spaces[n]) : 0) ||
	    do_mmap(spaces[n], COUNTED, P(COUNTED_PAGES), RW, flags, NULL, 0) != COUNTED)
		DIE(&workers[0], "no space");
	for (unsigned f = 0; f < FILES; f++)
		if (do_mmap(spaces[n], FILE_AT(f), P(FILE_PAGES), RW,
			    UAPI_MAP_SHARED | UAPI_MAP_FIXED, files[f], 0) != (s64)FILE_AT(f))
			DIE(&workers[0], "no mapping of file %u", f);
}

static void make_world(unsigned kind)
{
	struct world_options o = kinds[kind];

	o.cpus = CPUS;
	o.slots = 16384;
	memset(workers, 0, sizeof(workers));
	if (world_create(&w, o)) {
		fprintf(stderr, "threads: no world\n");
		exit(1);
	}
	soft_load_mm(w.cpu, NULL);
	spaces[0] = w.mm;
	w.mm = NULL;
	files[0] = ramfile_create(w.e, FILE_READ | FILE_WRITE, 4 * FILE_PAGES);
	files[1] = shmem_file_setup(w.e, 0);
	for (unsigned f = 0; f < FILES; f++)
		if (!files[f] || file_truncate(files[f], P(FILE_PAGES)))
			DIE(&workers[0], "no file %u", f);
	for (unsigned n = 0; n < SPACES; n++)
		make_space(n);
	if (kind == 3) {
		w.m->inject.stage_again_every = 23;
		w.m->inject.set_again_every = 29;
		w.m->inject.set_most = 3;
		w.m->inject.take_busy_every = 17;
		w.m->inject.take_again_every = 37;
	}
}

static void end_world(void)
{
	for (unsigned n = 0; n < SPACES; n++)
		mm_destroy(spaces[n]);
	for (unsigned f = 0; f < FILES; f++)
		file_put(files[f]);
	world_destroy(&w);
}

/* Totals of all worlds. */
static struct {
	u64 done[NR_OPS], refused, buses, quiet, replaced;
	u64 minor, major, evicted, second_chance;
} total;

static void add_up(void)
{
	for (unsigned i = 0; i < CPUS; i++) {
		for (unsigned op = 0; op < NR_OPS; op++)
			total.done[op] += workers[i].done[op];
		total.refused += workers[i].refused;
		total.buses += workers[i].buses;
	}
	total.minor += w.e->stats->minor;
	total.major += w.e->stats->major;
	total.second_chance += w.e->stats->second_chance;
	total.evicted += w.e->stats->evicted_clean + w.e->stats->evicted_dirty;
}

static void run_world(unsigned kind, u64 *rnd, u64 until)
{
	make_world(kind);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < CPUS; i++) {
		struct worker *k = &workers[i];

		k->cpu = &w.m->cpus[i];
		k->number = i;
		k->space = i % SPACES;
		k->rnd = rnd_next(rnd) | 1;
		pthread_create(&k->thread, NULL, work, k);
	}
	while (!atomic_load(&stop)) {
		pthread_barrier_wait(&stopped);
		soft_check(w.m);
		check_all_words();
		soft_check(w.m);
		total.quiet++;
		/* The first time in any case: a run of seconds on a busy machine has few. */
		if (!total.replaced || rnd_next(rnd) >> 11 & 1) {
			replace_space((rnd_next(rnd) >> 11) % SPACES);
			total.replaced++;
		}
		if (now_ms() >= until)
			atomic_store(&stop, true);
		pthread_barrier_wait(&go_on);
	}
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(workers[i].thread, NULL);
	add_up();
	end_world();
}

static void print_totals(void)
{
	u64 all = 0;

	for (unsigned op = 0; op < NR_OPS; op++) {
		printf("%s%s %lu", op ? ", " : "threads: ", ops[op].name,
		       (unsigned long)total.done[op]);
		all += total.done[op];
	}
	printf("\nthreads: %lu operations, %lu quiet points, %lu spaces replaced by a child; "
	       "%lu minor and %lu major faults, %lu second chances, %lu pages evicted, "
	       "%lu moved; %lu accesses refused, %lu bus errors; nothing wrong\n",
	       (unsigned long)all, (unsigned long)total.quiet, (unsigned long)total.replaced,
	       (unsigned long)total.minor, (unsigned long)total.major,
	       (unsigned long)total.second_chance, (unsigned long)total.evicted,
	       (unsigned long)atomic_load(&migrated), (unsigned long)total.refused,
	       (unsigned long)total.buses);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ 0 },
	};
	enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
	u64 seconds = 3, start = now_ms(), rnd;
	int c;

	seed = (u64)time(NULL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	printf("threads: seed %lu, %lu s\n", (unsigned long)seed, (unsigned long)seconds);
	fflush(stdout);
	rnd = seed * 0x9e3779b97f4a7c15ULL | 1;
	pthread_barrier_init(&stopped, NULL, CPUS + 1);
	pthread_barrier_init(&go_on, NULL, CPUS + 1);
	for (unsigned i = 0; i < KINDS; i++) {
		run_world(i, &rnd, start + seconds * 1000 * (i + 1) / KINDS);
		printf("threads: %lu ms, %lu quiet points, %lu faults\n",
		       (unsigned long)(now_ms() - start), (unsigned long)total.quiet,
		       (unsigned long)(total.minor + total.major));
		fflush(stdout);
	}
	print_totals();
	if (!total.major) {
		fprintf(stderr, "threads: nothing came back from the store: run it for longer\n");
		return 1;
	}
	return 0;
}
