/* SPDX-License-Identifier: MIT */
/*
 * What a malicious guest tries: each by the call that it would make, with its own kernel on the
 * first CPU.  Where an attack could have left something behind although it was refused, it says 1.
 */
#include "engine/base/errno.h"
#include "systems/xen/guest.h"

#define BITS (PTE_PRESENT | PTE_USER | PTE_ACCESSED)

static struct frames *frames_of(struct system *s)
{
	return &guest_of(s)->xen.frames;
}

static u64 root_of(struct system *s)
{
	return guest_of(s)->base.mm->pgd_phys >> PAGE_SHIFT;
}

static pte_t *entry_of_own(struct system *s, u64 pfn)
{
	return kernel_pte(&guest_of(s)->kernel, guest_va(pfn));
}

/* A last-level table of the guest's: that in which its own frames' mappings are. */
static u64 l1_of(struct system *s)
{
	return guest_machine_address(guest_of(s), entry_of_own(s, 0)) >> PAGE_SHIFT;
}

/* A frame for programs, which nobody has in use. */
static u64 free_frame(struct system *s)
{
	return guest_of(s)->base.machine->nr_table + guest_of(s)->base.machine->nr_user - 1;
}

/* The frame's entry in the guest's own mapping of it becomes pte. */
static int map_there(struct system *s, u64 own, pte_t pte)
{
	pte_t old, *entry = entry_of_own(s, own), was = pte_read(entry);
	int err = xen_update_va(&guest_of(s)->xen, 0, guest_va(own), pte, &old);

	return err && !pte_same(was, pte_read(entry)) ? 1 : err;
}

static int root_entry(struct system *s, unsigned slot, pte_t pte)
{
	pte_t old, *entry = &guest_of(s)->base.mm->pgd[slot], was = pte_read(entry);
	int err = xen_mmu_update(&guest_of(s)->xen, guest_machine_address(guest_of(s), entry), pte,
				 false, &old);

	return err && !pte_same(was, pte_read(entry)) ? 1 : err;
}

static int own_table_writable(struct system *s)
{
	u64 l1 = l1_of(s);

	return map_there(s, l1, pte_make(l1, BITS | PTE_WRITE));
}

static int another_domain_s_frame(struct system *s)
{
	return map_there(s, free_frame(s), pte_make(XEN_FOREIGN_FRAME(&guest_of(s)->xen), BITS));
}

static int xen_s_frame(struct system *s)
{
	return map_there(s, free_frame(s), pte_make(XEN_OWN_FRAME(&guest_of(s)->xen), BITS));
}

static int frame_that_is_none(struct system *s)
{
	return map_there(s, free_frame(s), pte_make(frames_of(s)->nr + 5, BITS));
}

static int reserved_bits(struct system *s)
{
	return map_there(s, free_frame(s), pte_make(free_frame(s), BITS | PTE_GLOBAL));
}

static int root_as_l3(struct system *s)
{
	return root_entry(s, 3, pte_make(guest_of(s)->kernel.pgd_phys >> PAGE_SHIFT, BITS));
}

static int itself_writable(struct system *s)
{
	return root_entry(s, 3, pte_make(root_of(s), BITS | PTE_WRITE));
}

static int linear_made_writable(struct system *s)
{
	if (root_entry(s, 3, pte_make(root_of(s), BITS)))
		return 1; /* that one is allowed */
	return itself_writable(s);
}

static int data_as_table(struct system *s)
{
	return root_entry(s, 3, pte_make(free_frame(s), BITS));
}

static int huge_page(struct system *s)
{
	return root_entry(s, 3, pte_make(l1_of(s), BITS | PTE_HUGE));
}

static int xen_s_slot(struct system *s)
{
	return root_entry(s, XEN_FIRST_SLOT, pte_make(l1_of(s), BITS));
}

static int xen_s_address(struct system *s)
{
	pte_t old;

	return xen_update_va(&guest_of(s)->xen, 0, XEN_START, pte_make(free_frame(s), BITS), &old);
}

static int pin_of_another(struct system *s)
{
	frames_of(s)->frame[free_frame(s)].owner = XEN_GUEST + 1;
	return frames_pin(frames_of(s), XEN_GUEST, free_frame(s), FRAME_L1);
}

static int pin_while_writable(struct system *s)
{
	struct frame before = frames_look(frames_of(s), free_frame(s)), after;
	int err = frames_pin(frames_of(s), XEN_GUEST, free_frame(s), FRAME_L1);

	after = frames_look(frames_of(s), free_frame(s));
	return before.count != after.count || after.pinned ? 1 : err;
}

static int base_that_is_none(struct system *s)
{
	return xen_new_baseptr(&guest_of(s)->xen, 0, l1_of(s));
}

static int unaligned_update(struct system *s)
{
	pte_t old;

	return xen_mmu_update(&guest_of(s)->xen, (root_of(s) << PAGE_SHIFT) + 3,
			      pte_make(free_frame(s), BITS), false, &old);
}

