/* SPDX-License-Identifier: MIT */
#include "systems/windows/section.h"

#include "engine/base/errno.h"
#include "systems/windows/pages.h"

/* A call on that CPU begins: the lock is held after 0. */
static int enter(struct nt *k, unsigned cpu)
{
	int err = bugcheck_errno(&k->bugcheck);

	if (err)
		return err;
	ledger_begin(k->ledger, cpu);
	nt_lock(k);
	return 0;
}

static int leave(struct nt *k, int err)
{
	nt_unlock(k);
	return err;
}

/* ---- of images ---- */

static struct nt_section *section_of(struct nt *k, u64 va)
{
	for (unsigned i = 0; i < NT_SECTIONS; i++) {
		struct nt_section *s = &k->sections[i];

		if (s->pages && va >= s->va && va < s->va + s->pages * PAGE_SIZE)
			return s;
	}
	return NULL;
}

static struct nt_section *unused_section(struct nt *k)
{
	for (unsigned i = 0; i < NT_SECTIONS; i++)
		if (!k->sections[i].pages)
			return &k->sections[i];
	return NULL;
}

/* Written once, by whoever loaded it: from now on it is executed. */
static void make_code(struct nt *k, u64 va, u64 pages)
{
	for (u64 i = 0; i < pages; i++) {
		pte_t *ptep = mi_entry_at(k, va + i * PAGE_SIZE), old;

		do {
			old = pte_read(ptep);
		} while (!pte_replace(ptep, old, pte_without(old, MI_RIGHTS)));
	}
	mi_flush(k, va, va + pages * PAGE_SIZE);
}

static int load(struct nt *k, u64 pages, u64 *va)
{
	struct nt_section *s = unused_section(k);

	*va = s ? mi_take_range(k, NT_IMAGES, pages, 0) : 0;
	if (!*va)
		return -ENOMEM;
	*s = (struct nt_section){ .va = *va, .pages = pages };
	mi_promise(k, *va, pages);
	return 0;
}

int mm_load_section(struct nt *k, unsigned cpu, u64 pages, bool code, const void *bytes, size_t n,
		    u64 *va)
{
	size_t part;
	int err;

	if (!pages || pages > NT_REGION_PAGES || n > pages * PAGE_SIZE)
		return -EINVAL;
	err = enter(k, cpu);
	if (err)
		return err;
	err = leave(k, load(k, pages, va));
	for (size_t done = 0; !err && done < n; done += part) {
		part = min_of(n - done, PAGE_SIZE);
		err = nt_access(k, cpu, NT_KERNEL, *va + done, PF_WRITE, (char *)bytes + done,
				part);
	}
	if (err || !code)
		return err;
	nt_lock(k);
	make_code(k, *va, pages);
	return leave(k, 0);
}

int mm_unload_section(struct nt *k, unsigned cpu, u64 va)
{
	struct nt_section *s;
	int err = enter(k, cpu);

	if (err)
		return err;
	s = section_of(k, va);
	if (!s || s->va != va)
		return leave(k, -EINVAL);
	if (s->locks || s->locking)
		return leave(k, -EBUSY);
	mi_delete(k, va, s->pages);
	mi_release_range(k, NT_IMAGES, va);
	s->pages = 0;
	return leave(k, 0);
}

/* ---- locking ---- */

static void unlock_pages(struct nt *k, const struct nt_section *s, u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		mi_frame_of(k, pte_read(mi_entry_at(k, s->va + i * PAGE_SIZE)))->locks--;
}

/* Each is brought in as a touch would, and stays from then on. */
static int lock_pages(struct nt *k, unsigned cpu, const struct nt_section *s)
{
	for (u64 i = 0; i < s->pages; i++) {
		pte_t *ptep = mi_entry_at(k, s->va + i * PAGE_SIZE);
		int err;

		do {
			err = mi_resolve(k, cpu, ptep);
		} while (err == -EAGAIN);
		if (err) {
			unlock_pages(k, s, i);
			return err;
		}
		mi_frame_of(k, pte_read(ptep))->locks++;
	}
	return 0;
}

static int lock_section(struct nt *k, unsigned cpu, struct nt_section *s)
{
	int err;

	if (k->cpus[cpu].irql >= DISPATCH_LEVEL && !s->locks)
		return ki_check_irql(k, cpu, 0, s->va);
	s->locking++; /* it must not go while the lock is dropped */
	err = lock_pages(k, cpu, s);
	s->locking--;
	if (err == -EIO)
		return ke_bug_check(k, KERNEL_DATA_INPAGE_ERROR, 0, (u64)err, cpu, s->va);
	if (!err)
		s->locks++;
	return err;
}

int mm_lock_pageable_section(struct nt *k, unsigned cpu, u64 va, unsigned *handle)
{
	struct nt_section *s;
	int err = enter(k, cpu);

	if (err)
		return err;
	s = section_of(k, va);
	if (!s)
		return leave(k, -EINVAL);
	*handle = (unsigned)(s - k->sections);
	return leave(k, lock_section(k, cpu, s));
}

