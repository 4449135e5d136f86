/* SPDX-License-Identifier: MIT */
/*
 * The program's calls on CortenMM, in several files: what they have in common.  corten_do_NAME is
 * the call NAME of struct program_ops.
 */
#ifndef VMF_SYSTEMS_CORTEN_CALLS_H
#define VMF_SYSTEMS_CORTEN_CALLS_H

#include "systems/common/engine_system.h"
#include "systems/corten/corten.h"

/* The space that the CPU has loaded. */
static inline struct corten_space *corten_space_on(struct program *p, unsigned cpu)
{
	return corten_space_of(atomic_load(&corten_of_program(p)->machine->cpus[cpu].mm));
}

/* Between these two the kernel works for the program on this CPU, and it is counted. */
static inline struct corten *corten_enter(struct program *p, unsigned cpu, const char *name)
{
	struct corten *c = corten_of_program(p);

	ledger_begin(c->system.ledger, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL, name);
	return c;
}

static inline void corten_leave(void)
{
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "the call returns");
}

/* Whole pages, and at least one. */
static inline bool corten_is_range(u64 addr, u64 len)
{
	return !(addr & ~PAGE_MASK) && len && !(len & ~PAGE_MASK) && addr + len > addr;
}

/* All of it can be allocated. */
static inline bool corten_is_inside(u64 addr, u64 len)
{
	return addr >= CORTEN_LOW && addr < CORTEN_HIGH && len <= CORTEN_HIGH - addr;
}

/* ---- evict.c ---- */

/* The record names no slot of the store any more.  Under the lock of its table, as the next two. */
void corten_drop_slot(struct corten *c, struct corten_meta *meta);
/* What was written there is gone: it is as when it was allocated.  ptep NULL: nothing is there. */
void corten_drop_whole(struct corten *c, struct corten_cursor *cur, u64 va, pte_t *ptep,
		       struct corten_meta *meta);
/* For corten_walk(), with the struct corten: pages of files, and no others, leave the space. */
int corten_drop_file_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
			  struct corten_meta *meta);
void corten_do_pageout(struct program *p, unsigned cpu, u64 addr, u64 len);
void corten_do_reclaim(struct program *p, u64 pages);

/* ---- process.c ---- */

int corten_do_fork(struct program *p, unsigned cpu, unsigned child);
void corten_do_run(struct program *p, unsigned cpu, unsigned process);
void corten_do_exit(struct program *p, unsigned process);
unsigned corten_do_running(struct program *p, unsigned cpu);

/* ---- file_calls.c ---- */

int corten_do_file_create(struct program *p, int file, bool in_memory);
s64 corten_do_file_read(struct program *p, int file, u64 pos, void *bytes, u64 n);
s64 corten_do_file_write(struct program *p, int file, u64 pos, const void *bytes, u64 n);
int corten_do_file_truncate(struct program *p, int file, u64 size);
int corten_do_file_punch(struct program *p, int file, u64 pos, u64 len);
int corten_do_file_sync(struct program *p, int file);
void corten_do_file_evict(struct program *p, int file);
int corten_do_file_fail(struct program *p, int file, enum ramfile_io io, int err);
void corten_do_file_close(struct program *p, int file);

/* ---- check.c ---- */

void corten_do_check(struct program *p);

#endif