static int bad_stack(struct system *s)
{
	struct guest *g = guest_of(s);

	xen_stack_switch(&g->xen, 0, XEN_START + PAGE_SIZE);
	if (xen_syscall(&g->xen, &g->base.machine->cpus[0], "with a stack in Xen's range"))
		return g->xen.crashed ? -EFAULT : 1;
	return 0;
}

/* A store by the guest's kernel, with writable tables, to the last-level table that l1_of() is. */
static int store_to_table(struct system *s, u64 offset, u64 value)
{
	struct guest *g = guest_of(s);
	const pte_t *entries = (const pte_t *)g->base.machine->memory + l1_of(s) * PTRS_PER_TABLE;
	pte_t was[2] = { entries[0], entries[1] };
	int err;

	g->xen.writable_tables = true;
	if (xen_syscall(&g->xen, &g->base.machine->cpus[0], "to store to a table"))
		return 1;
	err = xen_guest_store(&g->xen, &g->base.machine->cpus[0], guest_va(l1_of(s)) + offset,
			      value, 8);
	return memcmp(was, entries, sizeof(was)) ? 1 : err;
}

static int store_of_a_table(struct system *s)
{
	return store_to_table(s, 0, pte_make(l1_of(s), BITS | PTE_WRITE).v);
}

static int store_over_two_entries(struct system *s)
{
	return store_to_table(s, 4, 0);
}

/* The driver's domain maps what the guest has granted; nothing may be held after. */
static int grant_mapped(struct system *s, u64 granted, u32 rights)
{
	struct blkring *r = &guest_of(s)->ring;
	struct frame before = frames_look(frames_of(s), granted), after;
	u64 pfn;
	int grant, err;

	grant = blkring_grant(r, granted, rights);
	err = xen_grant_map(r, (u32)grant, true, &pfn);
	after = frames_look(frames_of(s), granted);
	return before.count != after.count || before.type_count != after.type_count ? 1 : err;
}

static int read_into_a_table(struct system *s)
{
	return grant_mapped(s, l1_of(s), GRANT_READ | GRANT_WRITE);
}

static int grant_of_another_s(struct system *s)
{
	return grant_mapped(s, XEN_FOREIGN_FRAME(&guest_of(s)->xen), GRANT_READ | GRANT_WRITE);
}

static int grant_for_reading(struct system *s)
{
	return grant_mapped(s, free_frame(s), GRANT_READ);
}

static int grant_that_is_none(struct system *s)
{
	u64 pfn;

	return xen_grant_map(&guest_of(s)->ring, BLK_GRANTS + 3, false, &pfn);
}

static int grant_ended_too_early(struct system *s)
{
	struct blkring *r = &guest_of(s)->ring;
	int grant = blkring_grant(r, free_frame(s), GRANT_READ), err;
	u64 pfn;

	if (xen_grant_map(r, (u32)grant, false, &pfn))
		return 1;
	err = blkring_end_grant(r, (u32)grant);
	xen_grant_unmap(r, (u32)grant, false, pfn);
	return blkring_end_grant(r, (u32)grant) ? 1 : err;
}

const struct system_attack guest_attacks[GUEST_ATTACKS] = {
	{ "a table of its own is mapped writable", own_table_writable, -EINVAL },
	{ "a mapping of another domain's frame", another_domain_s_frame, -EPERM },
	{ "a mapping of Xen's frame", xen_s_frame, -EPERM },
	{ "a mapping of a frame that is none", frame_that_is_none, -EPERM },
	{ "an entry with bits that are not the guest's", reserved_bits, -EINVAL },
	{ "a root in a root's entry", root_as_l3, -EINVAL },
	{ "a root that maps itself writable", itself_writable, -EINVAL },
	{ "a linear map that becomes writable", linear_made_writable, -EINVAL },
	{ "a page that is mapped writable, as a table", data_as_table, -EINVAL },
	{ "an entry above the last level that maps a page", huge_page, -EINVAL },
	{ "a top-level entry that is Xen's", xen_s_slot, -EPERM },
	{ "a mapping in Xen's range", xen_s_address, -EPERM },
	{ "another domain's frame is pinned", pin_of_another, -EPERM },
	{ "a frame is pinned while it is mapped writable", pin_while_writable, -EINVAL },
	{ "a last-level table is loaded as a root", base_that_is_none, -EINVAL },
	{ "an update that is not aligned", unaligned_update, -EINVAL },
	{ "a kernel stack in Xen's range", bad_stack, -EFAULT },
	{ "a store of a table's own frame into it", store_of_a_table, -EINVAL },
	{ "a store over two entries of a table", store_over_two_entries, -EINVAL },
	{ "a page table is granted to be read into", read_into_a_table, -EINVAL },
	{ "another domain's frame is granted", grant_of_another_s, -EPERM },
	{ "a grant for reading is mapped for writing", grant_for_reading, -EACCES },
	{ "a grant that is none", grant_that_is_none, -ENOENT },
	{ "a grant ends while it is mapped", grant_ended_too_early, -EBUSY },
};
