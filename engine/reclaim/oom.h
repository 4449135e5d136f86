/* SPDX-License-Identifier: MIT */
/*
 * Out of memory: a fault found no frame, and reclaim none that could go.  Somebody is killed for
 * it, so that the others live.
 *
 * The unit is the space, which is the whole of what a process has here.  Who is worth most pages
 * (resident, swapped out, and tables), with oom_score_adj thousandths of all memory added, goes.
 * Why is told in lines as Linux prints them.  What only the victim has is taken at once, by who has
 * chosen it (the reaper): so nobody waits for the victim to notice.  From then on its faults say
 * FAULT_KILLED; there is nothing in its memory any more that it could read wrongly.
 *
 * One is killed at a time: others who find no memory meanwhile wait for that.
 */
#ifndef VMF_RECLAIM_OOM_H
#define VMF_RECLAIM_OOM_H

#include "engine/base/types.h"

struct engine;
struct mm;

#define OOM_SCORE_ADJ_MIN (-1000) /* never killed */
#define OOM_SCORE_ADJ_MAX 1000

/* Whose space it is: mm_set_owner(). */
struct oom_owner {
	int pid;
	unsigned uid;
	char name[16];
	int score_adj;	 /* OOM_SCORE_ADJ_MIN .. OOM_SCORE_ADJ_MAX */
	bool unkillable; /* the first process, or the kernel's own */
};

enum oom_outcome {
	OOM_NOBODY, /* nobody can be killed, or config.oom_kill does not allow it */
	OOM_RETRY,  /* there may be memory now */
	OOM_KILLED, /* it was the caller's own space */
};

/* `current` needs a frame and there is none.  No lock held but a file's i_rwsem; may sleep. */
enum oom_outcome out_of_memory(struct mm *current);
/* Has it been killed?  Its pages may be gone. */
bool mm_is_oom_victim(const struct mm *mm);
/* How good a victim it is, in pages; negative: none.  total: pages of memory and swap. */
s64 oom_badness(const struct mm *mm, u64 total);

#endif
