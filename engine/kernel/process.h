/* SPDX-License-Identifier: MIT */
/*
 * Tasks and their spaces: what clone(2), vfork(2), execve(2) and exit(2) do with memory.
 *
 *   fork                the child has a copy (mm_fork)
 *   clone(UAPI_CLONE_VM)     the child runs in the parent's space, which lives until its last user
 * goes vfork               the same, and the parent sleeps until the child has left the space by
 * exec or exit: the two have one stack exec                a new space in place of the old one,
 * which loses a user exit                none any more
 *
 * A space that is left is not let go here: a CPU has it loaded.  It is handed back, to be put
 * (mmput) when the machine has loaded another or none.
 */
#ifndef VMF_KERNEL_PROCESS_H
#define VMF_KERNEL_PROCESS_H

#include "engine/kernel/kernel.h"
#include "engine/kernel/task.h"

/* clone(2)'s flags, as far as they are about memory. */
#define UAPI_CLONE_VM	 0x00000100u
#define UAPI_CLONE_VFORK 0x00004000u

/* Where a vfork's parent sleeps; the parent's own, and in its child's task until that has left. */
struct completion {
	_Atomic u32 done; /* a futex */
};

/*
 * Give the child its space, of the parent's by `flags`; with UAPI_CLONE_VFORK `done` goes to the
 * child, and the parent is to wait for it when the child runs.  0, -ENOMEM, -ENOSYS: it has none.
 */
int copy_mm(struct kernel *kernel, struct task *parent, struct task *child, u32 flags,
	    struct completion *done);
/* Sleep until the child has left the space.  No lock of the engine is held. */
void wait_for_vfork_done(struct completion *done);

/*
 * A new space for the program that the task is about to become: with room where the old one has
 * it, with its limits, and with nothing in it.  0, -ENOMEM: the task may go on as it was.
 */
int bprm_mm_init(struct kernel *kernel, const struct task *task, struct mm **mm);
/* The point of no return: the task is in `mm` from now on.  The space that it has left. */
struct mm *exec_mmap(struct task *task, struct mm *mm);
/* The task has no space any more.  The one that it has left, or NULL. */
struct mm *exit_mm(struct task *task);

#endif
