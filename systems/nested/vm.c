/* SPDX-License-Identifier: MIT */
/*
 * Faults in the second stage, in the order in which KVM does it:
 *
 *   1. The exit says what was touched, how, and what stopped the walk.  A broken entry was put
 * there by us: a device's page, known at once.
 *   2. The slot: none, or written to and read-only: the monitor emulates.
 *   3. The fast way: the page is there and only the dirty log forbids the write.  One
 * compare-and-exchange, without mmu_lock.
 *   4. The notifier's sequence number is read; then the host is asked for the page, which may
 * sleep, or the guest is told that it will take a while (async.h).
 *   5. mmu_lock for reading.  If the host takes this page away now, or has taken any since: again,
 * for the frame that we know may be another's.
 *   6. The largest page that host, slot and log allow is mapped, by compare-and-exchange: other
 * vCPUs are in the same tables.
 *
 * Why 5 is enough: whoever takes a page away adds to `invalidating` and zaps, both with mmu_lock
 * for writing, before the frame gets another use, and adds to the sequence after it.  A fault that
 * has the frame from before finds one or the other changed; one that maps before is zapped.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "machine/soft/second.h"
#include "systems/ledger.h"
#include "systems/nested/vm.h"

const struct ledger_actor vm_hypervisor = { .name = "the hypervisor", .ring = -1, .domain = 2 };

int vm_create(struct vm *vm, enum stage2_format format, struct host_memory *host, u64 frames,
	      unsigned nr_vcpus, const struct vm_ops *ops, void *ctx)
{
	int err;

	*vm = (struct vm){ .ops = ops, .ctx = ctx, .host = host, .nr_vcpus = nr_vcpus };
	rwsem_init(&vm->slots_lock);
	rwsem_init(&vm->mmu_lock);
	vm->vcpus = calloc(nr_vcpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return -ENOMEM;
	for (unsigned i = 0; i < nr_vcpus; i++)
		vm->vcpus[i].log.index = PML_ENTRIES - 1;
	err = stage2_create(format, frames, host_end_hfn(host), &vm->stage2);
	if (err) {
		free(vm->vcpus);
		return err;
	}
	host->invalidate = vm_invalidate;
	host->ctx = vm;
	return 0;
}

void vm_destroy(struct vm *vm)
{
	vm->host->invalidate = NULL;
	for (unsigned i = 0; i < VM_SLOTS; i++)
		free(vm->slots[i].dirty);
	stage2_destroy(vm->stage2);
	free(vm->vcpus);
}

/* ---- slots ---- */

struct vm_slot *vm_slot_of(struct vm *vm, u64 gfn)
{
	for (unsigned i = 0; i < VM_SLOTS; i++)
		if (gfn - vm->slots[i].gfn < vm->slots[i].n)
			return &vm->slots[i];
	return NULL;
}

static bool overlaps(const struct vm_slot *slot, u64 gfn, u64 n)
{
	return slot->n && gfn < slot->gfn + slot->n && slot->gfn < gfn + n;
}

static u64 most_gfn(const struct vm *vm)
{
	return 1ULL << (vm->stage2->control.phys_bits - PAGE_SHIFT);
}

static int check_slot(const struct vm *vm, unsigned id, const struct vm_slot *new)
{
	const struct vm_slot *old = &vm->slots[id];

	if (new->gfn >= most_gfn(vm) || new->n > most_gfn(vm) - new->gfn ||
	    new->page >= vm->host->nr || new->n > vm->host->nr - new->page)
		return -EINVAL;
	if (old->n && (old->gfn != new->gfn || old->n != new->n || old->page != new->page))
		return -EINVAL;
	for (unsigned i = 0; i < VM_SLOTS; i++)
		if (i != id && overlaps(&vm->slots[i], new->gfn, new->n))
			return -EEXIST;
	return 0;
}

static void zap(struct vm *vm, u64 gfn, u64 n)
{
	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	if (stage2_zap(vm->stage2, gfn, n))
		vm->ops->flush(vm);
	up_write(&vm->mmu_lock);
}

static void remove_slot(struct vm *vm, struct vm_slot *slot)
{
	zap(vm, slot->gfn, slot->n);
	if (slot->flags & VM_SLOT_LOG)
		vm_end_log(vm, slot);
	*slot = (struct vm_slot){ 0 };
}

