/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/ledger.h"
#include "systems/xen/frames.h"

/* What an entry may have beside a frame's number. */
#define AVAILABLE  (0xe00ULL | 0x7ffULL << 52)
#define UPPER_BITS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY | AVAILABLE)
#define LEAF_BITS  (UPPER_BITS | PTE_PWT | PTE_PCD | PTE_NX)

/* Changes of these need no look at the frame. */
#define HARMLESS (PTE_USER | PTE_ACCESSED | PTE_DIRTY | AVAILABLE | PTE_NX | PTE_PWT | PTE_PCD)

int frames_init(struct frames *f, void *memory, u64 nr_memory, u64 nr,
		void (*flush)(struct frames *f, u64 stamp))
{
	*f = (struct frames){ .nr = nr, .nr_memory = nr_memory, .memory = memory, .flush = flush };
	spin_init(&f->lock);
	f->frame = calloc(nr, sizeof(*f->frame));
	return f->frame ? 0 : -ENOMEM;
}

void frames_fini(struct frames *f)
{
	free(f->frame);
}

int frames_give(struct frames *f, u64 pfn, u32 domain)
{
	int err = 0;

	if (pfn >= f->nr)
		return -EINVAL;
	spin_lock(&f->lock);
	if (f->frame[pfn].owner != XEN_NOBODY)
		err = -EBUSY;
	else
		f->frame[pfn] = (struct frame){ .owner = domain, .count = 1 };
	spin_unlock(&f->lock);
	return err;
}

/* ---- what holds a frame; lock held, as in all that follows ---- */

static int validate(struct frames *f, u32 domain, u64 pfn, enum frame_type type);
static void invalidate(struct frames *f, u64 pfn, enum frame_type type);

static int get_page(struct frames *f, u32 domain, u64 pfn)
{
	if (pfn >= f->nr || f->frame[pfn].owner != domain)
		return -EPERM;
	f->frame[pfn].count++;
	ledger_count(PAID_TYPE_UPDATES);
	return 0;
}

static void put_page(struct frames *f, u64 pfn)
{
	if (!f->frame[pfn].count--)
		vmf_panic("xen: frame %lx is let go more often than held", (unsigned long)pfn);
	ledger_count(PAID_TYPE_UPDATES);
}

static bool is_table(enum frame_type type)
{
	return type >= FRAME_L1 && type <= FRAME_L4;
}

static int get_type(struct frames *f, u32 domain, u64 pfn, enum frame_type type)
{
	struct frame *frame = &f->frame[pfn];
	int err;

	if (frame->type_count && frame->type != type)
		return -EINVAL;
	if (!frame->type_count && frame->type != type) {
		/* Whoever could write it by its old type must not by a translation that is left. */
		if (frame->type != FRAME_NONE)
			f->flush(f, frame->stamp);
		frame->type = (u8)type;
	}
	frame->type_count++;
	ledger_count(PAID_TYPE_UPDATES);
	if (!is_table(type) || frame->validated)
		return 0;
	err = validate(f, domain, pfn, type);
	if (err)
		frame->type_count--;
	else
		frame->validated = true;
	return err;
}

static void put_type(struct frames *f, u64 pfn)
{
	struct frame *frame = &f->frame[pfn];

	if (!frame->type_count)
		vmf_panic("xen: the type of frame %lx is let go more often than held",
			  (unsigned long)pfn);
	ledger_count(PAID_TYPE_UPDATES);
	if (--frame->type_count)
		return;
	frame->stamp = atomic_load(&f->clock);
	if (frame->validated)
		invalidate(f, pfn, frame->type);
	frame->validated = false;
}

static int get_page_and_type(struct frames *f, u32 domain, u64 pfn, enum frame_type type)
{
	int err = get_page(f, domain, pfn);

	if (err || type == FRAME_NONE)
		return err;
	err = get_type(f, domain, pfn, type);
	if (err)
		put_page(f, pfn);
	return err;
}

static void put_page_and_type(struct frames *f, u64 pfn, enum frame_type type)
{
	if (type != FRAME_NONE)
		put_type(f, pfn);
	put_page(f, pfn);
}

/* ---- what an entry holds ---- */

/* As what the entry of a table of that type holds its frame. */
static enum frame_type held_as(enum frame_type table, pte_t pte)
{
	if (table != FRAME_L1)
		return table - 1;
	return pte_write(pte) ? FRAME_WRITABLE : FRAME_NONE;
}

