/* SPDX-License-Identifier: MIT */
/* Is the kernel side what it says it is?  See nt_check() in nt.h. */
#include "engine/base/text.h"
#include "systems/windows/pages.h"

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			vmf_panic("windows: " __VA_ARGS__);                                        \
	} while (0)

/* What all entries together name. */
struct seen {
	u32 owners[1ULL << NT_FRAMES_ORDER], views[1ULL << NT_FRAMES_ORDER];
	u32 slots[NT_PAGE_FILE_SLOTS];
};

static void see_owner(struct nt *k, struct seen *seen, const pte_t *owner)
{
	pte_t entry = pte_read(owner);
	enum mi_state state = mi_state(entry);
	struct mi_frame *f;

	if (state == MI_PAGE_FILE)
		seen->slots[mi_number(entry)]++;
	if (state != MI_VALID && state != MI_TRANSITION)
		return;
	f = mi_frame_of(k, entry);
	CHECK(f->owner == owner, "frame %lu is another's", (unsigned long)(f - k->frames));
	CHECK((f->state == MI_ACTIVE) == (state == MI_VALID), "frame %lu: state %u, entry %u",
	      (unsigned long)(f - k->frames), f->state, state);
	seen->owners[f - k->frames]++;
}

static void see_view(struct nt *k, struct seen *seen, pte_t entry)
{
	if (mi_state(entry) == MI_VALID)
		seen->views[mi_frame_of(k, entry) - k->frames]++;
	else
		CHECK(mi_state(entry) == MI_NOTHING || mi_state(entry) == MI_PROTOTYPE,
		      "a view's entry is in state %u", mi_state(entry));
}

static void see_entries(struct nt *k, struct seen *seen)
{
	for (unsigned r = 0; r < NR_NT_REGIONS; r++) {
		for (u64 i = 0; i < NT_REGION_PAGES; i++) {
			const pte_t *ptep = mi_entry_at(k, nt_region_start(r) + i * PAGE_SIZE);

			CHECK(k->regions[r].used[i] || pte_none(pte_read(ptep)),
			      "page %lu of region %u is nobody's, and has something",
			      (unsigned long)i, r);
			if (r == NT_VIEWS)
				see_view(k, seen, pte_read(ptep));
			else
				see_owner(k, seen, ptep);
		}
	}
	for (unsigned i = 0; i < NT_PROTOTYPES; i++)
		see_owner(k, seen, &k->prototypes[i]);
}

static u32 locks_of(const struct nt *k, const struct mi_frame *f)
{
	u32 n = 0;

	for (unsigned i = 0; i < NT_SECTIONS; i++) {
		const struct nt_section *s = &k->sections[i];

		if (s->pages && f->owner >= mi_entry_at(k, s->va) &&
		    f->owner <= mi_entry_at(k, s->va + (s->pages - 1) * PAGE_SIZE))
			n += s->locks;
	}
	return n;
}

static void check_frame(const struct nt *k, const struct mi_frame *f, struct seen *seen)
{
	unsigned long n = (unsigned long)(f - k->frames);

	CHECK(seen->owners[n] == (f->state != MI_FREE), "frame %lu: state %u, %u owners", n,
	      f->state, seen->owners[n]);
	CHECK(seen->views[n] == f->views, "frame %lu: %u views, counted %u", n, seen->views[n],
	      f->views);
	CHECK(!f->views || f->state == MI_ACTIVE, "frame %lu: state %u, and %u views map it", n,
	      f->state, f->views);
	CHECK(f->state != MI_STANDBY || (f->slot != MI_NO_SLOT && !f->dirty),
	      "frame %lu is on standby, and nothing else has its bytes", n);
	CHECK(f->state == MI_FREE || f->dirty || f->slot != MI_NO_SLOT,
	      "frame %lu is clean and has no slot", n);
	CHECK(f->state != MI_READING && f->state != MI_WRITING, "frame %lu is on its way", n);
	CHECK(f->state == MI_FREE || f->locks == locks_of(k, f), "frame %lu: %u locks", n,
	      f->locks);
	if (f->slot != MI_NO_SLOT)
		seen->slots[f->slot]++;
}

static void check_lists(const struct nt *k)
{
	u64 listed = 0, active = 0;
	const struct mi_frame *f;

	for (unsigned s = 0; s < NR_MI_FRAME_STATES; s++) {
		list_for_each_entry (f, &k->lists[s], link) {
			CHECK(f->state == s, "a frame of state %u is on the list of %u", f->state,
			      s);
			listed++;
		}
	}
	for (u64 i = 0; i < k->nr_frames; i++)
		active += k->frames[i].state == MI_ACTIVE;
	CHECK(listed + active == k->nr_frames, "%lu frames on lists, %lu active of %lu",
	      (unsigned long)listed, (unsigned long)active, (unsigned long)k->nr_frames);
}

void nt_check(struct nt *k)
{
	struct seen seen = { 0 };

	CHECK(!spin_is_locked(&k->lock), "the lock is held");
	see_entries(k, &seen);
	check_lists(k);
	for (u64 i = 0; i < k->nr_frames; i++)
		check_frame(k, &k->frames[i], &seen);
	for (unsigned i = 0; i < NT_PAGE_FILE_SLOTS; i++)
		CHECK(seen.slots[i] == k->slots[i], "slot %u has %u users", i, seen.slots[i]);
	for (unsigned i = 0; i < k->machine->nr_cpus; i++)
		CHECK(!k->cpus[i].paging, "CPU %u is still paging", i);
}
