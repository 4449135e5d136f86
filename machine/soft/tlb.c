/* SPDX-License-Identifier: MIT */
#include "machine/soft/tlb.h"

#include "engine/base/text.h"

static struct tlb_origin *origin_of(struct soft_cpu *cpu, const struct tlb_entry *t)
{
	return &cpu->origin[t - cpu->tlb];
}

static void drop(struct soft_cpu *cpu, struct tlb_entry *t)
{
	struct tlb_origin *o = origin_of(cpu, t);

	if (o->page != TLB_NONE && o->level > LEVEL_PTE)
		cpu->nr_large--;
	o->page = TLB_NONE;
	t->read = t->write = t->fetch = TLB_NONE;
}

static void drop_large(struct soft_cpu *cpu, struct tlb_origin *o)
{
	if (o->page != TLB_NONE)
		cpu->nr_large--;
	o->page = TLB_NONE;
}

static struct tlb_origin *large_for(struct soft_cpu *cpu, u64 va)
{
	return &cpu->large[va >> PMD_SHIFT & (TLB_LARGE_ENTRIES - 1)];
}

static bool is_for(const struct tlb_origin *o, u32 pcid)
{
	return o->page != TLB_NONE && (o->global || o->pcid == pcid);
}

void tlb_drop_all(struct soft_cpu *cpu, bool globals)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (globals || !cpu->origin[i].global)
			drop(cpu, &cpu->tlb[i]);
	for (unsigned i = 0; i < TLB_LARGE_ENTRIES; i++)
		if (globals || !cpu->large[i].global)
			drop_large(cpu, &cpu->large[i]);
}

void tlb_drop_pcid(struct soft_cpu *cpu, u32 pcid)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (!cpu->origin[i].global && cpu->origin[i].pcid == pcid)
			drop(cpu, &cpu->tlb[i]);
	for (unsigned i = 0; i < TLB_LARGE_ENTRIES; i++)
		if (!cpu->large[i].global && cpu->large[i].pcid == pcid)
			drop_large(cpu, &cpu->large[i]);
}

/* Does the translation that the entry is a piece of overlap [start, end)? */
static bool overlaps(const struct tlb_origin *o, u64 start, u64 end)
{
	u64 size = 1ULL << level_shift(o->level), first = o->page & ~(size - 1);

	return first < end && start < first + size;
}

void tlb_drop_range(struct soft_cpu *cpu, u32 pcid, u64 start, u64 end)
{
	if (!cpu->nr_large && end - start <= TLB_ENTRIES / 4 * PAGE_SIZE) {
		for (u64 va = start & PAGE_MASK; va < end; va += PAGE_SIZE) {
			struct tlb_entry *t = tlb_entry_for(cpu, va);
			struct tlb_origin *o = origin_of(cpu, t);

			if (is_for(o, pcid) && o->page == va)
				drop(cpu, t);
		}
		return;
	}
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (is_for(&cpu->origin[i], pcid) && overlaps(&cpu->origin[i], start, end))
			drop(cpu, &cpu->tlb[i]);
	for (unsigned i = 0; i < TLB_LARGE_ENTRIES; i++)
		if (is_for(&cpu->large[i], pcid) && overlaps(&cpu->large[i], start, end))
			drop_large(cpu, &cpu->large[i]);
}

/* Which user-mode accesses need not look twice?  A write only if the page is dirty already, so that
 * the first one walks and sets the bit. */
static void set_tags(struct soft_cpu *cpu, struct tlb_entry *t)
{
	const struct mmu_control *c = &cpu->control;
	const struct tlb_origin *o = origin_of(cpu, t);
	u64 tag = o->page | cpu->pcid;
	bool data = o->user && !(c->pke && pkru_no_access(c->pkru, o->key));
	bool write = o->write && o->dirty && !(c->pke && pkru_no_write(c->pkru, o->key));

	t->read = data ? tag : TLB_NONE;
	t->write = data && write ? tag : TLB_NONE;
	t->fetch = o->user && !(c->nxe && o->nx) ? tag : TLB_NONE;
}

static u32 generation_of(const struct soft_machine *m, u64 pfn)
{
	return atomic_load_explicit(&m->generations[pfn], memory_order_relaxed);
}

static char *bytes_of(const struct soft_cpu *cpu, u64 pfn)
{
	return cpu->machine->memory + (pfn << PAGE_SHIFT);
}

