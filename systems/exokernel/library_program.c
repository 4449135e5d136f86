/* SPDX-License-Identifier: MIT */
#include "systems/exokernel/library_program.h"

static struct soft_program *soft(struct program *p)
{
	return container_of(p, struct soft_program, program);
}

int library_fork(struct library *l, struct program *p, unsigned cpu, unsigned child)
{
	unsigned env = xok_current(l->xok, soft(p)->first_cpu + cpu);
	int err = soft_program_ops.fork(p, cpu, child);

	if (err)
		return err;
	library_call("env_alloc: a new environment", 1);
	err = xok_env_create(l->xok, env, l->env + child, soft(p)->mms[child]);
	library_returns();
	if (err)
		soft_program_ops.exit(p, child);
	return err;
}

void library_run(struct library *l, struct program *p, unsigned cpu, unsigned process)
{
	l->xok->slices[soft(p)->first_cpu + cpu] = l->env + process;
	soft_program_ops.run(p, cpu, process);
}

void library_exit(struct library *l, struct program *p, unsigned process)
{
	unsigned env = l->env + process;

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (xok_current(l->xok, soft(p)->first_cpu + i) == env)
			library_run(l, p, i, 0);
	soft_program_ops.exit(p, process);
	library_call("env_free: the environment ends", 1);
	if (xok_env_destroy(l->xok, l->env, LIBRARY_CAP, env))
		vmf_panic("exokernel: the kernel does not let a library's environment end");
	library_returns();
}

u64 library_copy(struct program *p, unsigned cpu, u64 va, char *bytes, u64 n, u32 access)
{
	u64 part;

	for (; n; n -= part, va += part, bytes += part) {
		part = min_of(n, PAGE_SIZE - page_offset(va));
		if (p->ops->access(p, cpu, va, access, bytes, part) != FAULT_OK)
			break;
	}
	return n;
}
