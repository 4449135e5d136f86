/* SPDX-License-Identifier: MIT */
/*
 * The HAT: a representative for each CPU, with a lock of its own for what this CPU changes.  The
 * entries themselves are in the engine's page table, which all CPUs walk.
 */
#include "engine/base/errno.h"
#include "systems/tornado/objects.h"

struct hat_rep {
	struct co_rep rep;
	spinlock_t lock;
	u64 installed, removed; /* entries, by this CPU; lock */
};

static unsigned miss(struct co_root *root, unsigned cpu)
{
	(void)root;
	return cpu;
}

const struct co_type hat_type = {
	.name = "HAT",
	.size = sizeof(struct hat),
	.rep_size = sizeof(struct hat_rep),
	.miss = miss,
};

struct hat *hat_create(struct co_system *s, unsigned cpu)
{
	struct co_root *root = co_create(s, &hat_type, cpu);

	return root ? container_of(root, struct hat, root) : NULL;
}

int hat_check(const struct range *range, u64 va, pte_t pte)
{
	if (va < range->start || va >= range->end)
		return -EFAULT;
	if (pte_write(pte) && !(range->flags & VM_WRITE))
		return -EACCES;
	return 0;
}

struct hat_rep *hat_begin(struct co_system *s, unsigned cpu, co_ref ref)
{
	struct co_rep *rep;
	struct hat_rep *h;

	if (co_call(s, cpu, ref, &hat_type, &rep))
		return NULL;
	h = container_of(rep, struct hat_rep, rep);
	co_reach(cpu, rep->cpu);
	spin_lock(&h->lock);
	ledger_count(PAID_LOCKS_OBJECT);
	return h;
}

void hat_end(struct hat_rep *h, u64 installed, u64 removed)
{
	h->installed += installed;
	h->removed += removed;
	spin_unlock(&h->lock);
}

s64 hat_count(struct hat *h)
{
	s64 n = 0;

	for (unsigned i = 0; i < h->root.system->nr_cpus; i++) {
		struct hat_rep *r = container_of(co_rep_at(&h->root, i), struct hat_rep, rep);

		n += (s64)(r->installed - r->removed);
	}
	return n;
}
