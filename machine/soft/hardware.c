/* SPDX-License-Identifier: MIT */
/* Simulated memory and CPUs; see soft.h. */
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/errno.h"
#include "machine/soft/hardware.h"

static u64 nr_frames(const struct soft_machine *m)
{
	return m->nr_table + m->nr_user;
}

static bool options_valid(const struct soft_options *o)
{
	return o->table_frames && o->user_frames && o->nr_cpus && o->nr_cpus <= SOFT_MAX_CPUS;
}

static int allocate(struct soft_machine *m)
{
	void *memory = mmap(NULL, nr_frames(m) << PAGE_SHIFT, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	m->memory = memory == MAP_FAILED ? NULL : memory;
	m->generations = calloc(nr_frames(m), sizeof(*m->generations));
	m->cpus = aligned_alloc(_Alignof(struct soft_cpu), m->nr_cpus * sizeof(struct soft_cpu));
	return m->memory && m->generations && m->cpus ? 0 : -ENOMEM;
}

static void release(struct soft_machine *m)
{
	if (m->memory)
		munmap(m->memory, nr_frames(m) << PAGE_SHIFT);
	free(m->generations);
	free(m->cpus);
	free(m);
}

/* Memory and CPUs, and nothing of the engine. */
int soft_create_bare(const struct soft_options *o, struct soft_machine **machine)
{
	struct soft_machine *m;
	unsigned i;

	if (!options_valid(o))
		return -EINVAL;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		return -ENOSYS;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->nr_table = o->table_frames;
	m->nr_user = o->user_frames;
	m->nr_cpus = o->nr_cpus;
	m->checked = o->checked;
	m->pcids = o->pcids;
	m->stale_rights = o->stale_rights;
	m->control = MMU_CONTROL_USUAL;
	m->trap = o->trap;
	m->engine.machine = m;
	if (allocate(m)) {
		release(m);
		return -ENOMEM;
	}
	for (i = 0; i < m->nr_cpus; i++)
		soft_cpu_init(&m->cpus[i], m, i);
	*machine = m;
	return 0;
}

void soft_destroy_bare(struct soft_machine *m)
{
	release(m);
}

int soft_create_hardware(const struct soft_options *o, struct soft_machine **machine)
{
	struct soft_machine *m;
	struct engine *e;
	int err = soft_create_bare(o, &m);

	if (err)
		return err;
	e = &m->engine;
	e->mmu = &soft_mmu_ops;
	e->nr_pages = nr_frames(m);
	e->pages = calloc(e->nr_pages, sizeof(*e->pages));
	if (!e->pages) {
		release(m);
		return -ENOMEM;
	}
	zone_init(e, ZONE_TABLE, 0, m->nr_table, m->memory);
	nodes_init(e, &(struct numa_config){ 0 }, m->nr_table, m->nr_user,
		   m->memory + (m->nr_table << PAGE_SHIFT));
	*machine = m;
	return 0;
}

void soft_destroy_hardware(struct soft_machine *m)
{
	free(m->engine.pages);
	release(m);
}
