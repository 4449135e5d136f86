/* SPDX-License-Identifier: MIT */
/*
 * The DRAM manager: a representative for each CPU, which has the frames that this CPU took last.
 * A frame that another CPU takes, or gives back, is a word in that other's memory.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/tornado/objects.h"

#define IN_USE	0x80000000u
#define HOME(w) (((w) & ~IN_USE) - 1) /* of a word that is not 0 */

struct dram_rep {
	struct co_rep rep;
	_Atomic u64 in_use; /* frames at home here; others may give one back */
};

static unsigned miss(struct co_root *root, unsigned cpu)
{
	(void)root;
	return cpu;
}

static void fini(struct co_root *root)
{
	free(container_of(root, struct dram, root)->frames);
}

const struct co_type dram_type = {
	.name = "DRAM manager",
	.size = sizeof(struct dram),
	.rep_size = sizeof(struct dram_rep),
	.miss = miss,
	.fini = fini,
};

struct dram *dram_create(struct co_system *s, u64 first, u64 n)
{
	struct co_root *root = co_create(s, &dram_type, 0);
	struct dram *d = container_of(root, struct dram, root);

	if (!root)
		return NULL;
	d->first = first;
	d->n = n;
	d->frames = calloc(n, sizeof(*d->frames));
	if (d->frames)
		return d;
	co_destroy(s, 0, root->ref);
	return NULL;
}

static struct dram_rep *rep_at(struct dram *d, unsigned cpu)
{
	return container_of(co_rep_at(&d->root, cpu), struct dram_rep, rep);
}

int dram_get_frame(struct co_system *s, unsigned cpu, co_ref ref, u64 pfn)
{
	struct co_rep *rep;
	int err = co_call(s, cpu, ref, &dram_type, &rep);
	struct dram *d;
	u32 word;

	if (err)
		return err;
	d = container_of(rep->root, struct dram, root);
	if (pfn - d->first >= d->n)
		return -EINVAL;
	word = atomic_load(&d->frames[pfn - d->first]);
	do {
		if (word & IN_USE)
			return -EBUSY;
	} while (!atomic_compare_exchange_weak(&d->frames[pfn - d->first], &word,
					       IN_USE | (cpu + 1)));
	if (word)
		co_reach(cpu, HOME(word));
	atomic_fetch_add(&container_of(rep, struct dram_rep, rep)->in_use, 1);
	ledger_step(&dram_object, "gives one, which is at home with this CPU", pfn << PAGE_SHIFT);
	return 0;
}

int dram_free_frame(struct co_system *s, unsigned cpu, co_ref ref, u64 pfn)
{
	struct co_rep *rep;
	int err = co_call(s, cpu, ref, &dram_type, &rep);
	struct dram *d;
	u32 word;

	if (err)
		return err;
	d = container_of(rep->root, struct dram, root);
	if (pfn - d->first >= d->n)
		return -EINVAL;
	word = atomic_load(&d->frames[pfn - d->first]);
	do {
		if (!(word & IN_USE))
			return -EINVAL;
	} while (!atomic_compare_exchange_weak(&d->frames[pfn - d->first], &word, word & ~IN_USE));
	co_reach(cpu, HOME(word));
	atomic_fetch_sub(&rep_at(d, HOME(word))->in_use, 1);
	return 0;
}

bool dram_in_use(const struct dram *d, u64 pfn)
{
	return pfn - d->first < d->n && atomic_load(&d->frames[pfn - d->first]) & IN_USE;
}

u64 dram_count(const struct dram *d, unsigned cpu)
{
	return atomic_load(&rep_at((struct dram *)d, cpu)->in_use);
}
