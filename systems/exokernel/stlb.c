/* SPDX-License-Identifier: MIT */
#include "systems/exokernel/stlb.h"

#include "engine/mmu/error_code.h"

static struct stlb_entry *entry_for(struct stlb *s, unsigned asid, u64 va)
{
	return &s->entries[((va >> PAGE_SHIFT) ^ asid * 997) % STLB_ENTRIES];
}

static bool is_for(const struct stlb_entry *e, unsigned asid, u64 va)
{
	return e->page == (va & PAGE_MASK) && e->asid == asid;
}

void stlb_init(struct stlb *s)
{
	spin_init(&s->lock);
	s->hits = s->misses = 0;
	for (unsigned i = 0; i < STLB_ENTRIES; i++)
		s->entries[i].page = STLB_NONE;
}

bool stlb_allows(pte_t pte, u32 access)
{
	if (access & PF_WRITE)
		return pte_write(pte) && pte_dirty(pte);
	return !(access & PF_INSTR) || !pte_nx(pte);
}

bool stlb_look(struct stlb *s, unsigned asid, u64 va, u32 access, pte_t *pte)
{
	const struct stlb_entry *e = entry_for(s, asid, va);
	bool hit;

	spin_lock(&s->lock);
	hit = is_for(e, asid, va) && stlb_allows(e->pte, access);
	*pte = e->pte;
	s->hits += hit;
	s->misses += !hit;
	spin_unlock(&s->lock);
	return hit;
}

void stlb_write(struct stlb *s, unsigned asid, u64 va, pte_t pte)
{
	spin_lock(&s->lock);
	*entry_for(s, asid, va) =
		(struct stlb_entry){ .page = va & PAGE_MASK, .asid = asid, .pte = pte };
	spin_unlock(&s->lock);
}

void stlb_delete(struct stlb *s, unsigned asid, u64 va)
{
	struct stlb_entry *e = entry_for(s, asid, va);

	spin_lock(&s->lock);
	if (is_for(e, asid, va))
		e->page = STLB_NONE;
	spin_unlock(&s->lock);
}

void stlb_delete_all(struct stlb *s, unsigned asid)
{
	spin_lock(&s->lock);
	for (unsigned i = 0; i < STLB_ENTRIES; i++)
		if (s->entries[i].asid == asid)
			s->entries[i].page = STLB_NONE;
	spin_unlock(&s->lock);
}

void stlb_delete_if(struct stlb *s, bool (*f)(const void *arg, pte_t pte), const void *arg)
{
	spin_lock(&s->lock);
	for (unsigned i = 0; i < STLB_ENTRIES; i++)
		if (s->entries[i].page != STLB_NONE && f(arg, s->entries[i].pte))
			s->entries[i].page = STLB_NONE;
	spin_unlock(&s->lock);
}
