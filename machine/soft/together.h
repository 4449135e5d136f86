/* SPDX-License-Identifier: MIT */
/* Accesses to each page of a range, by one CPU of a program or by all at once. */
#ifndef VMF_SOFT_TOGETHER_H
#define VMF_SOFT_TOGETHER_H

#include "machine/soft/program.h"

/* One access (PF_WRITE, PF_INSTR or 0) to each page of [va, va + len), which leaves its bytes as
 * they are.  FAULT_OK, or the first that is not. */
enum fault_reason program_touch(struct program *p, unsigned cpu, u64 va, u64 len, u32 access);

/*
 * The same by all CPUs, in a thread each, which run the same process.  They meet: whose access to a
 * page faults waits, before anybody fields the fault, until each of the others has come to that
 * page, too, and faults or needs not.  So a page that is fresh is faulted on by every CPU before
 * any has it, however the host runs the threads.
 */
enum fault_reason program_touch_together(struct program *p, u64 va, u64 len, u32 access);

#endif
