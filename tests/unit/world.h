/* SPDX-License-Identifier: MIT */
/* A whole small machine for tests: soft machine, engine, memory store, one space. */
#ifndef VMF_TESTS_WORLD_H
#define VMF_TESTS_WORLD_H

#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"

#define WORLD_LOW  0x10000000ULL
#define WORLD_HIGH 0x7f0000000000ULL

struct world_options {
	u64 frames;	   /* of programs; 0: 256 */
	u64 slots;	   /* 0: 4096 */
	u64 capacity;	   /* bytes of the store; 0: no limit */
	unsigned prefetch; /* 0: 1 */
	unsigned segment;  /* 0: 16 */
	unsigned runs;	   /* 0: any */
	u64 kept;
	bool kept_within_savings;
	unsigned cpus; /* 0: 1 */
	bool may_exceed;
	int swappiness; /* 0: 60; -1: 0 */
	enum compression compress;
	struct store *store; /* NULL: a memory store */
	const struct reclaim_policy *policy;
	bool unchecked;
	bool rewalks; /* its CPUs walk the tables again before they say that a right is missing */
	enum thp_mode thp;
	struct numa_config nodes;
};

struct world {
	struct soft_machine *m;
	struct engine *e;
	struct store *store;
	bool own_store;
	struct mm *mm;
	struct soft_cpu *cpu;
};

static inline void *world_alloc(void *ctx, u64 bytes)
{
	u64 rounded = (bytes + 63) & ~63ULL;
	void *p = aligned_alloc(64, rounded);

	(void)ctx;
	if (p)
		memset(p, 0, rounded);
	return p;
}

static inline void world_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	(void)bytes;
	free(p);
}

static const struct engine_memory world_memory = { .alloc = world_alloc, .free = world_free };

static inline int world_create(struct world *w, struct world_options o)
{
	u64 frames = o.frames ? o.frames : 256;
	struct engine_config config = {
		.prefetch = o.prefetch ? o.prefetch : 1,
		.segment = o.segment ? o.segment : 16,
		.runs = o.runs,
		.kept_slots = o.kept,
		.kept_within_savings = o.kept_within_savings,
		.marks = { .min = frames / 16, .low = frames / 8, .high = frames / 4 },
		.may_exceed = o.may_exceed,
		.swappiness = o.swappiness ? (unsigned)max_of(o.swappiness, 0) : 60,
		.policy = o.policy,
		.thp = o.thp,
		.nodes = o.nodes,
	};
	struct soft_options so = {
		.table_frames = 1024,
		.user_frames = frames,
		.nr_cpus = o.cpus ? o.cpus : 1,
		.checked = !o.unchecked,
		.pcids = true,
		.stale_rights = !o.rewalks,
		.config = &config,
		.store = o.store,
	};
	int err;

	memset(w, 0, sizeof(*w));
	if (!so.store) {
		err = memory_store_create(&world_memory, o.compress, o.slots ? o.slots : 4096,
					  o.capacity, so.nr_cpus + 1, &so.store);
		if (err)
			return err;
		w->own_store = true;
	}
	w->store = so.store;
	err = soft_create(&so, &w->m);
	if (err)
		return err;
	w->e = &w->m->engine;
	err = mm_create(w->e, WORLD_LOW, WORLD_HIGH, &w->mm);
	if (err)
		return err;
	w->cpu = &w->m->cpus[0];
	soft_load_mm(w->cpu, w->mm);
	return 0;
}

static inline void world_destroy(struct world *w)
{
	for (unsigned i = 0; i < w->m->nr_cpus; i++)
		soft_load_mm(&w->m->cpus[i], NULL);
	if (w->mm)
		mm_destroy(w->mm);
	engine_check(w->e);
	soft_destroy(w->m);
	if (w->own_store)
		memory_store_destroy(w->store);
}

#endif
