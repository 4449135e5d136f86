/* SPDX-License-Identifier: MIT */
/* Spaces come and go. */
#include "engine/base/check.h"
#include "engine/engine.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

int mm_create(struct engine *e, u64 low, u64 high, struct mm **out)
{
	struct mm *mm;
	int err;

	if (!PAGE_ALIGNED(low) || !PAGE_ALIGNED(high) || low >= high || high > 1ULL << 47)
		return -EINVAL;
	mm = e->memory.alloc(e->memory.ctx, sizeof(*mm));
	if (!mm)
		return -ENOMEM;
	mm->engine = e;
	mm->low = max_of(low, (u64)PAGE_SIZE); /* address 0 means "none" */
	mm->high = high;
	mm->mmap_min = mm->low;
	mm->limits = (struct mm_limits){ .as = ~0ULL,
					 .data = ~0ULL,
					 .stack = ~0ULL,
					 .memlock = ~0ULL,
					 .map_count = MAX_MAP_COUNT,
					 .commit = ~0ULL };
	atomic_store_explicit(&mm->users, 1, memory_order_relaxed);
	rwsem_init_class(&mm->mmap_lock, LOCK_MMAP);
	spin_init_class(&mm->table_lock, LOCK_PAGE_TABLE);
	list_init(&mm->vmas);
	spin_init(&mm->policy_lock);
	list_init(&mm->userfaults);
	list_init(&mm->userfault_events);
	err = tables_init(mm);
	if (err) {
		e->memory.free(e->memory.ctx, mm, sizeof(*mm));
		return err;
	}
	spin_lock(&e->mms_lock);
	list_add_tail(&mm->link, &e->mms);
	spin_unlock(&e->mms_lock);
	*out = mm;
	return 0;
}

/* Who finds it in the list has its mmap_lock, or visits it, before it goes from there. */
static void leave_list(struct mm *mm)
{
	struct engine *e = mm->engine;
	u32 visitors;

	spin_lock(&e->mms_lock);
	while (unlikely(visitors = atomic_load_explicit(&mm->visitors, memory_order_relaxed))) {
		spin_unlock(&e->mms_lock);
		machine_wait(&mm->visitors, visitors);
		spin_lock(&e->mms_lock);
	}
	list_del(&mm->link);
	spin_unlock(&e->mms_lock);
}

/* mms_lock held: the space may be gone as soon as that is not. */
static void leave_mm(struct mm *mm)
{
	if (atomic_fetch_sub_explicit(&mm->visitors, 1, memory_order_relaxed) == 1)
		machine_wake(&mm->visitors, 1);
}

struct mm *mm_visit_next(struct engine *e, struct mm *mm)
{
	struct list_head *at;
	struct mm *next = NULL;

	spin_lock(&e->mms_lock);
	at = mm ? mm->link.next : e->mms.next;
	if (at != &e->mms) {
		next = list_entry(at, struct mm, link);
		atomic_fetch_add_explicit(&next->visitors, 1, memory_order_relaxed);
	}
	if (mm)
		leave_mm(mm);
	spin_unlock(&e->mms_lock);
	return next;
}

void mm_set_owner(struct mm *mm, const struct oom_owner *owner)
{
	spin_lock(&mm->engine->mms_lock);
	mm->owner = *owner;
	spin_unlock(&mm->engine->mms_lock);
}

struct oom_owner mm_owner(const struct mm *mm)
{
	struct oom_owner owner;

	spin_lock(&mm->engine->mms_lock);
	owner = mm->owner;
	spin_unlock(&mm->engine->mms_lock);
	return owner;
}

void mm_visit_again(struct mm *mm)
{
	spin_lock(&mm->engine->mms_lock);
	atomic_fetch_add_explicit(&mm->visitors, 1, memory_order_relaxed);
	spin_unlock(&mm->engine->mms_lock);
}

void mm_visit_end(struct mm *mm)
{
	struct engine *e = mm->engine;

	spin_lock(&e->mms_lock);
	leave_mm(mm);
	spin_unlock(&e->mms_lock);
}

void mm_destroy(struct mm *mm)
{
	struct engine *e = mm->engine;
	struct vma *vma;

	atomic_store_explicit(&mm->exiting, true, memory_order_relaxed);
	leave_list(mm);
	down_write(&mm->mmap_lock);
	/* Seals hold as long as the space does. */
	list_for_each_entry (vma, &mm->vmas, link) {
		if (vma->flags & VM_SEALED)
			__atomic_store_n(&vma->flags, vma->flags & ~(u32)VM_SEALED,
					 __ATOMIC_RELAXED);
	}
	unmap_silently(mm, mm->low, mm->high);
	VMF_ASSERT(!mm->map_count);
	up_write(&mm->mmap_lock);
	if (unlikely(!list_empty(&mm->userfaults)))
		userfaultfd_exit(mm);
	spin_lock(&e->mms_lock); /* under which he lets go of it */
	spin_unlock(&e->mms_lock);
	tables_fini(mm);
	e->memory.free(e->memory.ctx, mm, sizeof(*mm));
}

void mmput(struct mm *mm)
{
	if (atomic_fetch_sub_explicit(&mm->users, 1, memory_order_acq_rel) == 1)
		mm_destroy(mm);
}
