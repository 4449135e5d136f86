/* SPDX-License-Identifier: MIT */
#include "engine/base/text.h"
#include "engine/space/huge.h"
#include "systems/common/guest_attack.h"

void guest_attack_store(struct mm *mm, u64 va, pte_t *entry, pte_t pte)
{
	pte_put_back(mm, va, entry, pte);
	mm->engine->mmu->flush(mm, va & PAGE_MASK, (va & PAGE_MASK) + PAGE_SIZE);
}

enum fault_reason guest_attack_touch(struct system *s, enum mmu_level level, u64 gfn, u32 access)
{
	const struct program_map area = { .len = PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	struct mm *mm = engine_system_of(s)->mm;
	struct program *p = s->program;
	s64 at = p->ops->map(p, 0, &area);
	enum fault_reason reason;
	u64 va = (u64)at, word = 1;
	pte_t *entry, old;
	spinlock_t *ptl;

	if (at < 0 || p->ops->access(p, 0, va, PF_WRITE, &word, sizeof(word)) != FAULT_OK)
		vmf_panic("an attack finds no memory to begin with");
	entry = level == LEVEL_PTE ? pte_find(mm, va, &ptl) : pmd_find(mm, va, &ptl);
	old = pte_read(entry);
	guest_attack_store(mm, va, entry, pte_make(gfn, old.v & ~PTE_PFN_MASK));
	reason = p->ops->access(p, 0, va, access, &word, sizeof(word));
	guest_attack_store(mm, va, entry, old);
	return reason;
}
