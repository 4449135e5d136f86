/* SPDX-License-Identifier: MIT */
/* A script after parsing: what script_parse.c makes and script_run.c runs. */
#ifndef VMF_SOFT_SCRIPT_OPS_H
#define VMF_SOFT_SCRIPT_OPS_H

#include "machine/soft/script.h"

enum script_verb {
	OP_MAP,
	OP_UNMAP,
	OP_PROTECT,
	OP_REMAP,
	OP_ADVISE,
	OP_READ,
	OP_WRITE,
	OP_TOUCH,
	OP_TOGETHER,
	OP_COPYIN,
	OP_COPYOUT,
	OP_KMAP,
	OP_KREAD,
	OP_KWRITE,
	OP_DIRTY,
	OP_PAGEOUT,
	OP_RECLAIM,
	OP_FORK,
	OP_PROCESS,
	OP_EXIT,
	OP_FILE,
	OP_SHMEM,
	OP_FREAD,
	OP_FWRITE,
	OP_TRUNCATE,
	OP_PUNCH,
	OP_SYNC,
	OP_EVICT,
	OP_FAIL,
	OP_CLOSE,
	OP_CPU,
	OP_CHECK,
	OP_MEASURE,
	OP_EXPECT,
};

#define SCRIPT_NAMES 26

/* An offset from a name, or (name < 0) a number. */
struct script_addr {
	int name;
	u64 offset;
};

enum outcome_kind { OUT_OK, OUT_ADDRESS, OUT_ERRNO, OUT_FAULT };

/* What came, or is to come, of an operation. */
struct outcome {
	enum outcome_kind kind;
	int err;		  /* OUT_ERRNO: positive */
	enum fault_reason reason; /* OUT_FAULT */
	u64 address;		  /* OUT_ADDRESS */
};

struct script_op {
	unsigned line;
	enum script_verb verb;
	struct script_addr addr, to;
	u64 len, new_len;
	u32 prot, flags, vm_flags; /* VM_READ ...; VMAP_ or VREMAP_; VM_LOCKED ... */
	enum vm_advice advice;
	int byte;    /* -1: any */
	u32 access;  /* touch: PF_WRITE, PF_INSTR or 0 */
	int as;	     /* name for the result; -1: none */
	int process; /* the name; -1: the first */
	unsigned cpu;
	int file;   /* 0 .. 25; -1: none, or (fail) the swap area */
	u64 offset; /* in it */
	enum ramfile_io io;
	int err; /* to order: -EIO, ... */
	enum program_counter counter;
	u64 count;
	struct outcome expected;
	struct script_addr expected_address; /* of OUT_ADDRESS */
};

struct script {
	size_t n;
	struct script_op *ops;
};

const char *script_verb_name(enum script_verb verb);
const char *script_counter_name(enum program_counter counter);
/* An outcome in the words of the language.  At least 32 bytes; returns buf. */
const char *outcome_text(const struct outcome *o, char *buf, size_t size);

#endif
