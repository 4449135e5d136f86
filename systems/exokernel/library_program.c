/* SPDX-License-Identifier: MIT */
#include "systems/exokernel/library_program.h"

#include "engine/base/errno.h"
#include "engine/base/text.h"

/* Those of the process whose slice begins: in another address space. */
static const struct ledger_actor other_kernel = { .name = "the kernel", .ring = 0, .domain = 2 };
static const struct ledger_actor other_library = { .name = "the library OS",
						   .ring = 3,
						   .domain = 2 };
static const struct ledger_actor other_program = { .name = "the program", .ring = 3, .domain = 2 };

static struct soft_program *soft(struct program *p)
{
	return container_of(p, struct soft_program, program);
}

static void end_environment(struct library *l, unsigned env)
{
	library_call("env_free: the environment ends", 1);
	if (xok_env_destroy(l->xok, l->env, LIBRARY_CAP, env))
		vmf_panic("exokernel: the kernel does not let a library's environment end");
	library_returns();
	library_free_stack(l, env);
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
	if (!err && library_give_stack(l, l->env + child)) {
		end_environment(l, l->env + child);
		err = -ENOMEM;
	}
	if (err)
		soft_program_ops.exit(p, child);
	return err;
}

/* The slice of `env` begins on that CPU of the machine's. */
static void yield_to(struct library *l, unsigned cpu, unsigned env)
{
	struct xok *x = l->xok;
	int err = xok_take_slice(x, l->env, LIBRARY_CAP, env, cpu);

	if (err == -EEXIST) /* it has run there before */
		err = 0;
	if (!err)
		err = xok_yield(x, l->env, LIBRARY_CAP, cpu, env);
	if (err)
		vmf_panic("exokernel: a library may not use its own time slices: %d", err);
}

void library_run(struct library *l, struct program *p, unsigned cpu, unsigned process)
{
	unsigned at = soft(p)->first_cpu + cpu;

	if (p->ops->running(p, cpu) == process && xok_current(l->xok, at) == l->env + process)
		return;
	library_call("yield: the slice of another environment is to begin", 1);
	yield_to(l, at, l->env + process);
	soft_program_ops.run(p, cpu, process);
	ledger_cross(&lab_kernel, &other_kernel, BY_SWITCH,
		     "loads the addressing context of who is next");
	ledger_cross(&other_kernel, &other_library, BY_UPCALL, "enters it where its slices begin");
	ledger_cross(&other_library, &other_program, BY_RETURN, "restores the registers and jumps");
}

void library_exit(struct library *l, struct program *p, unsigned process)
{
	unsigned env = l->env + process;

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (p->ops->running(p, i) == process)
			library_run(l, p, i, 0);
	soft_program_ops.exit(p, process);
	if (l->xok->envs[env].used)
		end_environment(l, env);
	else /* it has been killed */
		library_free_stack(l, env);
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