static int change_slot(struct vm *vm, struct vm_slot *slot, const struct vm_slot *new)
{
	u32 changed = slot->flags ^ new->flags;

	if (!slot->n) {
		/* What was noted there as a device's page is memory now. */
		*slot = *new;
		slot->flags &= ~VM_SLOT_LOG;
		changed = new->flags;
		zap(vm, slot->gfn, slot->n);
	}
	if (changed & VM_SLOT_READ_ONLY) {
		slot->flags ^= (slot->flags ^ new->flags) & VM_SLOT_READ_ONLY;
		zap(vm, slot->gfn, slot->n);
	}
	if (!(changed & VM_SLOT_LOG))
		return 0;
	if (!(new->flags &VM_SLOT_LOG)) {
		vm_end_log(vm, slot);
		return 0;
	}
	return vm_begin_log(vm, slot);
}

int vm_set_slot(struct vm *vm, unsigned id, u64 gfn, u64 n, u64 page, u32 flags)
{
	const struct vm_slot new = { .gfn = gfn, .n = n, .page = page, .flags = flags };
	int err = 0;

	if (id >= VM_SLOTS || flags & ~(VM_SLOT_LOG | VM_SLOT_READ_ONLY))
		return -EINVAL;
	down_write(&vm->slots_lock);
	if (!n && !vm->slots[id].n)
		err = -EINVAL;
	else if (!n)
		remove_slot(vm, &vm->slots[id]);
	else
		err = check_slot(vm, id, &new);
	if (n && !err)
		err = change_slot(vm, &vm->slots[id], &new);
	up_write(&vm->slots_lock);
	return err;
}

/* ---- the fault ---- */

/* Of one fault in memory. */
struct request {
	struct vm_slot *slot;
	unsigned vcpu;
	u64 gfn, page;
	bool write, user;
	u64 seq;
};

/* Does the second stage allow by now what was refused? */
static bool is_resolved(struct vm *vm, u64 gfn, bool write)
{
	struct stage2_entry e = stage2_look(vm->stage2, gfn);

	return e.present && (e.write || !write);
}

/* 3.  True: it was that. */
static bool fast_fault(struct vm *vm, const struct request *r)
{
	bool done;

	if (!r->write || !vm->ops->begin_walk(vm, r->vcpu))
		return false;
	done = stage2_allow_write(vm->stage2, r->gfn);
	vm->ops->end_walk(vm, r->vcpu);
	return done;
}

static bool logged(const struct vm_slot *slot)
{
	return slot->flags & VM_SLOT_LOG;
}

static u32 rights_for(const struct vm *vm, const struct request *r)
{
	if (r->slot->flags & VM_SLOT_READ_ONLY)
		return 0;
	if (logged(r->slot) && vm->log_mode == VM_LOG_PROTECT && !r->write)
		return STAGE2_MAY;
	return STAGE2_MAY | STAGE2_WRITE;
}

/* A huge page must be whole in the slot, lie alike on both sides, and be one page to the host; and
 * what is logged is logged by the page. */
static enum mmu_level largest(struct vm *vm, const struct request *r)
{
	const struct vm_slot *s = r->slot;
	u64 first = r->gfn & ~(HOST_BLOCK - 1);

	if (logged(s) || first < s->gfn || first + HOST_BLOCK > s->gfn + s->n ||
	    (r->gfn ^ r->page) & (HOST_BLOCK - 1))
		return LEVEL_PTE;
	return host_level(vm->host, r->page);
}

/* mmu_lock is held. */
static bool is_stale(const struct vm *vm, const struct request *r)
{
	if (vm->invalidating && r->page >= vm->invalid_first && r->page < vm->invalid_end)
		return true;
	return atomic_load(&vm->invalidate_seq) != r->seq;
}

/* Has the host the page?  0; VM_ASYNC: not yet, and the vCPU need not wait; or why not. */
static int bring_page(struct vm *vm, const struct request *r)
{
	struct vcpu *v = &vm->vcpus[r->vcpu];
	int err = host_fault_in(vm->host, r->page, true);

	if (err != -EAGAIN)
		return err;
	if (async_begin(&v->async, r->page, r->user, &v->token))
		return VM_ASYNC;
	return host_fault_in(vm->host, r->page, false);
}