static bool is_linear(u64 pfn, enum frame_type type, pte_t pte)
{
	return type == FRAME_L4 && pte_pfn(pte) == pfn && !pte_write(pte);
}

static bool is_xen_slot(enum frame_type type, unsigned index)
{
	return type == FRAME_L4 && index >= XEN_FIRST_SLOT && index <= XEN_LAST_SLOT;
}

static int get_entry(struct frames *f, u32 domain, u64 pfn, enum frame_type type, unsigned index,
		     pte_t pte)
{
	u64 bits = type == FRAME_L1 ? LEAF_BITS : UPPER_BITS;

	if (!pte_present(pte))
		return 0;
	if (is_xen_slot(type, index))
		return -EPERM;
	if (pte.v & ~(bits | PTE_PFN_MASK))
		return -EINVAL;
	if (is_linear(pfn, type, pte)) {
		f->frame[pfn].linear++;
		return 0;
	}
	if (type != FRAME_L1 && pte_pfn(pte) >= f->nr_memory)
		return -EPERM;
	return get_page_and_type(f, domain, pte_pfn(pte), held_as(type, pte));
}

static void put_entry(struct frames *f, u64 pfn, enum frame_type type, pte_t pte)
{
	if (!pte_present(pte))
		return;
	if (is_linear(pfn, type, pte))
		f->frame[pfn].linear--;
	else
		put_page_and_type(f, pte_pfn(pte), held_as(type, pte));
}

static pte_t *entries_of(const struct frames *f, u64 pfn)
{
	return f->memory + pfn * PTRS_PER_TABLE;
}

static int validate(struct frames *f, u32 domain, u64 pfn, enum frame_type type)
{
	const pte_t *entries = entries_of(f, pfn);

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		int err = get_entry(f, domain, pfn, type, i, pte_read(&entries[i]));

		if (!err)
			continue;
		while (i--)
			put_entry(f, pfn, type, pte_read(&entries[i]));
		return err;
	}
	return 0;
}

static void invalidate(struct frames *f, u64 pfn, enum frame_type type)
{
	const pte_t *entries = entries_of(f, pfn);

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		put_entry(f, pfn, type, pte_read(&entries[i]));
}

/* ---- for the hypervisor's calls ---- */

int frames_hold(struct frames *f, u32 domain, u64 pfn, enum frame_type type)
{
	int err;

	if (is_table(type) && pfn >= f->nr_memory)
		return -EPERM;
	spin_lock(&f->lock);
	err = get_page_and_type(f, domain, pfn, type);
	spin_unlock(&f->lock);
	return err;
}

void frames_let_go(struct frames *f, u64 pfn, enum frame_type type)
{
	spin_lock(&f->lock);
	put_page_and_type(f, pfn, type);
	spin_unlock(&f->lock);
}

int frames_pin(struct frames *f, u32 domain, u64 pfn, enum frame_type type)
{
	int err = is_table(type) ? 0 : -EINVAL;

	if (pfn >= f->nr_memory)
		return -EPERM;
	spin_lock(&f->lock);
	if (!err)
		err = get_page_and_type(f, domain, pfn, type);
	if (!err && f->frame[pfn].pinned) {
		put_page_and_type(f, pfn, type);
		err = -EEXIST;
	}
	if (!err)
		f->frame[pfn].pinned = true;
	spin_unlock(&f->lock);
	return err;
}

int frames_unpin(struct frames *f, u32 domain, u64 pfn)
{
	int err = 0;

	if (pfn >= f->nr)
		return -EPERM;
	spin_lock(&f->lock);
	if (f->frame[pfn].owner != domain)
		err = -EPERM;
	else if (!f->frame[pfn].pinned)
		err = -ENOENT;
	if (!err) {
		f->frame[pfn].pinned = false;
		put_page_and_type(f, pfn, f->frame[pfn].type);
	}
	spin_unlock(&f->lock);
	return err;
}

/* The hardware may set bits meanwhile; nobody else writes the entry. */
static pte_t write_entry(pte_t *entry, pte_t pte, bool keep)
{
	pte_t old, new;

	do {
		old = pte_read(entry);
		new = keep ? pte_with(pte, old.v & (PTE_ACCESSED | PTE_DIRTY)) : pte;
	} while (!pte_replace(entry, old, new));
	ledger_count(PAID_ENTRY_WRITES);
	return old;
}

