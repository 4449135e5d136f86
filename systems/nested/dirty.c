/* SPDX-License-Identifier: MIT */
/*
 * Which pages has the guest written to since it was last asked?
 *
 * Write-protection: no entry of the slot allows writing, so that the first write to each page
 * exits. Page-modification logging: entries allow it, and the processor notes each page whose dirty
 * flag it sets.  Both are by the page, so huge ones are split first, and come back when the log
 * ends.  What was written goes to the slot's bitmap, or to a ring of the vCPU's.
 *
 * A write that is not noted would be lost to who copies the memory: whoever takes a bit out
 * write-protects the page (or resets its dirty flag) and has all TLBs flushed before he copies it;
 * a write after that is noted anew.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/ledger.h"
#include "systems/nested/vm.h"

#define WORD_BITS 64

static u64 words_of(const struct vm_slot *slot)
{
	return (slot->n + WORD_BITS - 1) / WORD_BITS;
}

static void ring_push(struct vm_ring *ring, u32 slot, u64 offset)
{
	ring->entries[ring->tail++ % VM_RING_ENTRIES] =
		(struct vm_ring_entry){ .slot = slot, .offset = offset };
}

void vm_mark_dirty(struct vm *vm, unsigned vcpu, struct vm_slot *slot, u64 gfn)
{
	struct vm_ring *ring = &vm->vcpus[vcpu].ring;
	u64 offset = gfn - slot->gfn, bit = 1ULL << offset % WORD_BITS;

	if (ring->on)
		ring_push(ring, (u32)(slot - vm->slots), offset);
	else
		atomic_fetch_or(&slot->dirty[offset / WORD_BITS], bit);
}

void vm_drain_log(struct vm *vm, unsigned vcpu)
{
	struct stage2_log *log = &vm->vcpus[vcpu].log;

	while (log->index != PML_ENTRIES - 1) {
		u64 gfn = log->gpa[(u16)(log->index + 1)] >> PAGE_SHIFT;
		struct vm_slot *slot = vm_slot_of(vm, gfn);

		log->index++;
		if (slot && slot->flags & VM_SLOT_LOG)
			vm_mark_dirty(vm, vcpu, slot, gfn);
	}
}

/* From now on the first write to each of these pages is noted.  mmu_lock for writing; a flush is
 * owed if any changed. */
static u64 watch(struct vm *vm, u64 gfn, u64 n)
{
	if (vm->log_mode == VM_LOG_PML)
		return stage2_clear_dirty(vm->stage2, gfn, n);
	return stage2_write_protect(vm->stage2, gfn, n);
}

int vm_begin_log(struct vm *vm, struct vm_slot *slot)
{
	s64 split;

	slot->dirty = calloc(words_of(slot), sizeof(*slot->dirty));
	if (!slot->dirty)
		return -ENOMEM;
	/* What is noted from an earlier time is nobody's. */
	for (unsigned i = 0; vm->log_mode == VM_LOG_PML && i < vm->nr_vcpus; i++)
		vm_drain_log(vm, i);
	slot->flags |= VM_SLOT_LOG;
	atomic_fetch_add(&vm->nr_logged, 1);
	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	/* Those that could not be split now are when they are written to; the processor's log needs
	 * them split, so there they go. */
	split = stage2_split(vm->stage2, slot->gfn, slot->n);
	if (split < 0 && vm->log_mode == VM_LOG_PML)
		stage2_zap(vm->stage2, slot->gfn, slot->n);
	watch(vm, slot->gfn, slot->n);
	vm->ops->flush(vm);
	up_write(&vm->mmu_lock);
	return 0;
}

/* Tables of single pages go, so that the next fault there brings a huge one. */
static void recover_huge(struct vm *vm, const struct vm_slot *slot)
{
	u64 most = slot->n / HOST_BLOCK, n = 0, *freed = calloc(most + 1, sizeof(*freed));

	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	if (freed)
		n = stage2_unlink_tables(vm->stage2, slot->gfn, slot->n, freed, most);
	if (n)
		vm->ops->flush(vm);
	for (u64 i = 0; i < n; i++)
		stage2_free_table(vm->stage2, freed[i]);
	up_write(&vm->mmu_lock);
	free(freed);
}

void vm_end_log(struct vm *vm, struct vm_slot *slot)
{
	slot->flags &= ~VM_SLOT_LOG;
	atomic_fetch_sub(&vm->nr_logged, 1);
	free(slot->dirty);
	slot->dirty = NULL;
	if (vm->host->huge)
		recover_huge(vm, slot);
}

/* The pages of word w that are in `bits`. */
static u64 watch_word(struct vm *vm, const struct vm_slot *slot, u64 w, u64 bits)
{
	u64 changed = 0;

	for (; bits; bits &= bits - 1) {
		u64 offset = w * WORD_BITS + (u64)__builtin_ctzll(bits);

		changed += watch(vm, slot->gfn + offset, 1);
	}
	return changed;
}

static void take_bits(struct vm *vm, struct vm_slot *slot, u64 *bits)
{
	u64 changed = 0;

	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	for (u64 w = 0; w < words_of(slot); w++) {
		bits[w] = atomic_exchange(&slot->dirty[w], 0);
		changed += watch_word(vm, slot, w, bits[w]);
	}
	if (changed)
		vm->ops->flush(vm);
	up_write(&vm->mmu_lock);
}

int vm_get_dirty_log(struct vm *vm, unsigned id, u64 *bits, u64 words)
{
	struct vm_slot *slot = &vm->slots[id % VM_SLOTS];
	int err = 0;

	down_read(&vm->slots_lock);
	if (id >= VM_SLOTS || !slot->n || !(slot->flags & VM_SLOT_LOG)) {
		err = -EINVAL;
	} else if (words < words_of(slot)) {
		err = -ERANGE;
	} else {
		for (unsigned i = 0; vm->log_mode == VM_LOG_PML && i < vm->nr_vcpus; i++)
			vm_drain_log(vm, i);
		take_bits(vm, slot, bits);
	}
	up_read(&vm->slots_lock);
	return err;
}

/* ---- rings ---- */

unsigned vm_ring_harvest(struct vm *vm, unsigned vcpu, struct vm_ring_entry *to, unsigned n)
{
	struct vm_ring *ring = &vm->vcpus[vcpu].ring;
	unsigned i = 0;

	while (i < n && ring->head != ring->tail)
		to[i++] = ring->entries[ring->head++ % VM_RING_ENTRIES];
	return i;
}

/* The monitor can write to the ring: nothing of it is believed. */
static bool is_a_page(const struct vm *vm, const struct vm_ring_entry *e)
{
	return e->slot < VM_SLOTS && vm->slots[e->slot].flags & VM_SLOT_LOG &&
	       e->offset < vm->slots[e->slot].n;
}

int vm_ring_reset(struct vm *vm, unsigned vcpu)
{
	struct vm_ring *ring = &vm->vcpus[vcpu].ring;
	bool forged = false;
	u64 changed = 0;
	int n = 0;

	down_read(&vm->slots_lock);
	down_write(&vm->mmu_lock);
	ledger_count(PAID_LOCKS_TABLE);
	for (; ring->reset != ring->head; ring->reset++, n++) {
		const struct vm_ring_entry *e = &ring->entries[ring->reset % VM_RING_ENTRIES];

		if (is_a_page(vm, e))
			changed += watch(vm, vm->slots[e->slot].gfn + e->offset, 1);
		else
			forged = true;
	}
	if (changed)
		vm->ops->flush(vm);
	up_write(&vm->mmu_lock);
	up_read(&vm->slots_lock);
	return forged ? -EINVAL : n;
}
