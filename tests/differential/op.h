/* SPDX-License-Identifier: MIT */
/*
 * Operations of the differential tester: what a process does to its memory, one call or one access
 * at a time, and sequences of them over a few processes.
 *
 * Both sides have the same arena of addresses, ARENA_PAGES from ARENA_BASE on, which is empty when
 * a sequence begins and lies across the end of a page table.  All that an operation changes lies in
 * it, or the operation is refused as not contained: the real side runs in a process that has other
 * memory as well.  What the kernel places elsewhere by its own choice is unmapped again at once.
 *
 * As text, one operation a line: the process, the call, the arguments; "end" on the last line, so
 * that a text cut short is known.  '#' begins a comment.
 *
 *   0 mmap a+3 2p read|write private|anonymous|fixed none 0
 *   0 write a+4+8 7          # 8 bytes made from 7, at byte 8 of page 4
 *   0 fork 1
 *   1 munmap a+3 4097
 *   end
 *
 * An address is a number, or a, a+PAGES, a+PAGES+BYTES, in the arena.  A size is a number of bytes,
 * or 3p (pages), or 3p+1.  Numbers are decimal or 0x hexadecimal, below 2^64.  Flags are joined
 * by '|'; bits without a name are given as a number.
 */
#ifndef VMF_DIFFERENTIAL_OP_H
#define VMF_DIFFERENTIAL_OP_H

#include "engine/base/types.h"

/* No aligned 2 MiB lie in it, so that huge pages have no place; its middle is a table's end. */
#define ARENA_PAGES 768
#define ARENA_MID   (ARENA_PAGES / 2)
#define ARENA_BASE  (0x20000000ULL - ARENA_MID * PAGE_SIZE)
#define ARENA_SIZE  (ARENA_PAGES * PAGE_SIZE)
#define ARENA_END   (ARENA_BASE + ARENA_SIZE)
/* Nothing is on either side so far. */
#define ARENA_MARGIN (256 * PAGE_SIZE)

/* A page of a pool, if no other size is asked for. */
#define HUGE_SHIFT 21

/* The heap begins here in every process, and is empty at first: near a table's end, too. */
#define HEAP_START (ARENA_BASE + (ARENA_MID - 16) * PAGE_SIZE)

/* The end of user space, with four-level tables. */
#define USER_END 0x7ffffffff000ULL

/* In a node's place: move_pages is given no nodes. */
#define NODE_ASK 0xffff

#define NR_PROCESSES 4
#define MAX_OPS	     256
#define NR_ARGS	     6

enum call {
	CALL_MMAP,
	CALL_MUNMAP,
	CALL_MPROTECT,
	CALL_MREMAP,
	CALL_BRK,
	CALL_MADVISE,
	CALL_MLOCK,
	CALL_MLOCK2,
	CALL_MUNLOCK,
	CALL_MLOCKALL,
	CALL_MUNLOCKALL,
	CALL_MSYNC,
	CALL_MINCORE,
	CALL_MINCORE_TO, /* the same, told in a word of the arena, or where it cannot be */
	CALL_MSEAL,
	CALL_MBIND, /* one word of nodes, as all of these */
	CALL_SET_MEMPOLICY,
	CALL_GET_MEMPOLICY, /* both the mode and the nodes are its value */
	CALL_MOVE_PAGES,    /* one page, to a node or (NODE_ASK) to none: where is it? */
	CALL_READ,	    /* load 8 bytes, at any address */
	CALL_WRITE,	    /* store 8 bytes, aligned */
	CALL_EXEC,	    /* fetch an instruction, aligned */
	CALL_GETUSER,	    /* have the kernel read 8 bytes */
	CALL_PUTUSER,	    /* have the kernel write 8 bytes, zeros */
	CALL_PREAD,	    /* file to memory */
	CALL_PWRITE,	    /* memory to file */
	CALL_FTRUNCATE,
	CALL_PUNCH,	/* fallocate(PUNCH_HOLE | KEEP_SIZE) */
	CALL_ADD_SEALS, /* fcntl(F_ADD_SEALS) */
	CALL_GET_SEALS,
	CALL_FORK,
	CALL_REAP,    /* a child of the process exits and is waited for */
	CALL_LIMIT,   /* setrlimit, in pages; some relative to what is used */
	CALL_BALLAST, /* map small areas elsewhere until only so many more are allowed */
	CALL_CHECK,   /* changes nothing: read all of the arena, and what /proc tells */
	NR_CALLS
};

/* What an argument is. */
enum arg_kind {
	ARG_NONE,
	ARG_ADDRESS,
	ARG_SIZE,
	ARG_PROT,
	ARG_MAP_FLAGS,
	ARG_REMAP_FLAGS,
	ARG_ADVICE,
	ARG_LOCK_FLAGS,	   /* of mlock2 */
	ARG_LOCKALL_FLAGS, /* of mlockall */
	ARG_SYNC_FLAGS,
	ARG_SEALS,
	ARG_POLICY,
	ARG_BIND_FLAGS,	  /* of mbind and move_pages */
	ARG_POLICY_FLAGS, /* of get_mempolicy */
	ARG_FILE,
	ARG_VALUE,
	ARG_PROCESS,
	ARG_LIMIT,
	NR_ARG_KINDS
};

/* Descriptors that every process has. */
enum test_file {
	FILE_NONE, /* -1 */
	/* A file in memory, 12 pages and a half, with a hole; read and write.  It may be sealed. */
	FILE_0,
	FILE_0_READ_ONLY,
	FILE_0_WRITE_ONLY,
	FILE_1,	     /* another, empty */
	FILE_SEALED, /* four pages, sealed against writing, and against more seals */
	FILE_DIRECTORY,
	FILE_PIPE,
	FILE_CLOSED, /* a number that is no open descriptor */
	NR_TEST_FILES
};

enum test_limit {
	LIMIT_AS,      /* pages above what is mapped now */
	LIMIT_DATA,    /* pages above the private writable memory now */
	LIMIT_STACK,   /* pages */
	LIMIT_MEMLOCK, /* pages */
	NR_TEST_LIMITS
};

struct op {
	u8 call;    /* enum call */
	u8 process; /* who does it */
	u64 arg[NR_ARGS];
};

struct sequence {
	unsigned n;
	struct op ops[MAX_OPS];
};

/* A name in a set of flags or of numbers. */
struct word {
	const char *name;
	u64 value;
};

const char *call_name(enum call call);
/* NR_ARGS kinds, ARG_NONE after the last. */
const u8 *call_args(enum call call);
/* Which of the call's arguments is of this kind, or -1. */
int call_arg(enum call call, enum arg_kind kind);
/* The names of a kind's values, to the first without a name; NULL: it has none. */
const struct word *arg_words(enum arg_kind kind);
/* Are the words of the kind bits that are joined? */
bool arg_is_flags(enum arg_kind kind);

/*
 * Does the operation stay in the arena on any kernel?  NULL, or why it may not.  Also refused are
 * values that an operation cannot have at all (a process or file that there is none of).
 */
const char *op_refusal(const struct op *op);

static inline bool in_arena(u64 addr, u64 len)
{
	return addr >= ARENA_BASE && addr <= ARENA_END && len <= ARENA_END - addr;
}

/* The eight bytes that a write of `value` stores.  The first is the instruction HLT, which a
 * program may not execute: a fetch of it is known to have succeeded by the fault that it gives. */
static inline u64 word_of(u64 value)
{
	return (value * 0x9e3779b97f4a7c15ULL & ~0xffULL) | 0xf4;
}

#endif
