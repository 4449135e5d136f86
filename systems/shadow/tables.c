/* SPDX-License-Identifier: MIT */
/* Where shadows are, how they come and how they go; paging.h has the rules. */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/ledger.h"
#include "systems/shadow/paging.h"

int shadow_init(struct shadow *s, struct host_memory *host, unsigned room)
{
	if (room < SHADOW_LEAST_ROOM)
		vmf_panic("shadow: %u are no room", room);
	*s = (struct shadow){ .memory = host->bytes,
			      .frames = host->nr,
			      .host = host,
			      .role = SHADOW_WP | SHADOW_NXE,
			      .room = room,
			      .first_hfn = host_end_hfn(host) };
	spin_init(&s->lock);
	s->entries = calloc(room, sizeof(*s->entries));
	s->tables = calloc(room, sizeof(*s->tables));
	s->of_frame = calloc(host->nr, sizeof(*s->of_frame));
	s->stores = calloc(host->nr, sizeof(*s->stores));
	if (s->entries && s->tables && s->of_frame && s->stores)
		return 0;
	shadow_fini(s);
	return -ENOMEM;
}

void shadow_fini(struct shadow *s)
{
	free(s->entries);
	free(s->tables);
	free(s->of_frame);
	free(s->stores);
}

void shadow_lock(struct shadow *s)
{
	spin_lock(&s->lock);
}

void shadow_unlock(struct shadow *s)
{
	spin_unlock(&s->lock);
}

u32 shadow_find(const struct shadow *s, u64 gfn, enum mmu_level level)
{
	if (gfn >= s->frames)
		return SHADOW_NONE;
	/* 0 becomes SHADOW_NONE. */
	return atomic_load_explicit(&s->of_frame[gfn][level - 1], memory_order_acquire) - 1;
}

bool shadow_has(const struct shadow *s, u64 gfn, enum mmu_level level)
{
	return shadow_find(s, gfn, level) != SHADOW_NONE;
}

bool shadow_is_table(const struct shadow *s, u64 gfn)
{
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_P4D; level++)
		if (shadow_has(s, gfn, level))
			return true;
	return false;
}

pte_t *shadow_guest_table(const struct shadow *s, u64 gfn)
{
	return (pte_t *)(s->memory + gfn * PAGE_SIZE);
}

static u8 level_of(const struct shadow *s, u32 i)
{
	return atomic_load_explicit(&s->tables[i].level, memory_order_relaxed);
}

/* ---- going ---- */

void shadow_drop_entry(pte_t *entry)
{
	if (pte_present(pte_exchange(entry, (pte_t){ 0 })))
		ledger_count(PAID_ENTRY_WRITES);
}

/* Nothing leads to the shadow any more.  Several of the guest's tables may lead to one. */
static void unlink_table(struct shadow *s, u32 i, u8 level)
{
	for (u32 above = 0; above < s->room; above++) {
		if (level_of(s, above) != level + 1)
			continue;
		for (unsigned k = 0; k < PTRS_PER_TABLE; k++) {
			pte_t *e = &s->entries[above][k], old = pte_read(e);

			if (pte_present(old) && pte_pfn(old) == s->first_hfn + i)
				shadow_drop_entry(e);
		}
	}
}

void shadow_drop(struct shadow *s, u32 i)
{
	u8 level = level_of(s, i);

	atomic_store(&s->of_frame[s->tables[i].gfn][level - 1], 0);
	unlink_table(s, i, level);
	for (unsigned k = 0; k < PTRS_PER_TABLE; k++)
		shadow_drop_entry(&s->entries[i][k]);
	atomic_store(&s->tables[i].level, 0);
	s->tables[i].unsync = false;
	s->tables[i].dying = true;
	s->owes_flush = true;
}

void shadow_drop_frame(struct shadow *s, u64 gfn)
{
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_P4D; level++) {
		u32 i = shadow_find(s, gfn, level);

		if (i != SHADOW_NONE)
			shadow_drop(s, i);
	}
	s->stores[gfn] = 0;
}

void shadow_settle(struct shadow *s)
{
	if (!s->owes_flush)
		return;
	s->flush(s->ctx);
	for (u32 i = 0; i < s->room; i++)
		s->tables[i].dying = false;
	s->owes_flush = false;
}

/* ---- coming ---- */

static bool is_free(const struct shadow *s, u32 i)
{
	return !level_of(s, i) && !s->tables[i].dying;
}

void shadow_make_room(struct shadow *s, unsigned n)
{
	unsigned there = 0;

	for (u32 i = 0; i < s->room; i++)
		there += !level_of(s, i);
	for (; there < n; s->hand = (s->hand + 1) % s->room) {
		if (!level_of(s, s->hand))
			continue;
		shadow_drop(s, s->hand);
		there++;
	}
	/* Those that are dying count, too. */
	shadow_settle(s);
}

/* The frame is a table that is shadowed from now on. */
static void remove_write_access(struct shadow *s, u64 gfn)
{
	u64 hfn = host_hfn(s->host, gfn);

	for (u32 i = 0; i < s->room; i++) {
		if (level_of(s, i) != LEVEL_PTE)
			continue;
		for (unsigned k = 0; k < PTRS_PER_TABLE; k++) {
			pte_t *e = &s->entries[i][k], old = pte_read(e);

			if (!pte_present(old) || pte_pfn(old) != hfn || !pte_write(old))
				continue;
			s->owes_flush = true;
			/* What became the kernel's to be written to would stay so. */
			if (!(atomic_load(&s->role) & SHADOW_WP)) {
				shadow_drop_entry(e);
				continue;
			}
			pte_reset_bits(e, PTE_WRITE);
			ledger_count(PAID_ENTRY_WRITES);
		}
	}
}

void shadow_add(struct shadow *s, u64 gfn, enum mmu_level level)
{
	/* From the hand on, so that it comes by the oldest first. */
	u32 i = s->hand;

	while (!is_free(s, i))
		i = (i + 1) % s->room;
	remove_write_access(s, gfn);
	s->tables[i].gfn = gfn;
	atomic_store(&s->tables[i].level, (u8)level);
	atomic_store(&s->of_frame[gfn][level - 1], i + 1);
	ledger_count(PAID_TABLES);
}
