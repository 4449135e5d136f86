/* SPDX-License-Identifier: MIT */
/* What all systems of the laboratory offer: a window of memory, two files, and children. */
#ifndef VMF_DIFFERENTIAL_SYSTEMS_H
#define VMF_DIFFERENTIAL_SYSTEMS_H

#include "engine/base/types.h"
#include "tests/differential/worlds/world.h"

/* Pages of the window, and of each file at first; and their numbers: one on a disk, one in memory.
 */
enum { PAGES = 40, FILE_PAGES = 8, ON_DISK = 0, IN_MEMORY = 1, NR_FILES };
#define WINDOW_BASE 0x20000000ULL

enum systems_call {
	MAP,	      /* private memory, fresh */
	MAP_OF_FILE,  /* from page2 of the file on; shared: as the others have it */
	UNMAP,	      /* */
	PROTECT,      /* */
	MOVE,	      /* of one page, to page2 */
	DONTNEED,     /* */
	PAGEOUT,      /* what can be is out; nobody need see that */
	READ,	      /* the word at the beginning of the page, */
	WRITE,	      /* and this for it; */
	ADD,	      /* and this to it, which gives what was there */
	COPY_IN,      /* a system call reads from the middle of a page on */
	COPY_OUT,     /* and writes */
	CHILD_READS,  /* a child is made, does that, and is gone */
	CHILD_WRITES, /* the same */
	READ_FILE,    /* a word of a file, by a call */
	WRITE_FILE,   /* the same */
	CUT_FILE,     /* to so many pages */
	CONTENTS,     /* of all that may be read */
	NR_SYSTEMS_CALLS
};

struct systems_step {
	u32 call;
	u32 page, n, page2;
	u32 prot; /* VM_READ, VM_WRITE; 0: none */
	u32 file, shared;
	u32 word;
};

/* What an access gives instead of what it reads. */
enum { ENDS_MAPERR = -1001, ENDS_ACCERR = -1002, ENDS_BUS = -1003, ENDS_BADLY = -1004 };

static inline u64 window_at(u64 page)
{
	return WINDOW_BASE + page * PAGE_SIZE;
}

static inline struct systems_step systems_step(const struct script *s, unsigned i)
{
	struct systems_step op;

	__builtin_memcpy(&op, s->steps[i], sizeof(op));
	return op;
}

/* What CONTENTS gives: of each page its words, or how it ends. */
static inline u64 contents_add(u64 sum, s64 value)
{
	return (sum ^ (u64)value) * 0x100000001b3ULL;
}

/* Has this system a disk for the file that is to be on one?  If not both are in memory, on all
 * sides: where a file grows, what was written behind its end is zeros on a disk, and stays in
 * memory. */
bool systems_have_disk(void);
/* True: `results` has what came of each step. */
bool systems_kernel(const struct script *script, s64 *results);

/* The systems there are; and does that one offer what the script asks for? */
unsigned systems_number(void);
const char *systems_name(unsigned i);
bool systems_offers(unsigned i, const struct script *script);
/* It does the script.  False: `why` (160 bytes) says what is wrong. */
bool systems_do(unsigned i, const struct script *script, s64 *results, char *why);

#endif
