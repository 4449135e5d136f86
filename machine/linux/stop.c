/* SPDX-License-Identifier: MIT */
/* The end of paging, when it cannot go on: all pages come back, and the program is left alone. */
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"
#include "machine/linux/window.h"
#include "machine/linux/wires.h"

#include <string.h>
#include <sys/mman.h>

/*
 * Bring back what is stored of [start, end), which is writable, or (`blindly`) is made so.  The
 * bytes go to their places by ordinary stores: nothing may be registered any more.  A page that is
 * there is newer than what is stored: it was served from the store during a fork, when the engine
 * may not be changed, and may have been written to since.
 */
static void bring_back(u64 start, u64 end, bool blindly)
{
	for (u64 va = start; va < end; va += PAGE_SIZE) {
		spinlock_t *ptl;
		pte_t *ptep = pte_find(agent.mm, va, &ptl);
		struct page *page;
		u64 slot;

		if (!ptep) {
			va = (va & PMD_MASK) + PMD_SIZE - PAGE_SIZE;
			continue;
		}
		if (!pte_is_swap(pte_read(ptep)) || proc_has_page(agent.pagemap, va))
			continue;
		if (blindly && sys(mprotect, va, PAGE_SIZE, PROT_READ | PROT_WRITE) < 0)
			continue;
		slot = pte_to_swp(pte_read(ptep)).v;
		page = swap_slot(&agent.engine.swap, slot)->page;
		if (page && window_holds(page->where))
			memcpy((void *)va, (void *)page->where, PAGE_SIZE);
		else if (swap_load(&agent.engine.swap, slot, (void *)va))
			machine_panic("a page could not be read back when paging had to stop");
	}
}

/* What the engine does not have is left as it is; what the program has not (it unmapped it, or kept
 * it from the child by MADV_DONTFORK) is in no area. */
static int bring_back_area(const struct proc_area *a, void *ctx)
{
	int prot = (a->read ? PROT_READ : 0) | (a->exec ? PROT_EXEC : 0);
	struct vma *vma;

	(void)ctx;
	if (!a->anonymous || !a->private || a->start >= USER_END)
		return 0;
	vma = find_vma(agent.mm, a->start);
	if (!vma || vma->start >= a->end)
		return 0;
	if (!a->write && sys(mprotect, a->start, a->end - a->start, PROT_READ | PROT_WRITE) < 0)
		machine_panic("a page could not be read back when paging had to stop");
	for (; vma && vma->start < a->end; vma = vma_next(vma))
		bring_back(max_of(vma->start, a->start), min_of(vma->end, a->end), false);
	if (!a->write)
		sys(mprotect, a->start, a->end - a->start, prot);
	return 0;
}

static void bring_back_all(void)
{
	if (agent.maps >= 0 && proc_areas(agent.maps, bring_back_area, NULL) == 0)
		return;
	/* There is no /proc (a chroot), so nobody can say what may be written to. */
	for (struct vma *vma = find_vma(agent.mm, 0); vma; vma = vma_next(vma))
		bring_back(vma->start, vma->end, true);
}

void agent_stop(const char *why)
{
	agent_warn(why);
	agent_set_state(AGENT_STOPPED);
	wires_end();
	if (!agent.paging)
		return;
	agent.paging = 0;
	agent.armed = 0;
	if (agent.uffd >= 0)
		sys(close, agent.uffd);
	agent.uffd = -1;
	bring_back_all();
}
