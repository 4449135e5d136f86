/* SPDX-License-Identifier: MIT */
/* The soft machine with an engine on it; see soft.h. */
#include <stdlib.h>

#include "machine/soft/hardware.h"

static void *host_alloc(void *ctx, u64 bytes)
{
	u64 rounded = (bytes + 63) & ~63ULL;
	void *p = aligned_alloc(64, rounded);

	(void)ctx;
	if (p)
		memset(p, 0, rounded);
	return p;
}

static void host_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	(void)bytes;
	free(p);
}

const struct engine_memory soft_host_memory = { .alloc = host_alloc, .free = host_free };

/* The engine's memory: the heap, as long as memory_left allows. */
static void *engine_alloc(void *ctx, u64 bytes)
{
	struct soft_machine *m = ctx;
	u64 left = atomic_load(&m->inject.memory_left);

	while (left > 1)
		if (atomic_compare_exchange_weak(&m->inject.memory_left, &left, left - 1))
			break;
	if (left != 1)
		return host_alloc(NULL, bytes);
	atomic_fetch_add(&m->memory_refused, 1);
	return NULL;
}

static struct fault_result engine_trap(struct soft_cpu *cpu, u64 cr2, u32 error_code)
{
	return do_user_addr_fault(atomic_load_explicit(&cpu->mm, memory_order_relaxed), cr2,
				  error_code);
}

int soft_create(const struct soft_options *o, struct soft_machine **machine)
{
	struct engine_config config =
		o->config ? *o->config : engine_default_config(o->user_frames);
	struct engine_memory memory = { .alloc = engine_alloc, .free = host_free };
	struct soft_machine *m;
	int err = soft_create_bare(o, &m);

	if (err)
		return err;
	if (!m->trap)
		m->trap = engine_trap;
	memory.ctx = m;
	err = engine_init(&m->engine, &soft_mmu_ops, &memory, &config, m->nr_table, m->memory,
			  m->nr_user, m->memory + (m->nr_table << PAGE_SHIFT), o->store);
	if (err) {
		soft_destroy_bare(m);
		return err;
	}
	m->engine.machine = m;
	/* Neighbours share a node. */
	for (unsigned i = 0; i < m->nr_cpus; i++)
		m->cpus[i].node = i * m->engine.numa.nr / m->nr_cpus;
	*machine = m;
	return 0;
}

void soft_destroy(struct soft_machine *m)
{
	engine_fini(&m->engine);
	soft_destroy_bare(m);
}

void soft_check(struct soft_machine *m)
{
	engine_check(&m->engine);
	soft_check_tlbs(m);
}
