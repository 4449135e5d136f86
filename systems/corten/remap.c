/* SPDX-License-Identifier: MIT */
/*
 * mremap(2) on CortenMM, with the checks of Linux in their order.  There are no areas: what Linux
 * asks of one is asked of a row of records that say the same.
 *
 * A move is one transaction on all from the lower place to the upper one:
 *
 *   1  what is at the new place goes, and records like the old ones are there (this may fail, and
 *      is undone);
 *   2  entries are lifted from the old place, flushed, and set at the new one; slots of the store
 *      go along;
 *   3  the old place is freed.
 *
 * Nobody meets a page at both places, or at none: who faults at either waits for the tables.
 */
#include "engine/base/errno.h"
#include "engine/space/uapi.h"
#include "systems/corten/corten.h"

struct remap {
	struct corten *c;
	struct corten_space *space;
	unsigned cpu;
	u64 addr, old_len, new_len; /* bytes, whole pages */
	u32 flags;
	u64 to;
};

/* ---- the arguments ---- */

static bool implies_place(const struct remap *r)
{
	return r->flags & (UAPI_MREMAP_FIXED | UAPI_MREMAP_DONTUNMAP);
}

static int check_arguments(const struct remap *r)
{
	u32 known = UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED | UAPI_MREMAP_DONTUNMAP;

	if ((r->flags & ~known) || !PAGE_ALIGNED(r->addr) || !r->new_len ||
	    r->new_len > CORTEN_HIGH)
		return -EINVAL;
	if (implies_place(r) && (!PAGE_ALIGNED(r->to) || r->to > CORTEN_HIGH - r->new_len ||
				 !(r->flags & UAPI_MREMAP_MAYMOVE) ||
				 ((r->flags & UAPI_MREMAP_DONTUNMAP) && r->old_len != r->new_len) ||
				 (r->addr + r->old_len > r->to && r->to + r->new_len > r->addr)))
		return -EINVAL;
	if (r->addr < CORTEN_LOW || r->addr >= CORTEN_HIGH)
		return -EFAULT;
	if (r->old_len > CORTEN_HIGH - r->addr)
		return r->new_len < r->old_len ? -EINVAL : -EFAULT;
	if ((r->flags & UAPI_MREMAP_FIXED) && r->to < CORTEN_LOW)
		return -ENOMEM;
	return 0;
}

/* ---- rows of records that say the same ---- */

struct area {
	u64 start, end; /* the same: nothing is allocated at the start */
	struct corten_meta first;
};

/* What the first record says of the page that is so many bytes further on. */
static struct corten_meta continued(const struct corten_meta *first, u64 bytes)
{
	struct corten_meta m = *first;

	m.slot = 0;
	if (m.kind == CORTEN_FILE)
		m.page += bytes >> PAGE_SHIFT;
	return m;
}

static int extend_area(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct area *a = arg;
	struct corten_meta same;

	(void)cur, (void)ptep;
	if (va != a->end)
		return 1;
	if (a->start == a->end)
		a->first = continued(meta, 0);
	same = continued(&a->first, va - a->start);
	if (meta->kind != same.kind || meta->flags != same.flags || meta->prot != same.prot ||
	    meta->file != same.file || (same.kind == CORTEN_FILE && meta->page != same.page))
		return 1;
	a->end = va + n * PAGE_SIZE;
	return 0;
}

/* The area that begins at r->addr, as far as it matters, may be remapped so.  0, -EFAULT, -EINVAL,
 * -ENOMEM. */
static int find_area(struct corten_cursor *cur, const struct remap *r, struct area *a)
{
	u64 least = min_of(r->old_len, r->new_len);
	int err;

	*a = (struct area){ .start = r->addr, .end = r->addr };
	err = corten_walk(cur, r->addr, r->addr + max_of(least, (u64)PAGE_SIZE), true, extend_area,
			  a);
	if (err < 0)
		return err;
	if (a->start == a->end)
		return -EFAULT;
	if (r->old_len >= r->new_len && !implies_place(r))
		return 0;
	if (!r->old_len && !(a->first.flags & CORTEN_SHARED))
		return -EINVAL;
	return least > a->end - a->start ? -EFAULT : 0;
}

