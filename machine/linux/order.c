/* SPDX-License-Identifier: MIT */
/*
 * The order of changes.
 *
 * The kernel tells of a change after it has made it and let go of its lock, and of a move in two
 * messages: REMAP, and, when the moving thread has run again, UNMAP of the addresses that it left.
 * By then they may be another thread's:
 *
 *   thread 1                    thread 2                    we read
 *   mremap: X goes to Y
 *   tells REMAP X -> Y                                      REMAP X -> Y
 *                               mremap: Z goes to X
 *                               tells REMAP Z -> X          REMAP Z -> X
 *   tells UNMAP X                                           UNMAP X: of what is there now
 *
 * and so it is with munmap() in thread 1.  No message says when its change was made, so the order
 * cannot be told from them, and what thread 2 had at Z would be forgotten: zeros where its stored
 * pages were.
 *
 * Only a move brings pages that are stored to addresses that were just left; what is mapped anew
 * has none, and gets none before all is told, because the kernel lets no page be taken until then.
 * So a move goes to a place that is the program's own already (hooks.c), after whatever happened
 * there before has been told and applied.  That is so at the first moment at which no change is
 * between being made and being told, which is the moment that every fault waits for, too.
 */
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"

#include <linux/futex.h>
#include <time.h>

static struct {
	_Atomic u32 asked; /* one for each thread of the program that began to wait */
	_Atomic u32 told;  /* a futex: who asked up to here may go on */
} changes;

bool changes_asked(void)
{
	return atomic_load(&changes.asked) != atomic_load(&changes.told);
}

void changes_await(void)
{
	struct timespec most = { .tv_nsec = 20 * 1000 * 1000 };
	u32 told, want = atomic_fetch_add(&changes.asked, 1) + 1;
	long pid = sys(getpid);

	/* Not in a process that has no agent of its own: nobody would answer. */
	while (agent.paging && agent.pid == (s32)pid &&
	       (s32)((told = atomic_load(&changes.told)) - want) < 0) {
		keeper_wake();
		sys(futex, &changes.told, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, told, &most);
	}
}

void changes_look(void)
{
	u32 asked = atomic_load(&changes.asked);
	bool quiet;

	if (asked == atomic_load(&changes.told) || !gate_enter())
		return;
	/* Nothing can be mapped at 0; the question is which error comes. */
	quiet = uffd_copy(agent.uffd, 0, agent.report, PAGE_SIZE, true) != -EAGAIN;
	gate_leave();
	if (!quiet)
		return;
	/* Of two that look at once the later may write the lower number: then it is looked again.
	 */
	atomic_store(&changes.told, asked);
	sys(futex, &changes.told, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff);
}

void changes_reset(void)
{
	atomic_store(&changes.told, atomic_load(&changes.asked));
}
