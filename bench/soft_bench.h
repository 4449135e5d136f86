/* SPDX-License-Identifier: MIT */
/*
 * What the soft_* benchmarks have in common: contests between the running kernel and the engine on
 * the soft machine.
 *
 * The kernel's side works in a process of its own, which has nothing but what the contest gives it,
 * and is asked for one round at a time; so the two take turns.  Each side says what one unit of
 * work took, in nanoseconds of its thread's CPU time: who else uses the machine costs neither of
 * them time, only cache.
 */
#ifndef VMF_BENCH_SOFT_BENCH_H
#define VMF_BENCH_SOFT_BENCH_H

#include "machine/soft/soft.h"

struct contest {
	const char *name;
	const char *unit;
	double target; /* most ours / kernel; without a kernel's side: most of the unit; 0: none */
	/* One round each.  arg is the contest's.  kernel may be NULL. */
	double (*kernel)(u64 arg);
	double (*ours)(u64 arg);
	u64 arg;
	/* Of what `ours` has counted in all its rounds: a JSON object, or NULL. */
	void (*print)(void);
};

/* What main() does: run the contests and print a line of JSON for each, with every round's figure.
 * `prog [rounds [part]]`: 11 rounds if not given; only those with `part` in their name.  start()
 * (may be NULL) is called once, after the kernel's process has been made. */
int run_contests(const struct contest *contests, unsigned n, void (*start)(void), int argc,
		 char **argv);

/* Nanoseconds of CPU time of this thread, and of all threads of the process. */
double thread_ns(void);
double process_ns(void);
/* Say what went wrong and exit. */
_Noreturn void give_up(const char *what);

/* A machine with so many CPUs and frames for programs, all its memory touched, in huge pages as the
 * kernel's direct map is.  prefetch as in struct engine_config. */
struct soft_machine *bench_machine(unsigned cpus, u64 frames, unsigned prefetch);
/* An empty space on it, loaded on all its CPUs. */
struct mm *bench_space(struct soft_machine *m);

/* For the kernel's side: mmap() of private anonymous memory, in small pages. */
char *map_small_pages(size_t bytes);

#define MIB(n)	 ((u64)(n) << 20)
#define PAGES(n) (MIB(n) >> PAGE_SHIFT)

#endif