/* 4 to 6. */
static int map_page(struct vm *vm, struct request *r)
{
	int err;

	r->seq = atomic_load(&vm->invalidate_seq);
	ledger_step(&vm_hypervisor, "asks the host for the page of its process: get_user_pages",
		    r->gfn << PAGE_SHIFT);
	err = bring_page(vm, r);
	if (err)
		return err;
	if (vm->ops->between)
		vm->ops->between(vm, r->gfn);
	down_read(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	ledger_step(&vm_hypervisor,
		    "under mmu_lock, has the notifier told of nothing? writes the entry",
		    r->gfn << PAGE_SHIFT);
	if (is_stale(vm, r))
		err = -EAGAIN;
	else
		err = stage2_map(vm->stage2, r->gfn, host_hfn(vm->host, r->page), largest(vm, r),
				 rights_for(vm, r));
	up_read(&vm->mmu_lock);
	return err;
}

static int fault_in_memory(struct vm *vm, struct request *r)
{
	bool noted = logged(r->slot) && vm->log_mode == VM_LOG_PROTECT && r->write;
	int err;

	r->page = r->slot->page + (r->gfn - r->slot->gfn);
	if (!fast_fault(vm, r)) {
		if (is_resolved(vm, r->gfn, r->write))
			return VM_SPURIOUS;
		err = map_page(vm, r);
		if (err == -EEXIST)
			return VM_SPURIOUS;
		if (err)
			return err == -EAGAIN ? VM_RETRY : err;
	}
	if (noted)
		vm_mark_dirty(vm, r->vcpu, r->slot, r->gfn);
	return VM_FIXED;
}

/* No memory is there: the next access is known by its broken entry, without a look at the slots. */
static int fault_in_device(struct vm *vm, u64 gfn)
{
	int err;

	down_read(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	err = stage2_map_broken(vm->stage2, gfn);
	up_read(&vm->mmu_lock);
	return err == -ENOMEM ? err : VM_EMULATE;
}

static int fault(struct vm *vm, unsigned vcpu, const struct guest_exit *x)
{
	struct request r = { .vcpu = vcpu, .gfn = x->gpa >> PAGE_SHIFT };

	r.slot = vm_slot_of(vm, r.gfn);
	r.write = x->access & PF_WRITE;
	r.user = x->access & PF_USER;
	ledger_step(&vm_hypervisor, "looks for the memory slot of the guest-physical address",
		    x->gpa);
	if (!r.slot)
		return fault_in_device(vm, r.gfn);
	if (r.write && r.slot->flags & VM_SLOT_READ_ONLY)
		return VM_EMULATE;
	return fault_in_memory(vm, &r);
}

static bool ring_is_full(const struct vm_ring *ring)
{
	return ring->on && VM_RING_ENTRIES - (ring->tail - ring->reset) < VM_RING_RESERVED;
}

int vm_handle_exit(struct vm *vm, unsigned vcpu, const struct guest_exit *x)
{
	struct vcpu *v = &vm->vcpus[vcpu];
	int result;

	v->exits[x->outcome]++;
	down_read(&vm->slots_lock);
	vm_drain_log(vm, vcpu);
	if (x->outcome == STAGE2_MISCONFIG)
		result = VM_EMULATE;
	else if (x->outcome == STAGE2_LOG_FULL)
		result = VM_FIXED;
	else
		result = fault(vm, vcpu, x);
	if (result >= 0 && result != VM_EMULATE && ring_is_full(&v->ring))
		result = VM_RING_FULL;
	up_read(&vm->slots_lock);
	return result;
}

int vm_populate(struct vm *vm, unsigned id)
{
	struct vm_slot *slot = &vm->slots[id];
	int result = 0;

	down_read(&vm->slots_lock);
	for (u64 i = 0; result >= 0 && i < slot->n; i++) {
		struct request r = { .slot = slot, .gfn = slot->gfn + i };

		result = fault_in_memory(vm, &r);
	}
	up_read(&vm->slots_lock);
	return min_of(result, 0);
}

/* ---- the notifier ---- */

static void zap_pages(struct vm *vm, u64 first, u64 n)
{
	u64 zapped = 0;

	for (unsigned i = 0; i < VM_SLOTS; i++) {
		const struct vm_slot *s = &vm->slots[i];
		u64 from = max_of(first, s->page), to = min_of(first + n, s->page + s->n);

		if (s->n && from < to)
			zapped += stage2_zap(vm->stage2, s->gfn + (from - s->page), to - from);
	}
	if (zapped)
		vm->ops->flush(vm);
}

static void note_range(struct vm *vm, u64 first, u64 n)
{
	if (!vm->invalidating++) {
		vm->invalid_first = first;
		vm->invalid_end = first + n;
		return;
	}
	vm->invalid_first = min_of(vm->invalid_first, first);
	vm->invalid_end = max_of(vm->invalid_end, first + n);
}

/* Slots are read without their lock, as the notifier may come from within a fault: those who change
 * one zap it with mmu_lock for writing. */
void vm_invalidate(void *ctx, u64 first, u64 n, bool begins)
{
	struct vm *vm = ctx;

	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	if (begins) {
		note_range(vm, first, n);
		zap_pages(vm, first, n);
	} else {
		atomic_fetch_add(&vm->invalidate_seq, 1);
		vm->invalidating--;
	}
	up_write(&vm->mmu_lock);
}
