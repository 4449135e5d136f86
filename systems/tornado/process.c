/* SPDX-License-Identifier: MIT */
/*
 * The Process and its Regions.  The root has the list of all Regions; each CPU's representative
 * those that this CPU has met.
 *
 * A Region never changes.  Where a range is cut, or gets other rights, other Regions take its place
 * and it is destroyed: a representative that still knows it learns so from the call, which finds
 * nothing, and asks the root again.
 *
 * Which ranges there are is what the engine's areas are (process_follow()), after each call that
 * changes them.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/tornado/objects.h"

#define KNOWN	     16 /* Regions that a representative remembers */
#define REGION_FLAGS (VM_ACCESS | VM_SHARED | VM_GROWSDOWN)

struct process_rep {
	struct co_rep rep;
	unsigned n, next;
	struct known {
		u64 start, end;
		co_ref region;
	} known[KNOWN];
};

struct region_rep {
	struct co_rep rep;
	struct range range; /* the root's */
	_Atomic u64 faults; /* of this CPU */
};

static unsigned own_representative(struct co_root *root, unsigned cpu)
{
	(void)root;
	return cpu;
}

/* ---- Regions ---- */

static struct region *region_of(struct co_root *root)
{
	return container_of(root, struct region, root);
}

static void make_region_rep(struct co_rep *rep)
{
	container_of(rep, struct region_rep, rep)->range = region_of(rep->root)->range;
}

static void fini_region(struct co_root *root)
{
	struct range *r = &region_of(root)->range;

	if (r->fcm)
		fcm_put(r->fcm, root->home);
	if (r->under)
		fcm_put(r->under, root->home);
}

const struct co_type region_type = {
	.name = "Region",
	.size = sizeof(struct region),
	.rep_size = sizeof(struct region_rep),
	.miss = own_representative,
	.make = make_region_rep,
	.fini = fini_region,
};

/* With a user of its FCMs; they stay the caller's, too.  NULL: no memory. */
static struct region *create_region(struct co_system *s, unsigned cpu, const struct range *range)
{
	struct co_root *root = co_create(s, &region_type, cpu);

	if (!root)
		return NULL;
	region_of(root)->range = *range;
	fcm_get(range->fcm);
	if (range->under)
		fcm_get(range->under);
	return region_of(root);
}

/* As access_error() of an area. */
static bool forbids(u32 flags, u32 code)
{
	if (code & PF_PK)
		return true;
	if (code & PF_WRITE)
		return !(flags & VM_WRITE);
	if (code & PF_PROT)
		return !(code & PF_INSTR) || !(flags & VM_EXEC);
	return !(flags & VM_ACCESS);
}

int region_enter(struct co_system *s, unsigned cpu, co_ref region, u64 va, u32 code,
		 struct range *range)
{
	struct co_rep *rep;
	struct region_rep *r;
	int err = co_call(s, cpu, region, &region_type, &rep);

	if (err)
		return err;
	r = container_of(rep, struct region_rep, rep);
	if (va < r->range.start || va >= r->range.end)
		return -EFAULT;
	if (forbids(r->range.flags, code))
		return -EACCES;
	atomic_fetch_add_explicit(&r->faults, 1, memory_order_relaxed);
	*range = r->range;
	return 0;
}

/* ---- the Process ---- */

static struct process *process_of(struct co_root *root)
{
	return container_of(root, struct process, root);
}

static void fini_process(struct co_root *root)
{
	struct process *p = process_of(root);
	struct list_head *l, *next;

	for (l = p->regions.next; l != &p->regions; l = next) {
		next = l->next;
		co_destroy(root->system, root->home,
			   container_of(l, struct region, link)->root.ref);
	}
	co_destroy(root->system, root->home, p->hat->root.ref);
}

const struct co_type process_type = {
	.name = "Process",
	.size = sizeof(struct process),
	.rep_size = sizeof(struct process_rep),
	.miss = own_representative,
	.fini = fini_process,
};

struct process *process_create(struct co_system *s, unsigned cpu, struct mm *mm)
{
	struct hat *hat = hat_create(s, cpu);
	struct co_root *root = hat ? co_create(s, &process_type, cpu) : NULL;
	struct process *p;

	if (!root) {
		if (hat)
			co_destroy(s, cpu, hat->root.ref);
		return NULL;
	}
	p = process_of(root);
	p->mm = mm;
	p->hat = hat;
	spin_init(&p->lock);
	list_init(&p->regions);
	return p;
}

