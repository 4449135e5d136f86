/* SPDX-License-Identifier: MIT */
/* The walk in two dimensions: each table of the first stage is found through the second. */
#include "machine/soft/second.h"

struct two_stages {
	struct soft_cpu *cpu;
	u64 va;
	u32 user; /* PF_USER, or 0 */
};

static bool through_second(const struct two_stages *t, u64 gpa, u32 access,
			   struct second_page *page)
{
	struct soft_second_stage *s = t->cpu->machine->second;

	return s->translate(s, t->cpu, t->va, gpa, access | t->user, page);
}

static pte_t *guest_table(void *ctx, u64 gpa)
{
	struct second_page page;

	if (!through_second(ctx, gpa, SECOND_TABLE | PF_WRITE, &page))
		return NULL;
	return (pte_t *)page.host;
}

static enum walk_status walk_both(struct soft_cpu *cpu, const struct mmu_control *control, u64 root,
				  u64 va, u32 access, struct walk_result *w, char **host)
{
	struct two_stages t = { .cpu = cpu, .va = va, .user = access & PF_USER };
	enum walk_status status = mmu_walk(control, root, va, access, guest_table, &t, w);
	struct second_page page;

	if (status != WALK_OK)
		return status;
	if (!through_second(&t, w->phys, access & (PF_WRITE | PF_INSTR), &page)) {
		w->level--;
		return WALK_UNREACHABLE;
	}
	/* Writes come back here until both stages have noted one; so fetches, until both allow. */
	if (!page.write)
		w->leaf = pte_without(w->leaf, PTE_DIRTY);
	w->nx |= !page.fetch;
	*host = page.host;
	return WALK_OK;
}

enum walk_status second_walk(struct soft_cpu *cpu, const struct mmu_control *control, u64 root,
			     u64 va, u32 access, struct walk_result *w, char **host)
{
	struct soft_second_stage *s = cpu->machine->second;

	if (s->walk)
		return s->walk(s, cpu, control, root, va, access, w, host);
	return walk_both(cpu, control, root, va, access, w, host);
}
