/* SPDX-License-Identifier: MIT */
/*
 * A library operating system: this project's engine over a table of mmu_ops that are calls of the
 * exokernel, and what it does when the kernel wants frames back.
 *
 * The engine knows all frames of the machine by their numbers, and has those that its balloon does
 * not hold: a frame that is the kernel's, or another library's, is in the balloon, as an allocated
 * page that nobody uses.  Giving one back is to allocate it (the engine evicts for that what its
 * own policy says); getting one is to free it.  A frame that was repossessed by force is taken off
 * for good, as broken memory is: its page moves to another, from where the kernel has saved it.
 */
#ifndef VMF_EXOKERNEL_LIBRARY_H
#define VMF_EXOKERNEL_LIBRARY_H

#include "engine/base/text.h"
#include "systems/common/engine_system.h"
#include "systems/exokernel/xok.h"

#define LIBRARY_CAP   0			/* where each environment has its capability */
#define LIBRARY_STACK 0x7f8000000000ULL /* where its exception stack is: above all areas */

struct library {
	struct engine *engine;
	struct mmu_ops mmu; /* what the engine calls */
	struct xok *xok;
	unsigned env; /* its first environment */
	u32 resource;
	struct page **balloon; /* [nr_frames]; lock */
	u64 nr_balloon;
	spinlock_t lock;
	spinlock_t repairing;
	u64 wish; /* frames that it asks for at a time when it is short; 0: it does not */
	_Atomic bool refused; /* it got none, in this time slice */
	/* Of each of its environments' exception stacks; NULL: it has none. */
	struct page *stacks[PROGRAM_PROCESSES][XOK_STACK_PAGES];
};

extern const struct xok_entries library_entries;

/*
 * `e`, which has run nothing yet, becomes the engine of a library whose first environment is `env`,
 * which has its capability.  l->mmu is all that mmu_ops have, and the library's calls in place of
 * some of them; frames that are not of its resource go into the balloon.  0, -ENOMEM.
 */
int library_init(struct library *l, struct engine *e, struct xok *x, unsigned env,
		 const struct mmu_ops *mmu);
void library_fini(struct library *l);

static inline struct library *library_of(const struct mm *mm)
{
	return container_of(mm->engine->mmu, struct library, mmu);
}

/* An exception stack for that environment.  0, -ENOMEM. */
int library_give_stack(struct library *l, unsigned env);
/* The environment has ended: the pages are free. */
void library_free_stack(struct library *l, unsigned env);

/* Whose table that is; XOK_ENVS: of a child that is just being made, or could not be, or of an
 * environment that was killed. */
unsigned library_env(const struct library *l, const struct mm *mm);
/* The library takes up to n frames that nobody has.  How many it got. */
u64 library_ask(struct library *l, u64 n);
/* Has the kernel taken the frame away, and its page has not moved yet? */
bool library_lost(const struct library *l, u64 pfn);
/* It reads its repossession vector, as it does first of all when it is entered. */
void library_read_vector(struct library *l);
/* Entries of a child's table, which has just become this environment: the kernel is asked for all
 * of them in one call. */
void library_ask_for_entries(struct library *l, unsigned env);

/* It makes a call of the kernel with so many operations, which returns. */
void library_call(const char *what, u64 operations);
void library_returns(void);

#endif