/* Of a frame that is held as a table. */
static int update_table(struct frames *f, u32 domain, u64 pfn, unsigned index, pte_t pte, bool keep,
			pte_t *old)
{
	enum frame_type type = f->frame[pfn].type;
	pte_t *entry = &entries_of(f, pfn)[index], was = pte_read(entry);
	u64 bits = type == FRAME_L1 ? LEAF_BITS : UPPER_BITS;
	bool similar = pte_present(was) && pte_present(pte) && !((was.v ^ pte.v) & ~HARMLESS) &&
		       !(pte.v & ~(bits | PTE_PFN_MASK));
	int err = similar ? 0 : get_entry(f, domain, pfn, type, index, pte);

	if (err)
		return err;
	*old = write_entry(entry, pte, keep);
	if (!similar)
		put_entry(f, pfn, type, *old);
	return 0;
}

/* Of a frame that is none: a store that the guest could as well make itself. */
static int update_other(struct frames *f, u32 domain, u64 pfn, unsigned index, pte_t pte, bool keep,
			pte_t *old)
{
	int err = get_page_and_type(f, domain, pfn, FRAME_WRITABLE);

	if (err)
		return err;
	*old = write_entry(&entries_of(f, pfn)[index], pte, keep);
	put_page_and_type(f, pfn, FRAME_WRITABLE);
	return 0;
}

int frames_update(struct frames *f, u32 domain, u64 pfn, unsigned index, pte_t pte, bool keep,
		  pte_t *old)
{
	const struct frame *frame;
	int err;

	if (pfn >= f->nr_memory || index >= PTRS_PER_TABLE)
		return -EPERM;
	spin_lock(&f->lock);
	frame = &f->frame[pfn];
	if (frame->owner != domain)
		err = -EPERM;
	else if (frame->type_count && is_table(frame->type))
		err = update_table(f, domain, pfn, index, pte, keep, old);
	else
		err = update_other(f, domain, pfn, index, pte, keep, old);
	spin_unlock(&f->lock);
	return err;
}

struct frame frames_look(struct frames *f, u64 pfn)
{
	struct frame frame;

	spin_lock(&f->lock);
	frame = f->frame[pfn];
	spin_unlock(&f->lock);
	return frame;
}

/* ---- all of it counted again ---- */

struct tally {
	u32 count, type_count, linear;
	bool other_type; /* something holds it to another type than it has */
};

static void tally_hold(const struct frames *f, struct tally *t, u64 pfn, enum frame_type type)
{
	t[pfn].count++;
	if (type == FRAME_NONE)
		return;
	t[pfn].type_count++;
	t[pfn].other_type |= f->frame[pfn].type != type;
}

static void tally_table(const struct frames *f, struct tally *t, u64 pfn)
{
	enum frame_type type = f->frame[pfn].type;
	const pte_t *entries = entries_of(f, pfn);

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		pte_t pte = pte_read(&entries[i]);

		if (!pte_present(pte))
			continue;
		if (is_linear(pfn, type, pte))
			t[pfn].linear++;
		else if (pte_pfn(pte) < f->nr)
			tally_hold(f, t, pte_pfn(pte), held_as(type, pte));
	}
}

static bool same_counts(const struct frame *frame, const struct tally *t)
{
	return frame->count == t->count && frame->type_count == t->type_count &&
	       frame->linear == t->linear && !t->other_type &&
	       frame->validated == (frame->type_count && is_table(frame->type));
}

u64 frames_check(struct frames *f, u32 domain, const u32 *held)
{
	struct tally *t = calloc(f->nr, sizeof(*t));
	u64 pfn;

	if (!t)
		vmf_panic("xen: no memory to check with");
	for (pfn = 0; pfn < f->nr; pfn++) {
		const struct frame *frame = &f->frame[pfn];

		t[pfn].count += frame->owner != XEN_NOBODY;
		if (frame->pinned)
			tally_hold(f, t, pfn, frame->type);
		for (u32 i = 0; i < held[pfn]; i++)
			tally_hold(f, t, pfn, frame->type);
		if (frame->validated)
			tally_table(f, t, pfn);
	}
	for (pfn = 0; pfn < f->nr; pfn++)
		if (f->frame[pfn].owner == domain && !same_counts(&f->frame[pfn], &t[pfn]))
			break;
	free(t);
	return pfn;
}