int mm_unlock_pageable_section(struct nt *k, unsigned cpu, unsigned handle)
{
	struct nt_section *s = handle < NT_SECTIONS ? &k->sections[handle] : NULL;
	int err = enter(k, cpu);

	if (err)
		return err;
	if (!s || !s->pages)
		return leave(k, -EINVAL);
	if (!s->locks)
		return leave(
			k, ke_bug_check(k, MEMORY_MANAGEMENT, SECTION_IS_NOT_LOCKED, s->va, 0, 0));
	s->locks--;
	unlock_pages(k, s, s->pages);
	return leave(k, 0);
}

/* ---- of shared memory ---- */

static s64 unused_prototypes(const struct nt *k, u64 pages)
{
	u64 run = 0;

	for (unsigned i = 0; i < NT_PROTOTYPES; i++) {
		run = mi_state(k->prototypes[i]) == MI_NOTHING ? run + 1 : 0;
		if (run == pages)
			return (s64)(i + 1 - pages);
	}
	return -ENOMEM;
}

int mm_create_segment(struct nt *k, unsigned cpu, u64 pages, unsigned *segment)
{
	int err = pages ? enter(k, cpu) : -EINVAL;
	s64 first;

	if (err)
		return err;
	first = unused_prototypes(k, pages);
	if (first < 0)
		return leave(k, (int)first);
	*segment = (unsigned)first;
	k->segment_pages[first] = (u16)pages;
	for (u64 i = 0; i < pages; i++)
		k->prototypes[(u64)first + i] = mi_entry(MI_DEMAND_ZERO, 0, PTE_WRITE | PTE_NX);
	return leave(k, 0);
}

static bool is_segment(const struct nt *k, unsigned segment)
{
	return segment < NT_PROTOTYPES && k->segment_pages[segment];
}

/* A view's tag is its segment. */
static bool is_viewed(const struct nt *k, unsigned segment)
{
	const struct nt_region *r = &k->regions[NT_VIEWS];

	for (unsigned i = 0; i < NT_REGION_PAGES; i++)
		if (r->pages[i] && r->tag[i] == segment)
			return true;
	return false;
}

int mm_delete_segment(struct nt *k, unsigned cpu, unsigned segment)
{
	int err = enter(k, cpu);

	if (err)
		return err;
	if (!is_segment(k, segment))
		return leave(k, -EINVAL);
	if (is_viewed(k, segment))
		return leave(k, -EBUSY);
	for (unsigned i = 0; i < k->segment_pages[segment]; i++)
		mi_delete_entry(k, &k->prototypes[segment + i]);
	k->segment_pages[segment] = 0;
	return leave(k, 0);
}

int mm_map_view(struct nt *k, unsigned cpu, unsigned segment, u64 *va)
{
	int err = enter(k, cpu);

	if (err)
		return err;
	if (!is_segment(k, segment))
		return leave(k, -EINVAL);
	*va = mi_take_range(k, NT_VIEWS, k->segment_pages[segment], segment);
	if (!*va)
		return leave(k, -ENOMEM);
	for (unsigned i = 0; i < k->segment_pages[segment]; i++)
		pte_store(mi_entry_at(k, *va + i * PAGE_SIZE),
			  mi_entry(MI_PROTOTYPE, segment + i, PTE_WRITE | PTE_NX));
	return leave(k, 0);
}

int mm_unmap_view(struct nt *k, unsigned cpu, u64 va)
{
	int err = enter(k, cpu);
	u64 pages;

	if (err)
		return err;
	pages = mi_range_at(k, NT_VIEWS, va);
	if (!pages)
		return leave(k, -EINVAL);
	mi_delete(k, va, pages);
	mi_release_range(k, NT_VIEWS, va);
	return leave(k, 0);
}

/* ---- pressure ---- */

static int trim_range(struct nt *k, u64 va, u64 end)
{
	int err = 0;

	for (; va < end; va += PAGE_SIZE)
		if (mi_state(pte_read(mi_entry_at(k, va))) == MI_VALID && !mi_trim(k, va))
			err = -EBUSY;
	return err;
}

int mm_page_out(struct nt *k, unsigned cpu, u64 va, u64 n, bool out)
{
	int busy, err = 0;

	if (!nt_is_pageable(va) || !nt_is_pageable(va + n - 1))
		return -EPERM;
	err = enter(k, cpu);
	if (err)
		return err;
	busy = trim_range(k, va & PAGE_MASK, va + n);
	while (out && !err)
		err = mi_write_modified(k, cpu);
	if (out)
		mi_empty_standby(k);
	return leave(k, !err || err == -ENOENT ? busy : err);
}

int mm_page_out_frame(struct nt *k, unsigned cpu, u64 pfn)
{
	int err = enter(k, cpu);

	if (err)
		return err;
	if (pfn < k->first_pfn || pfn >= k->first_pfn + k->nr_frames)
		return leave(k, -EPERM);
	if (k->frames[pfn - k->first_pfn].state != MI_ACTIVE ||
	    k->frames[pfn - k->first_pfn].nonpaged)
		return leave(k, -EPERM);
	err = -EBUSY;
	for (u64 va = nt_region_start(NT_PAGED_POOL); nt_is_pageable(va); va += PAGE_SIZE) {
		pte_t entry = pte_read(mi_entry_at(k, va));

		if (mi_state(entry) == MI_VALID && pte_pfn(entry) == pfn && mi_trim(k, va))
			err = 0;
	}
	return leave(k, err);
}