/* The entry for va's page, from what is known of it. */
static struct tlb_entry *put(struct soft_cpu *cpu, u64 va, const struct tlb_origin *from,
			     char *host)
{
	struct tlb_entry *t = tlb_entry_for(cpu, va);

	drop(cpu, t);
	*origin_of(cpu, t) = *from;
	cpu->nr_large += from->level > LEVEL_PTE;
	t->host = host;
	set_tags(cpu, t);
	return t;
}

/* Of a 2 MiB page: the entry for all of it. */
static void put_large(struct soft_cpu *cpu, u64 va, const struct tlb_origin *piece)
{
	struct tlb_origin *o = large_for(cpu, va);

	drop_large(cpu, o);
	*o = *piece;
	o->page = va & PMD_MASK;
	o->pfn = piece->pfn & ~(u64)(PTRS_PER_TABLE - 1);
	o->generation = generation_of(cpu->machine, o->pfn);
	cpu->nr_large++;
}

/* A piece of a large entry that knows va, or NULL. */
static struct tlb_entry *from_large(struct soft_cpu *cpu, u64 va)
{
	const struct soft_machine *m = cpu->machine;
	const struct tlb_origin *o = large_for(cpu, va);
	struct tlb_origin piece = *o;

	if (!is_for(o, cpu->pcid) || o->page != (va & PMD_MASK))
		return NULL;
	if (m->checked && generation_of(m, o->pfn) != o->generation)
		vmf_panic("soft: CPU %u still translates %lx to a huge page at frame %lx, which "
			  "was freed: a flush was forgotten",
			  cpu->number, (unsigned long)va, (unsigned long)o->pfn);
	piece.page = va & PAGE_MASK;
	piece.pfn += (va & ~PMD_MASK) >> PAGE_SHIFT;
	piece.generation = generation_of(m, piece.pfn);
	piece.pcid = (u16)cpu->pcid;
	return put(cpu, va, &piece, bytes_of(cpu, piece.pfn));
}

struct tlb_entry *tlb_fill(struct soft_cpu *cpu, u64 va, const struct walk_result *w, char *host)
{
	struct soft_machine *m = cpu->machine;
	u64 pfn = (host ? (u64)(host - m->memory) : w->phys) >> PAGE_SHIFT;
	struct tlb_origin origin;

	if (pfn >= m->nr_table + m->nr_user)
		vmf_panic("soft: entry for %lx names frame %lx, which is not there",
			  (unsigned long)va, (unsigned long)pfn);
	origin = (struct tlb_origin){
		.page = va & PAGE_MASK,
		.pfn = pfn,
		.generation = generation_of(m, pfn),
		.pcid = (u16)cpu->pcid,
		.level = (u8)w->level,
		.key = (u8)pte_key(w->leaf),
		.write = w->write,
		.user = w->user,
		.nx = w->nx,
		.dirty = pte_dirty(w->leaf),
		.global = cpu->control.pge && pte_global(w->leaf),
	};
	/* Where there is a second stage, what is large in the first is not so below. */
	if (host)
		return put(cpu, va, &origin, host);
	if (w->level == LEVEL_PMD)
		put_large(cpu, va, &origin);
	return put(cpu, va, &origin, bytes_of(cpu, pfn));
}

enum tlb_answer tlb_look(struct soft_cpu *cpu, const struct mmu_control *control, u64 va,
			 u32 access, struct tlb_entry **entry, u32 *code)
{
	struct tlb_entry *t = tlb_entry_for(cpu, va);
	const struct tlb_origin *o = origin_of(cpu, t);

	if ((!is_for(o, cpu->pcid) || o->page != (va & PAGE_MASK)) && !from_large(cpu, va))
		return TLB_MISS;
	*code = mmu_check_rights(control, access, o->write, o->user, o->nx, o->key);
	if (*code)
		return TLB_FORBIDS;
	if ((access & PF_WRITE) && !o->dirty)
		return TLB_MISS;
	if (o->global && o->pcid != cpu->pcid) {
		/* Made under another PCID: from now on it is found at once under this. */
		origin_of(cpu, t)->pcid = cpu->pcid;
		set_tags(cpu, t);
	}
	*entry = t;
	return TLB_HIT;
}

void tlb_judge_again(struct soft_cpu *cpu)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (cpu->origin[i].page != TLB_NONE)
			set_tags(cpu, &cpu->tlb[i]);
}
