/* SPDX-License-Identifier: MIT */
/*
 * The calls of a program whose library operating system has an environment for each of its
 * processes: environment l->env + i is process i's.  Each call is the library's own, and goes to
 * the kernel for what only that can do.  `p` is a soft_program's, whose ops they take the place of;
 * the thread has said whose ledger it counts in.
 */
#ifndef VMF_EXOKERNEL_LIBRARY_PROGRAM_H
#define VMF_EXOKERNEL_LIBRARY_PROGRAM_H

#include "systems/exokernel/library.h"

/* A child, in a new environment.  0, -ENOMEM. */
int library_fork(struct library *l, struct program *p, unsigned cpu, unsigned child);
/* The process ends, and its environment; CPUs in whose slice it was go on with the first. */
void library_exit(struct library *l, struct program *p, unsigned process);
/* From now on the CPU is in that process's slice. */
void library_run(struct library *l, struct program *p, unsigned cpu, unsigned process);
/* The library touches the program's memory as the program does, for read() (PF_WRITE) or write()
 * (0).  Bytes that it could not. */
u64 library_copy(struct program *p, unsigned cpu, u64 va, char *bytes, u64 n, u32 access);

#endif
