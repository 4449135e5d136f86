/* SPDX-License-Identifier: MIT */
/* What a guest whose kernel is malicious can try: entries of its page tables that name what it has
 * not. */
#ifndef VMF_SYSTEMS_GUEST_ATTACK_H
#define VMF_SYSTEMS_GUEST_ATTACK_H

#include "systems/common/engine_system.h"

/* The kernel makes an entry of its tables, for va, whatever it likes, and flushes. */
void guest_attack_store(struct mm *mm, u64 va, pte_t *entry, pte_t pte);
/* A fresh page's entry, or the entry of the table that it is in (LEVEL_PTE, LEVEL_PMD), names frame
 * `gfn` while CPU 0 touches the page.  What comes of that. */
enum fault_reason guest_attack_touch(struct system *s, enum mmu_level level, u64 gfn, u32 access);

#endif
