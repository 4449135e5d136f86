/* SPDX-License-Identifier: MIT */
/* What a malicious guest, or a malicious monitor, tries, straight at the hypervisor. */
#include "engine/base/errno.h"
#include "systems/common/guest_attack.h"
#include "systems/nested/nested.h"

/* The hypervisor's error, 0: it could. */
static int touch_frame(struct system *s, enum mmu_level level, u64 gfn, u32 access)
{
	struct vcpu *v = &nested_vm(s)->vcpus[0];
	enum fault_reason reason;

	v->error = 0;
	reason = guest_attack_touch(s, level, gfn, access);
	return (reason == FAULT_OK) == (v->error == 0) ? v->error : 1;
}

static int behind_its_memory(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, nested_vm(s)->host->nr, 0);
}

static int hypervisor_table(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, nested_vm(s)->stage2->root, PF_WRITE);
}

static int host_frame(struct system *s)
{
	return touch_frame(s, LEVEL_PTE, host_hfn(nested_vm(s)->host, 0), 0);
}

static int table_that_is_none(struct system *s)
{
	return touch_frame(s, LEVEL_PMD, nested_vm(s)->host->nr, 0);
}

/* Again, when the entry is there that stands for a device. */
static int device_again(struct system *s)
{
	touch_frame(s, LEVEL_PTE, nested_vm(s)->host->nr, 0);
	return touch_frame(s, LEVEL_PTE, nested_vm(s)->host->nr, PF_WRITE);
}

#define READ_ONLY_GFN (1ULL << 22)

static int read_only_memory(struct system *s)
{
	int err = vm_set_slot(nested_vm(s), 1, READ_ONLY_GFN, 1, nested_vm(s)->host->nr - 1,
			      VM_SLOT_READ_ONLY);

	/* It may be read. */
	if (err || touch_frame(s, LEVEL_PTE, READ_ONLY_GFN, 0))
		return 1;
	return touch_frame(s, LEVEL_PTE, READ_ONLY_GFN, PF_WRITE);
}

static int memory_that_is_gone(struct system *s)
{
	struct vm *vm = nested_vm(s);

	if (vm_set_slot(vm, 1, READ_ONLY_GFN, 1, nested_vm(s)->host->nr - 1, 0) ||
	    touch_frame(s, LEVEL_PTE, READ_ONLY_GFN, PF_WRITE) || vm_set_slot(vm, 1, 0, 0, 0, 0))
		return 1;
	return touch_frame(s, LEVEL_PTE, READ_ONLY_GFN, 0);
}

static int overlapping_slots(struct system *s)
{
	return vm_set_slot(nested_vm(s), 1, nested_vm(s)->host->nr - 1, 2, 0, 0);
}

static int memory_of_another(struct system *s)
{
	return vm_set_slot(nested_vm(s), 1, READ_ONLY_GFN, 2, nested_vm(s)->host->nr - 1, 0);
}

static int slot_that_wraps(struct system *s)
{
	return vm_set_slot(nested_vm(s), 1, ~0ULL, 2, 0, 0);
}

static int log_of_what_is_not_logged(struct system *s)
{
	u64 bits[1024];

	return vm_get_dirty_log(nested_vm(s), 0, bits, ARRAY_SIZE(bits));
}

static int made_up_ring_entry(struct system *s)
{
	struct vm *vm = nested_vm(s);
	struct vm_ring *ring = &vm->vcpus[0].ring;

	if (vm_set_slot(vm, 0, 0, nested_vm(s)->host->nr, 0, VM_SLOT_LOG))
		return 1;
	ring->on = true;
	ring->entries[ring->tail++] =
		(struct vm_ring_entry){ .slot = 0, .offset = nested_vm(s)->host->nr };
	ring->head = ring->tail;
	return vm_ring_reset(vm, 0);
}

const struct system_attack nested_attacks[NESTED_ATTACKS] = {
	{ "a guest maps a frame behind its memory", behind_its_memory, -EFAULT },
	{ "and once more", device_again, -EFAULT },
	{ "a guest maps the hypervisor's table", hypervisor_table, -EFAULT },
	{ "a guest takes a host's frame number for its own", host_frame, -EFAULT },
	{ "a guest's page table is where it has no memory", table_that_is_none, -EFAULT },
	{ "a guest writes to read-only memory", read_only_memory, -EACCES },
	{ "a guest touches memory that was taken away", memory_that_is_gone, -EFAULT },
	{ "a monitor gives the same address twice", overlapping_slots, -EEXIST },
	{ "a monitor gives memory that it has not", memory_of_another, -EINVAL },
	{ "a slot goes past the end of all addresses", slot_that_wraps, -EINVAL },
	{ "the log of a slot that is not logged", log_of_what_is_not_logged, -EINVAL },
	{ "a monitor makes up an entry of the dirty ring", made_up_ring_entry, -EINVAL },
};
