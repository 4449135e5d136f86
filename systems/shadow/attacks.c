/* SPDX-License-Identifier: MIT */
/* What a guest's malicious kernel, or its program, tries. */
#include "engine/base/errno.h"
#include "engine/space/huge.h"
#include "systems/common/guest_attack.h"
#include "systems/shadow/shadow.h"

static int touch_frame(struct system *s, enum mmu_level level, u64 gfn)
{
	enum fault_reason reason = guest_attack_touch(s, level, gfn, 0);

	return reason == FAULT_BUS ? shadow_error(s, 0) : 1;
}

static u64 behind_memory(struct system *s)
{
	return shadow_of(s)->frames;
}

static int frame_behind_memory(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, behind_memory(s));
}

static int host_frame(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, host_hfn(shadow_of(s)->host, 0));
}

static int shadow_table(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, shadow_of(s)->first_hfn);
}

static int table_behind_memory(struct system *s)
{
	return touch_frame(s, LEVEL_PMD, behind_memory(s));
}

static int root_behind_memory(struct system *s)
{
	struct mm *mm = engine_system_of(s)->mm;
	u64 root = mm->pgd_phys, word;
	enum fault_reason reason;

	mm->pgd_phys = behind_memory(s) << PAGE_SHIFT;
	reason = s->program->ops->access(s->program, 0, PAGE_SIZE, 0, &word, sizeof(word));
	mm->pgd_phys = root;
	return reason == FAULT_BUS ? shadow_error(s, 0) : 1;
}

/* Two pages in different leaf tables, both there: the program is given the leaf table of `va` at
 * `at`, to write to. */
struct given {
	struct mm *mm;
	u64 va, at;
	pte_t *entry, old; /* of `at` */
};

static bool give_table(struct system *s, struct given *g)
{
	const struct program_map area = { .len = 2 * PMD_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	struct program *p = s->program;
	s64 at = p->ops->map(p, 0, &area);
	spinlock_t *ptl;
	u64 word = 1;

	g->mm = engine_system_of(s)->mm;
	g->at = ((u64)at + PMD_SIZE) & PMD_MASK;
	g->va = g->at - PAGE_SIZE;
	if (at < 0 || p->ops->access(p, 0, g->at, PF_WRITE, &word, sizeof(word)) != FAULT_OK ||
	    p->ops->access(p, 0, g->va, PF_WRITE, &word, sizeof(word)) != FAULT_OK)
		return false;
	g->entry = pte_find(g->mm, g->at, &ptl);
	g->old = pte_read(g->entry);
	guest_attack_store(g->mm, g->at, g->entry,
			   pte_make(pte_pfn(pte_read(pmd_find(g->mm, g->va, &ptl))),
				    g->old.v & ~PTE_PFN_MASK));
	return true;
}

static void take_back(const struct given *g)
{
	guest_attack_store(g->mm, g->at, g->entry, g->old);
}

/* The program writes an entry of its own, for a frame that the guest has not. */
static int program_writes_its_table(struct system *s)
{
	struct program *p = s->program;
	enum fault_reason reason;
	struct given g;
	pte_t *entry, old;
	spinlock_t *ptl;
	u64 slot, word;

	if (!give_table(s, &g))
		return 1;
	entry = pte_find(g.mm, g.va, &ptl);
	old = pte_read(entry);
	slot = g.at + level_index(LEVEL_PTE, g.va) * sizeof(pte_t);
	word = pte_make(behind_memory(s), old.v & ~PTE_PFN_MASK).v;
	reason = p->ops->access(p, 0, slot, PF_WRITE, &word, sizeof(word));
	if (reason != FAULT_OK || pte_read(entry).v != word)
		return 1;
	g.mm->engine->mmu->flush(g.mm, g.va, g.va + PAGE_SIZE);
	reason = p->ops->access(p, 0, g.va, 0, &word, sizeof(word));
	guest_attack_store(g.mm, g.va, entry, old);
	take_back(&g);
	return reason == FAULT_BUS ? shadow_error(s, 0) : 1;
}

/* And by way of that very table. */
static int table_on_the_way_to_itself(struct system *s)
{
	struct program *p = s->program;
	enum fault_reason reason;
	struct given g;
	spinlock_t *ptl;
	u64 word = 1;

	if (!give_table(s, &g))
		return 1;
	guest_attack_store(
		g.mm, g.at, g.entry,
		pte_make(pte_pfn(pte_read(pmd_find(g.mm, g.at, &ptl))), g.old.v & ~PTE_PFN_MASK));
	reason = p->ops->access(p, 0, g.at, PF_WRITE, &word, sizeof(word));
	take_back(&g);
	return reason == FAULT_BUS ? shadow_error(s, 0) : 1;
}

/* The program has a page: what was there before the guest's kernel
 * changed the entry, twice so that the table is out of sync if it ever is, must not be there after
 * its flush. */
static int stale_after_the_flush(struct system *s)
{
	struct program *p = s->program;
	enum fault_reason reason;
	struct given g;
	u64 word = 1;

	if (!give_table(s, &g))
		return 1;
	take_back(&g);
	if (p->ops->access(p, 0, g.at, PF_WRITE, &word, sizeof(word)) != FAULT_OK)
		return 1;
	pte_put_back(g.mm, g.at, g.entry, pte_without(g.old, PTE_WRITE));
	guest_attack_store(g.mm, g.at, g.entry,
			   pte_make(behind_memory(s), g.old.v & ~PTE_PFN_MASK));
	reason = p->ops->access(p, 0, g.at, PF_WRITE, &word, sizeof(word));
	take_back(&g);
	return reason == FAULT_BUS ? shadow_error(s, 0) : 1;
}

/* The guest's root is its own second, third and last table: its program sees it, and cannot write
 * to it. */
static int root_in_itself(struct system *s)
{
	struct program *p = s->program;
	struct mm *mm = engine_system_of(s)->mm;
	const unsigned slot = PTRS_PER_TABLE / 2 - 1;
	u64 root = mm->pgd_phys >> PAGE_SHIFT, va = 0, word;
	enum fault_reason seen, written;
	pte_t own = pte_make(root, PTE_PRESENT | PTE_WRITE | PTE_USER);

	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_P4D; level++)
		va |= (u64)slot << level_shift(level);
	guest_attack_store(mm, va, &mm->pgd[slot], own);
	seen = p->ops->access(p, 0, va + slot * sizeof(pte_t), 0, &word, sizeof(word));
	seen = pte_pfn((pte_t){ word }) == root ? seen : FAULT_MAPERR;
	written = p->ops->access(p, 0, va, PF_WRITE, &word, sizeof(word));
	guest_attack_store(mm, va, &mm->pgd[slot], (pte_t){ 0 });
	return seen == FAULT_OK && written == FAULT_BUS ? shadow_error(s, 0) : 1;
}

const struct system_attack shadow_attacks[SHADOW_ATTACKS] = {
	{ "a guest maps a frame behind its memory", frame_behind_memory, -EFAULT },
	{ "a guest takes a host's frame number for its own", host_frame, -EFAULT },
	{ "a guest maps a shadow", shadow_table, -EFAULT },
	{ "a guest's page table is where it has no memory", table_behind_memory, -EFAULT },
	{ "a guest's root is where it has no memory", root_behind_memory, -EFAULT },
	{ "a program goes on in what its guest took away", stale_after_the_flush, -EFAULT },
	{ "a program writes to a root that is a table of its own", root_in_itself, -EBUSY },
	{ "a program writes entries of its own", program_writes_its_table, -EFAULT },
	{ "a program writes to the table by which it does", table_on_the_way_to_itself, -EBUSY },
};