static struct region *region_at(struct list_head *link)
{
	return container_of(link, struct region, link);
}

/* The first that ends above va, or NULL.  lock held. */
static struct region *first_above(struct process *p, u64 va)
{
	for (struct list_head *l = p->regions.next; l != &p->regions; l = l->next)
		if (region_at(l)->range.end > va)
			return region_at(l);
	return NULL;
}

/* The list is in the memory of the CPU that made the Process. */
static void lock_regions(struct process *p, unsigned cpu)
{
	co_reach(cpu, p->root.home);
	spin_lock(&p->lock);
	ledger_count(PAID_LOCKS_OBJECT);
}

static void remember(struct process_rep *r, const struct range *range, co_ref region)
{
	unsigned at = r->n < KNOWN ? r->n++ : r->next++ % KNOWN;

	r->known[at] = (struct known){ range->start, range->end, region };
}

int process_find_region(struct co_system *s, unsigned cpu, co_ref process, u64 va, co_ref *region)
{
	struct process_rep *r;
	struct co_rep *rep;
	struct process *p;
	struct region *found;
	int err = co_call(s, cpu, process, &process_type, &rep);

	if (err)
		return err;
	r = container_of(rep, struct process_rep, rep);
	for (unsigned i = 0; i < r->n; i++) {
		if (va < r->known[i].start || va >= r->known[i].end)
			continue;
		*region = r->known[i].region;
		return 0;
	}
	p = process_of(rep->root);
	lock_regions(p, cpu);
	found = first_above(p, va);
	if (found && found->range.start <= va) {
		remember(r, &found->range, found->root.ref);
		*region = found->root.ref;
	} else {
		err = -EFAULT;
	}
	spin_unlock(&p->lock);
	return err;
}

void process_drop_region(struct co_system *s, unsigned cpu, co_ref process, co_ref region)
{
	struct process_rep *r;
	struct co_rep *rep;

	if (co_call(s, cpu, process, &process_type, &rep))
		return;
	r = container_of(rep, struct process_rep, rep);
	for (unsigned i = 0; i < r->n; i++)
		if (r->known[i].region == region)
			r->known[i--] = r->known[--r->n];
}

bool process_may_grow(struct process *p, unsigned cpu, u64 va)
{
	struct region *above;
	bool grows;

	lock_regions(p, cpu);
	above = first_above(p, va);
	grows = above && above->range.flags & VM_GROWSDOWN;
	spin_unlock(&p->lock);
	return grows;
}

bool process_range_at(struct process *p, u64 va, struct range *range)
{
	struct region *found;

	spin_lock(&p->lock);
	found = first_above(p, va);
	if (found && found->range.start <= va)
		*range = found->range;
	else
		found = NULL;
	spin_unlock(&p->lock);
	return found;
}

/* ---- Regions follow areas ---- */

struct following {
	struct process *p;
	unsigned cpu;
	process_back_fn back;
	void *arg;
};

static struct range part_of(const struct range *r, u64 start, u64 end)
{
	struct range part = *r;
	u64 shift = (start - r->start) >> PAGE_SHIFT;

	part.start = start;
	part.end = end;
	part.offset += shift;
	part.under_offset += shift;
	return part;
}

/* A Region for it, in front of `next`.  False: no memory. */
static bool add_region(struct following *w, const struct range *range, struct list_head *next)
{
	struct region *r = create_region(w->p->root.system, w->cpu, range);

	if (r)
		list_add_tail(&r->link, next);
	return r != NULL;
}

static void remove_region(struct following *w, struct region *r)
{
	list_del(&r->link);
	co_destroy(w->p->root.system, w->cpu, r->root.ref);
}

/* The rights of what is at `at` now, and up to where (`end` at most); 0: there is no area. */
static u32 area_flags(struct process *p, u64 at, u64 end, u64 *until)
{
	const struct vma *vma = find_vma(p->mm, at);

	*until = end;
	if (!vma)
		return 0;
	if (vma->start > at) {
		*until = min_of(end, vma->start);
		return 0;
	}
	*until = min_of(end, vma->end);
	/* The bit says that there is one, which may allow nothing. */
	return (vma->flags & REGION_FLAGS) | VM_MAYREAD;
}

static bool agrees(struct process *p, const struct range *r, u64 start, u64 end)
{
	u64 until;

	for (; start < end; start = until) {
		u32 flags = area_flags(p, start, end, &until);

		if (!flags || (flags & REGION_FLAGS) != r->flags)
			return false;
	}
	return true;
}

