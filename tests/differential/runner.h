/* SPDX-License-Identifier: MIT */
/*
 * The processes in which a sequence really happens.
 *
 *   tester ---- zygote -+- runner 0 --- runner 1 ...
 *
 * The zygote is forked from the tester before that has much memory; it gives up its capabilities
 * and forks a runner for each sequence.  The runners hold a baton: who has it does the operations
 * that are his and passes it to whom the next one belongs.  All share `struct real_control`.
 *
 * A runner must not disturb what it measures.  Between the two readings of its fault counts it
 * calls nothing but the kernel, by bare system calls, and touches only its stack and its `struct
 * scratch`, whose pages it has written to since it was forked.
 */
#ifndef VMF_DIFFERENTIAL_RUNNER_H
#define VMF_DIFFERENTIAL_RUNNER_H

#include "tests/differential/record.h"

/* turn: the operation that the process is to go on with, plus one; or */
#define TURN_NONE 0
#define TURN_EXIT (~0u)

struct real_control {
	_Atomic u32 go;	  /* number of the sequence to be done; the tester counts it up */
	_Atomic u32 done; /* ... that was done last; set by the zygote */
	u32 status;	  /* of runner 0, as wait(2) has it */
	_Atomic u32 turn[NR_PROCESSES];
	u32 pid[NR_PROCESSES]; /* 0: not alive */
	u8 parent[NR_PROCESSES];
	u64 max_map_count;
	struct sequence sequence;
	struct trace trace;
};

/* What a runner keeps outside of its stack.  Page aligned; all of it is written to after a fork. */
struct scratch {
	/* The access that is being made, for the signal handler; 0: none, a signal is a failure. */
	volatile u64 touching;
	volatile u64 touch_ip; /* where the program was when the signal came */
	struct record_signal signal;
	u64 zero_time[2];
	unsigned char resident[ARENA_PAGES];
	u64 pagemap[ARENA_PAGES];
	char text[4096];
	char signal_stack[64 << 10];
};

struct runner {
	struct real_control *control;
	struct scratch *scratch;
	unsigned process;
	u64 stack_top; /* the end of the page that holds the outermost frame */
	int maps, pagemap, smaps;
	u64 inodes[SEEN_SEALED]; /* of the files, from SEEN_FILE_0 on */
};

/* Never returns: does one sequence after the other. */
_Noreturn void zygote_main(struct real_control *control, struct scratch *scratch);

/* ---- runner_look.c ---- */

/* Open what /proc tells of this process. */
void look_open(struct runner *r);
void look_close(struct runner *r);
/* Write an observation to the log; with `closely`, from smaps.  False: it could not be read. */
bool look(struct runner *r, struct record *record, bool closely);
/* Areas in the process, of all memory. */
u64 look_count_areas(struct runner *r);
/* A figure in pages of /proc/self/statm (its first), or of a line of /proc/self/status. */
u64 look_total_pages(struct runner *r);
u64 look_status_pages(struct runner *r, const char *line);

/* ---- runner_heap.c ---- */

/*
 * Begin the heap of this process at HEAP_START, empty; so many bytes of data count with it against
 * RLIMIT_DATA.  False: the kernel does not let it.
 */
bool heap_place(u64 data_bytes);
/* Does the heap end where it is asked to, one page on and back again? */
bool heap_moves(void);

/* ---- runner_touch.c ---- */

/* Install the handler for SIGSEGV and SIGBUS, on the scratch's stack. */
void touch_init(struct scratch *scratch);
/* One access; s->signal says which signal came, if any. */
u64 touch_read(struct scratch *s, u64 addr);
void touch_write(struct scratch *s, u64 addr, u64 value);
void touch_exec(struct scratch *s, u64 addr);

#endif