static int meets_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
			struct corten_meta *meta)
{
	(void)arg, (void)cur, (void)va, (void)n, (void)ptep, (void)meta;
	return -EEXIST;
}

/* 0, -EEXIST. */
static int is_free(struct corten_cursor *cur, u64 start, u64 end)
{
	return corten_walk(cur, start, end, false, meets_record, NULL);
}

/* ---- moving what the cursor has locked ---- */

struct move {
	struct corten *c;
	u64 distance; /* from the old place to the new one, modulo 2^64 */
	u64 done;     /* before that records are at the new place, too */
	struct {
		u64 va; /* where it is to be */
		pte_t pte;
	} lifted[CORTEN_BATCH];
	unsigned nr_lifted;
};

static int put_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		      struct corten_meta *meta)
{
	struct move *m = arg;
	u64 to = va + m->distance, len = n * PAGE_SIZE;
	struct corten_meta fresh = continued(meta, 0);
	int err = corten_unmap(cur, to, to + len);

	(void)ptep;
	m->done = va + len;
	return err ? err : corten_mark(cur, to, to + len, &fresh);
}

static int undo_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct move *m = arg;
	u64 to = va + m->distance;

	(void)ptep, (void)meta;
	return corten_unmap(cur, to, to + n * PAGE_SIZE);
}

static void settle(struct move *m, struct corten_cursor *cur)
{
	struct corten_state s;

	corten_flush(cur);
	for (unsigned i = 0; i < m->nr_lifted; i++) {
		corten_query(cur, m->lifted[i].va, &s);
		corten_restore(cur, m->lifted[i].va, s.ptep, m->lifted[i].pte);
	}
	m->nr_lifted = 0;
}

static int carry_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		      struct corten_meta *meta)
{
	struct move *m = arg;
	u64 to = va + m->distance;
	struct page *page;
	pte_t old;

	(void)n;
	if (meta->slot) {
		corten_meta_at(cur, to)->slot = meta->slot;
		meta->slot = 0;
	}
	if (!ptep || !pte_mapped(old = pte_read(ptep)))
		return 0;
	page = pfn_page(&m->c->machine->engine, pte_pfn(old));
	m->lifted[m->nr_lifted].va = to;
	m->lifted[m->nr_lifted++].pte = corten_lift(cur, va, ptep);
	if (corten_is_anon(&m->c->memory, page))
		corten_note_anon(&m->c->memory, page, to);
	if (m->nr_lifted == CORTEN_BATCH)
		settle(m, cur);
	return 0;
}

/* All that is allocated in [r->addr, + len) is at `to` from now on, with its distances.  0, or
 * -ENOMEM: it is where it was. */
static int carry(struct remap *r, struct corten_cursor *cur, u64 len, u64 to)
{
	struct move m = { .c = r->c, .distance = to - r->addr, .done = r->addr };
	u64 end = r->addr + len;
	int err = corten_walk(cur, r->addr, end, true, put_record, &m);

	if (err) {
		if (m.done > r->addr)
			corten_walk(cur, r->addr, m.done, false, undo_record, &m);
		return err;
	}
	corten_walk(cur, r->addr, end, true, carry_page, &m);
	settle(&m, cur);
	return r->flags & UAPI_MREMAP_DONTUNMAP ? 0 : corten_unmap(cur, r->addr, end);
}

static void lock_both(struct remap *r, struct corten_cursor *cur, u64 to)
{
	corten_lock(cur, r->space, r->cpu, min_of(r->addr, to),
		    max_of(r->addr + max_of(r->old_len, (u64)PAGE_SIZE), to + r->new_len));
}

/* ---- the three ways ---- */