/* The Region, of which [start, end) may have changed, makes room for those that take its place.
 * fresh: for nothing in that part. */
static bool replace_region(struct following *w, struct region *old, u64 start, u64 end, bool fresh)
{
	const struct range *r = &old->range;
	struct range part;
	bool ok = true;
	u64 until;

	if (r->start < start) {
		part = part_of(r, r->start, start);
		ok = add_region(w, &part, &old->link);
	}
	for (u64 at = max_of(start, r->start); !fresh && at < min_of(end, r->end); at = until) {
		u32 flags = area_flags(w->p, at, min_of(end, r->end), &until);

		part = part_of(r, at, until);
		part.flags = flags & REGION_FLAGS;
		if (flags)
			ok = add_region(w, &part, &old->link) && ok;
	}
	if (r->end > end) {
		part = part_of(r, end, r->end);
		ok = add_region(w, &part, &old->link) && ok;
	}
	remove_region(w, old);
	return ok;
}

/* A stack has grown down to `start`: its Region, too. */
static bool grow(struct following *w, struct region *r, u64 start)
{
	struct range range = r->range;
	u64 pages = (range.start - start) >> PAGE_SHIFT;
	bool ok;

	range.start = start;
	range.offset -= pages;
	ok = add_region(w, &range, &r->link);
	remove_region(w, r);
	return ok;
}

/* [start, end) of the area has no Region; `next` is the one behind it, or NULL. */
static bool cover(struct following *w, const struct vma *vma, u64 start, u64 end,
		  struct region *next)
{
	struct range range = { .start = start, .end = end, .flags = vma->flags & REGION_FLAGS };
	bool ok;

	if (next && next->range.start == end && range.flags & VM_GROWSDOWN &&
	    range.flags == next->range.flags && next->range.offset > (end - start) >> PAGE_SHIFT)
		return grow(w, next, start);
	if (!w->back(w->arg, vma, &range))
		return false;
	ok = add_region(w, &range, next ? &next->link : &w->p->regions);
	fcm_put(range.fcm, w->cpu);
	if (range.under)
		fcm_put(range.under, w->cpu);
	return ok;
}

static bool cover_area(struct following *w, const struct vma *vma, u64 start, u64 end)
{
	struct region *r;
	bool ok = true;

	while (start < end) {
		u64 until = end;

		r = first_above(w->p, start);
		if (r && r->range.start <= start) {
			start = r->range.end;
			continue;
		}
		if (r)
			until = min_of(end, r->range.start);
		ok = cover(w, vma, start, until, r) && ok;
		start = until;
	}
	return ok;
}

int process_follow(struct process *p, unsigned cpu, u64 start, u64 end, bool fresh,
		   process_back_fn back, void *arg)
{
	struct following w = { .p = p, .cpu = cpu, .back = back, .arg = arg };
	struct list_head *l, *next;
	bool ok = true;

	down_read(&p->mm->mmap_lock);
	lock_regions(p, cpu);
	for (l = p->regions.next; l != &p->regions; l = next) {
		struct region *r = region_at(l);
		u64 from = max_of(start, r->range.start), to = min_of(end, r->range.end);

		next = l->next;
		if (from < to && (fresh || !agrees(p, &r->range, from, to)))
			ok = replace_region(&w, r, start, end, fresh) && ok;
	}
	for (struct vma *vma = find_vma(p->mm, start); vma && vma->start < end; vma = vma_next(vma))
		ok = cover_area(&w, vma, max_of(start, vma->start), min_of(end, vma->end)) && ok;
	spin_unlock(&p->lock);
	up_read(&p->mm->mmap_lock);
	return ok ? 0 : -ENOMEM;
}

void process_check(struct process *p)
{
	u64 at = 0;

	for (struct list_head *l = p->regions.next; l != &p->regions; l = l->next) {
		const struct range *r = &region_at(l)->range;

		if (r->start < at || r->start >= r->end || !agrees(p, r, r->start, r->end))
			vmf_panic("tornado: the Region at %lx is not as the areas are",
				  (unsigned long)r->start);
		at = r->end;
	}
	for (struct vma *vma = find_vma(p->mm, 0); vma; vma = vma_next(vma)) {
		for (at = vma->start; at < vma->end;) {
			struct region *r = first_above(p, at);

			if (!r || r->range.start > at)
				vmf_panic("tornado: no Region at %lx", (unsigned long)at);
			at = r->range.end;
		}
	}
}
