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

static int write_where_the_region_forbids(struct system *s)
{
	const struct range range = { .start = AT, .end = AT + PAGE_SIZE, .flags = VM_READ };

	(void)s;
	return hat_check(&range, AT, pte_make(1, PTE_PRESENT | PTE_USER | PTE_WRITE));
}

static int map_outside_the_region(struct system *s)
{
	const struct range range = { .start = AT, .end = AT + PAGE_SIZE, .flags = VM_READ };

	(void)s;
	return hat_check(&range, AT + PAGE_SIZE, pte_make(1, PTE_PRESENT | PTE_USER));
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
