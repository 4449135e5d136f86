/* SPDX-License-Identifier: MIT */
/* Tasks and their spaces; process.h. */
#include "engine/kernel/process.h"
#include "engine/machine.h"

int copy_mm(struct kernel *kernel, struct task *parent, struct task *child, u32 flags,
	    struct completion *done)
{
	struct mm *mm = parent->mm;
	int err = 0;

	if (mm && (flags & UAPI_CLONE_VM)) {
		mmget(mm);
	} else if (mm) {
		err = mm_fork(parent->mm, &mm);
		if (err)
			return err;
		kernel_attach(kernel, mm);
	}
	child->mm = mm;
	if (flags & UAPI_CLONE_VFORK) {
		atomic_store_explicit(&done->done, 0, memory_order_relaxed);
		child->vfork_done = done;
	}
	return 0;
}

void wait_for_vfork_done(struct completion *done)
{
	while (!atomic_load_explicit(&done->done, memory_order_acquire))
		machine_wait(&done->done, 0);
}

/* What the child did in the space is seen by the parent, which may be gone as soon as it is told:
 * waking does not look at the word. */
static void mm_release(struct task *task)
{
	struct completion *done = task->vfork_done;

	if (!done)
		return;
	task->vfork_done = NULL;
	atomic_store_explicit(&done->done, 1, memory_order_release);
	machine_wake(&done->done, 1);
}

int bprm_mm_init(struct kernel *kernel, const struct task *task, struct mm **mm)
{
	struct mm *old = task->mm;
	int err = mm_create(kernel->engine, old->low, old->high, mm);

	if (err)
		return err;
	(*mm)->limits = old->limits;
	(*mm)->mmap_min = old->mmap_min;
	(*mm)->lsm_mmap_min = old->lsm_mmap_min;
	kernel_attach(kernel, *mm);
	return 0;
}

struct mm *exec_mmap(struct task *task, struct mm *mm)
{
	struct mm *old = task->mm;

	task->mm = mm;
	mm_release(task);
	return old;
}

struct mm *exit_mm(struct task *task)
{
	return exec_mmap(task, NULL);
}