/* One size, to a given place: whatever there is, gaps and all, which stay as they are there. */
static int move_rows(struct remap *r)
{
	struct corten_cursor cur;
	struct corten_state s;
	int err = -EFAULT;

	lock_both(r, &cur, r->to);
	corten_query(&cur, r->addr, &s);
	if (s.meta.kind)
		err = carry(r, &cur, r->old_len, r->to);
	corten_unlock(&cur);
	return err;
}

/* One area, to `to`, which is free if it is not replaced: -EEXIST. */
static int move_area(struct remap *r, u64 to, bool replace)
{
	u64 kept = min_of(r->old_len, r->new_len);
	struct corten_meta more;
	struct corten_cursor cur;
	struct area area;
	int err;

	lock_both(r, &cur, to);
	err = find_area(&cur, r, &area);
	if (!err)
		err = replace ? corten_unmap(&cur, to, to + r->new_len)
			      : is_free(&cur, to, to + r->new_len);
	if (!err && kept < r->old_len)
		err = corten_unmap(&cur, r->addr + kept, r->addr + r->old_len);
	if (!err && kept < r->new_len) {
		more = continued(&area.first, kept);
		err = corten_mark(&cur, to + kept, to + r->new_len, &more);
		if (!err && kept)
			err = carry(r, &cur, kept, to);
		if (err)
			corten_unmap(&cur, to + kept, to + r->new_len);
	} else if (!err) {
		err = carry(r, &cur, kept, to);
	}
	corten_unlock(&cur);
	return err;
}

/* 0, an error, or -EAGAIN: it has to be moved. */
static int resize(struct remap *r)
{
	u64 old_end = r->addr + r->old_len;
	u64 end = min_of(max_of(old_end, r->addr + r->new_len), CORTEN_HIGH);
	struct corten_meta more;
	struct corten_cursor cur;
	struct area area;
	int err;

	corten_lock(&cur, r->space, r->cpu, r->addr, end);
	err = find_area(&cur, r, &area);
	if (!err && r->new_len < r->old_len) {
		err = corten_unmap(&cur, r->addr + r->new_len, old_end);
	} else if (!err && r->new_len > r->old_len) {
		more = continued(&area.first, r->old_len);
		if (r->old_len && r->new_len <= CORTEN_HIGH - r->addr &&
		    !is_free(&cur, old_end, end)) {
			err = corten_mark(&cur, old_end, end, &more);
			if (err)
				corten_unmap(&cur, old_end, end);
		} else {
			err = r->flags & UAPI_MREMAP_MAYMOVE ? -EAGAIN : -ENOMEM;
		}
	}
	corten_unlock(&cur);
	return err;
}

static s64 move_anywhere(struct remap *r)
{
	u64 to = r->flags & UAPI_MREMAP_DONTUNMAP && r->to >= CORTEN_LOW ? r->to : 0;
	int err = -EEXIST;

	if (to)
		err = move_area(r, to, false);
	while (err == -EEXIST) {
		to = corten_next_address(r->c, r->cpu, r->new_len);
		err = to ? move_area(r, to, false) : -ENOMEM;
	}
	return err ? err : (s64)to;
}

s64 corten_remap(struct corten *c, unsigned cpu, struct corten_space *s, u64 addr, u64 old_len,
		 u64 new_len, u32 flags, u64 to)
{
	struct remap r = { .c = c,
			   .space = s,
			   .cpu = cpu,
			   .addr = addr,
			   .old_len = PAGE_ALIGN(old_len),
			   .new_len = PAGE_ALIGN(new_len),
			   .flags = flags,
			   .to = to };
	int err = check_arguments(&r);

	if (err)
		return err;
	if (flags & UAPI_MREMAP_FIXED) {
		err = r.old_len == r.new_len ? move_rows(&r) : move_area(&r, to, true);
		return err ? err : (s64)to;
	}
	err = implies_place(&r) ? -EAGAIN : resize(&r);
	if (err == -EAGAIN)
		return move_anywhere(&r);
	return err ? err : (s64)addr;
}
