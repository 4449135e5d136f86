/* SPDX-License-Identifier: MIT */
/* What Tornado's objects must refuse. */
#include "engine/base/errno.h"
#include "systems/tornado/fault.h"

#define AT 0x20000000ULL

static struct tornado *attacked(struct system *s)
{
	struct tornado *t = container_of(engine_system_of(s), struct tornado, base);

	co_enter(&t->objects, 0);
	return t;
}

static int ends(struct tornado *t, int err)
{
	co_exit(&t->objects, 0);
	return err;
}

static int made_up_reference(struct system *s)
{
	struct tornado *t = attacked(s);
	struct co_rep *rep;

	return ends(t, co_call(&t->objects, 0, t->processes[0]->root.ref ^ 1ULL << 40,
			       &process_type, &rep));
}

static int reference_of_a_destroyed(struct system *s)
{
	struct tornado *t = attacked(s);
	struct fcm *f = tornado_new_fcm(t);
	struct fault_notification n;
	struct fcm_page page;
	co_ref ref;

	if (!f)
		return ends(t, 1);
	ref = f->root.ref;
	if (fcm_get_page(&t->objects, 0, ref, 0, &page, &n) != FCM_FILL)
		return ends(t, 1);
	fcm_put(f, 0);
	return ends(t, fcm_get_page(&t->objects, 0, ref, 0, &page, &n));
}

static int another_type(struct system *s)
{
	struct tornado *t = attacked(s);
	struct fcm_page page;

	return ends(t, fcm_get_page(&t->objects, 0, t->processes[0]->root.ref, 0, &page, NULL));
}

static int complete_what_is_not_begun(struct system *s)
{
	struct tornado *t = attacked(s);
	struct fcm *f = tornado_new_fcm(t);
	int err = f ? fcm_io_complete(&t->objects, 0, f->root.ref, 3, 1, t->dram->first) : 1;

	if (f)
		fcm_put(f, 0);
	return ends(t, err);
}

static int complete_another_s_fault(struct system *s)
{
	struct tornado *t = attacked(s);
	struct fcm *f = tornado_new_fcm(t);
	struct fault_notification n;
	struct fcm_page page;
	int err = 1;

	if (f && fcm_get_page(&t->objects, 0, f->root.ref, 3, &page, &n) == FCM_FILL)
		err = fcm_io_complete(&t->objects, 0, f->root.ref, 3, page.fault + 1,
				      t->dram->first);
	if (f)
		fcm_put(f, 0);
	return ends(t, err);
}

static int frame_twice(struct system *s)
{
	struct tornado *t = attacked(s);
	u64 pfn = t->dram->first;
	int err = 1;

	if (!dram_get_frame(&t->objects, 0, t->dram->root.ref, pfn))
		err = dram_get_frame(&t->objects, 0, t->dram->root.ref, pfn);
	dram_free_frame(&t->objects, 0, t->dram->root.ref, pfn);
	return ends(t, err);
}

static int frame_of_the_kernel(struct system *s)
{
	struct tornado *t = attacked(s);

	return ends(t, dram_get_frame(&t->objects, 0, t->dram->root.ref, t->dram->first - 1));
}

static int free_twice(struct system *s)
{
	struct tornado *t = attacked(s);
	u64 pfn = t->dram->first;

	if (dram_get_frame(&t->objects, 0, t->dram->root.ref, pfn) ||
	    dram_free_frame(&t->objects, 0, t->dram->root.ref, pfn))
		return ends(t, 1);
	return ends(t, dram_free_frame(&t->objects, 0, t->dram->root.ref, pfn));
}

static u64 frames_in_use(const struct tornado *t)
{
	u64 n = 0;

	for (u64 i = 0; i < t->base.machine->nr_user; i++)
		n += dram_in_use(t->dram, t->dram->first + i);
	return n;
}

/*
 * A fault for which the engine below would map more than the Region allows, as if its area had just
 * been given rights, or room, that the Region does not follow yet.  Nothing may be mapped, and no
 * frame be gone.
 */
static int map_past_the_hat(struct system *s, u32 flags, u64 pages, int refused)
{
	const struct program_map area = { .addr = AT,
					  .len = 2 * PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .flags = VMAP_FIXED,
					  .file = -1 };
	s64 at = s->program->ops->map(s->program, 0, &area);
	struct tornado *t = attacked(s);
	u64 va = AT + PAGE_SIZE, used = frames_in_use(t);
	struct fault f = { .tornado = t,
			   .process = t->processes[0],
			   .mm = t->base.mm,
			   .address = va,
			   .va = va,
			   .code = PF_USER | PF_WRITE,
			   .page.pfn = NO_PFN };
	struct fault_result r;
	spinlock_t *ptl;
	pte_t *entry;

	if (at < 0 || fault_find_region(&f, false))
		return ends(t, 1);
	f.fcm = f.range.fcm;
	f.range.flags = flags;
	f.range.end = AT + pages * PAGE_SIZE;
	fault_below(&f);
	r = resolve_fault(f.mm, va, f.code, FAULT_FLAG_USER);
	fault_below(NULL);
	entry = pte_find(f.mm, va, &ptl);
	if (r.reason != FAULT_RETRY || (entry && pte_mapped(pte_read(entry))) ||
	    frames_in_use(t) != used)
		return ends(t, 1);
	return ends(t, refused);
}

static int write_where_the_region_forbids(struct system *s)
{
	return map_past_the_hat(s, VM_READ, 2, -EACCES);
}

static int map_outside_the_region(struct system *s)
{
	return map_past_the_hat(s, VM_READ | VM_WRITE, 1, -EFAULT);
}

const struct system_attack tornado_attacks[NR_TORNADO_ATTACKS] = {
	{ "a reference is made up", made_up_reference, -EBADF },
	{ "an object is called that is destroyed", reference_of_a_destroyed, -EBADF },
	{ "an object is called as one of another type", another_type, -EINVAL },
	{ "a server completes I/O that nobody has begun", complete_what_is_not_begun, -ENOENT },
	{ "a server completes the I/O of another fault", complete_another_s_fault, -EINVAL },
	{ "a frame that is in use is asked for", frame_twice, -EBUSY },
	{ "a frame of the kernel's is asked for", frame_of_the_kernel, -EINVAL },
	{ "a frame is given back twice", free_twice, -EINVAL },
	{ "the HAT is to allow what the Region forbids", write_where_the_region_forbids, -EACCES },
	{ "the HAT is to map outside of the Region", map_outside_the_region, -EFAULT },
};
