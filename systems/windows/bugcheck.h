/* SPDX-License-Identifier: MIT */
/*
 * Bug checks: the kernel found that it cannot go on, says why, and stops.
 *
 * The first one counts; nothing of the kernel side runs after it, and whoever calls is given its
 * errno.  Codes and parameters are those of the documentation of bug checks (learn.microsoft.com,
 * "Bug check code reference").
 */
#ifndef VMF_SYSTEMS_WINDOWS_BUGCHECK_H
#define VMF_SYSTEMS_WINDOWS_BUGCHECK_H

#include "engine/base/types.h"

enum bugcheck_code {
	NO_BUGCHECK = 0,
	IRQL_NOT_GREATER_OR_EQUAL = 0x09, /* raised to less than it is */
	IRQL_NOT_LESS_OR_EQUAL = 0x0a,	  /* a page that is not there, at DISPATCH_LEVEL or above */
	SPIN_LOCK_ALREADY_OWNED = 0x0f,
	SPIN_LOCK_NOT_OWNED = 0x10,
	MEMORY_MANAGEMENT = 0x1a, /* with what exactly in the first parameter */
	NO_PAGES_AVAILABLE = 0x4d,
	PAGE_FAULT_IN_NONPAGED_AREA = 0x50, /* there is nothing at the address */
	KERNEL_DATA_INPAGE_ERROR = 0x7a,    /* the page file cannot be read */
	UNEXPECTED_KERNEL_MODE_TRAP = 0x7f, /* the first parameter: which; 8 a double fault */
	ATTEMPTED_WRITE_TO_READONLY_MEMORY = 0xbe,
	BAD_POOL_CALLER = 0xc2,
	DRIVER_IRQL_NOT_LESS_OR_EQUAL = 0xd1, /* as 0x0a, by a driver's own instruction */
	ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY = 0xfc,
};

/* First parameters. */
#define TRAP_DOUBLE_FAULT	  8
#define SECTION_IS_NOT_LOCKED	  0x1010 /* of MEMORY_MANAGEMENT */
#define POOL_ALLOCATED_AT_IRQL	  8	 /* of BAD_POOL_CALLER, as all below */
#define POOL_FREED_AT_IRQL	  9
#define POOL_FREED_TWICE	  7
#define POOL_FREED_BY_ANOTHER_TAG 0xa
#define POOL_OF_NO_BYTES	  0

/* What an access was, in a bug check's third (0x50: second) parameter. */
#define BUGCHECK_READ	 0
#define BUGCHECK_WRITE	 1
#define BUGCHECK_EXECUTE 8

struct bugcheck {
	_Atomic u32 code; /* enum bugcheck_code */
	u64 parameter[4]; /* written by whoever set `code` from NO_BUGCHECK */
};

/* The kernel stops for this, if it has not stopped before.  The errno of the first. */
int bugcheck_raise(struct bugcheck *b, enum bugcheck_code code, const u64 parameter[4]);
/* 0: it runs; otherwise the errno of what stopped it. */
int bugcheck_errno(const struct bugcheck *b);

#endif
