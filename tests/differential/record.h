/* SPDX-License-Identifier: MIT */
/*
 * What came of an operation, in a form that is the same for a real kernel and for the engine.
 *
 * After each operation the process that did it is looked at, without a fault: its areas in the
 * arena, which pages are present there, and a few words of each.
 */
#ifndef VMF_DIFFERENTIAL_RECORD_H
#define VMF_DIFFERENTIAL_RECORD_H

#include "tests/differential/op.h"

/* In place of an address that the system chose, outside of the arena. */
#define RESULT_ELSEWHERE 1

enum record_state {
	RECORD_MISSING = 0,
	RECORD_SKIPPED, /* no such process then */
	RECORD_DONE,
	RECORD_FAILED, /* the side itself could not do it; see trace.failure */
};

/* A signal, as its handler sees it; number 0: none. */
struct record_signal {
	u32 number;
	s32 code;
	u64 address; /* si_addr */
	u32 trap, error;
	u64 cr2;
};

struct record {
	u8 state;    /* enum record_state */
	bool looked; /* there is an observation */
	s64 result;  /* of a call: its value or negative errno */
	u64 value;   /* a read's bytes; mincore's and check's sums */
	struct record_signal signal;
	u32 minor, major; /* faults while it was done */
	u32 seen;	  /* where the observation begins: bytes in the side's log */
};

/* How an area may be accessed, and what maps there; perms of seen_area. */
enum { SEEN_READ = 1, SEEN_WRITE = 2, SEEN_EXEC = 4, SEEN_SHARED = 8 };

/* What an area maps: nothing, one of the files, or the n-th shared anonymous object that is seen
 * from low addresses to high. */
enum { SEEN_ANONYMOUS = 0, SEEN_FILE_0 = 1, SEEN_FILE_1, SEEN_SEALED, SEEN_OBJECT = 16 };

struct seen_area {
	u16 start, end; /* pages from ARENA_BASE */
	u8 perms;
	u8 object;
	u16 flags;		   /* bits of seen_flag; the kernel tells them for CHECK only */
	u64 pgoff;		   /* pages; 0 for anonymous memory */
	u32 rss, anonymous, dirty; /* for CHECK only: pages */
	u32 pad;
};

/* What /proc/PID/smaps tells of an area beyond that. */
enum seen_flag {
	SEEN_MAYREAD = 1u << 0,
	SEEN_MAYWRITE = 1u << 1,
	SEEN_MAYEXEC = 1u << 2,
	SEEN_MAYSHARE = 1u << 3,
	SEEN_GROWSDOWN = 1u << 4,
	SEEN_LOCKED = 1u << 5,
	SEEN_SEQUENTIAL = 1u << 6,
	SEEN_RANDOM = 1u << 7,
	SEEN_DONTCOPY = 1u << 8,
	SEEN_DONTEXPAND = 1u << 9,
	SEEN_ACCOUNT = 1u << 10,
	SEEN_NORESERVE = 1u << 11,
	SEEN_WIPEONFORK = 1u << 12,
	SEEN_DONTDUMP = 1u << 13,
	SEEN_HUGEPAGE = 1u << 14,
	SEEN_NOHUGEPAGE = 1u << 15,
};

/* A page that is present. */
enum { SEEN_PRESENT = 1, SEEN_IS_FILE = 2, SEEN_EXCLUSIVE = 4 };
struct seen_page {
	u16 page;  /* from ARENA_BASE */
	u16 state; /* SEEN_PRESENT ... */
	u32 sum;   /* of its words, if its area is readable; see page_sum() */
};

/* Followed by the areas, and then the pages. */
struct observation {
	u16 nr_areas, nr_pages;
	u8 process, pad[3];
};

static inline const struct seen_area *seen_areas(const struct observation *o)
{
	return (const struct seen_area *)(o + 1);
}
static inline const struct seen_page *seen_pages(const struct observation *o)
{
	return (const struct seen_page *)(seen_areas(o) + o->nr_areas);
}
static inline size_t observation_size(const struct observation *o)
{
	return sizeof(*o) + o->nr_areas * sizeof(struct seen_area) +
	       o->nr_pages * sizeof(struct seen_page);
}

/* The most that one observation takes: each page an area of its own, and present. */
#define OBSERVATION_MAX                                                                            \
	(sizeof(struct observation) +                                                              \
	 ARENA_PAGES * (sizeof(struct seen_area) + sizeof(struct seen_page)))
/* The log of a sequence. */
#define LOG_SIZE (8u << 20)

/* What a side gives for a sequence. */
struct trace {
	struct record records[MAX_OPS];
	u32 used;	   /* bytes of log */
	char failure[128]; /* why a record failed */
	_Alignas(8) char log[LOG_SIZE];
};

static inline const struct observation *record_seen(const struct trace *t, const struct record *r)
{
	return r->looked ? (const struct observation *)(t->log + r->seen) : NULL;
}

/* Words of a page where writes like to go, and a running sum over all of them. */
static inline u64 sum_add(u64 sum, u64 word)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
	return sum ^ sum >> 29;
}

/* Of what mincore(2) tells. */
static inline u64 sum_bytes(const u8 *bytes, u64 n)
{
	u64 sum = 0;

	for (u64 i = 0; i < n; i++)
		sum = sum_add(sum, bytes[i]);
	return sum;
}

static inline u32 page_sum(const volatile u64 *words)
{
	u64 sum = sum_add(0, words[0]);

	sum = sum_add(sum, words[1]);
	sum = sum_add(sum, words[256]);
	sum = sum_add(sum, words[511]);
	return sum ^ sum >> 32;
}

/* All of a page. */
static inline u64 page_sum_all(const volatile u64 *words)
{
	u64 sum = 0;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
		sum = sum_add(sum, words[i]);
	return sum;
}

/* ---- the files as a sequence finds them ---- */

#define FILE_0_SIZE	  (12 * PAGE_SIZE + 2048) /* pages 5 and 6 are a hole */
#define FILE_SEALED_SIZE  (4 * PAGE_SIZE)
#define FILE_SEALED_SEALS 0xf /* F_SEAL_SEAL, SHRINK, GROW, WRITE */

/* The first word of a page of a file; its others are zero. */
static inline u64 file_word(unsigned file, u64 page)
{
	return word_of(1000 * file + page + 1);
}

/* ---- limits that a sequence begins with: pages ---- */

#define START_STACK   300
#define START_MEMLOCK 64

#endif
