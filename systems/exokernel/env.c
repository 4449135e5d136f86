/* SPDX-License-Identifier: MIT */
/*
 * Environments: in whose time slice a CPU is, on which stack an environment is entered, and how it
 * ends.
 *
 * A fault takes a level of the exception stack of the environment whose slice it is (Xok's u_xsp).
 * The kernel looks at each entry whether there is a page there, whether it is still the library's,
 * and whether a level is left; there it writes what the handler is to know, struct xok_trap_frame.
 * What the handler itself faults on takes the next level.  Who has none, or no handler, is killed.
 *
 * An environment that ends, by a call of its library's or by force, may be in its handler, on this
 * CPU or on others.  Under x->lock it loses number, capabilities, slices and stack: no call of its
 * passes any more, and as what it asks for is checked and written under the same lock, nothing is
 * installed from then on.  What it had installed is broken after.  Its handlers run to their end,
 * refused with each call, and do not go back to the program.  When the last is out, its number may
 * be given again, and if it was the last of its library, the frames are nobody's: until then
 * somebody might still write to them.
 */
#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/exokernel/xok.h"

/* ---- time slices ---- */

unsigned xok_current(const struct xok *x, unsigned cpu)
{
	return atomic_load(&x->slices[cpu].current);
}

unsigned xok_faulting(const struct xok *x, const struct soft_cpu *cpu)
{
	unsigned env = xok_current(x, cpu->number);

	return env != XOK_NOBODY && x->envs[env].mm == atomic_load(&cpu->mm) ? env : XOK_NOBODY;
}

/* Where it is in the vector; v->n: it has no slice.  Lock held. */
static unsigned place_of(const struct xok_slices *v, unsigned env)
{
	unsigned i = 0;

	while (i < v->n && v->envs[i] != env)
		i++;
	return i;
}

/* Lock held. */
static void go_on_at(struct xok_slices *v, unsigned at)
{
	v->at = v->n ? at % v->n : 0;
	atomic_store(&v->current, v->n ? v->envs[v->at] : XOK_NOBODY);
}

/* Lock held. */
static int add_slice(struct xok *x, unsigned cpu, unsigned env)
{
	struct xok_slices *v = &x->slices[cpu];

	if (place_of(v, env) < v->n)
		return -EEXIST;
	v->envs[v->n++] = env;
	if (v->n == 1)
		go_on_at(v, 0);
	return 0;
}

void xok_first_slice(struct xok *x, unsigned cpu, unsigned env)
{
	spin_lock(&x->lock);
	add_slice(x, cpu, env);
	spin_unlock(&x->lock);
}

/* Of one that ends, on all CPUs.  Lock held. */
static void lose_slices(struct xok *x, unsigned env)
{
	for (unsigned cpu = 0; cpu < x->machine->nr_cpus; cpu++) {
		struct xok_slices *v = &x->slices[cpu];
		unsigned i = place_of(v, env);

		if (i == v->n)
			continue;
		for (v->n--; i < v->n; i++)
			v->envs[i] = v->envs[i + 1];
		if (atomic_load(&v->current) == env)
			go_on_at(v, v->at);
		else
			go_on_at(v, place_of(v, atomic_load(&v->current)));
	}
}

/* Is that CPU this library's to give?  Lock held. */
static bool may_give(const struct xok *x, unsigned cpu, u32 resource)
{
	unsigned now = cpu < x->machine->nr_cpus ? xok_current(x, cpu) : XOK_NOBODY;

	return cpu < x->machine->nr_cpus &&
	       (now == XOK_NOBODY || x->envs[now].caps[0].resource == resource);
}

/* Is `target` an environment of whoever has this capability?  0, -EBADF, -EACCES. */
static int check_own_env(const struct xok *x, unsigned env, unsigned cap, unsigned target)
{
	const struct xok_capability *c = xok_capability(x, env, cap);

	if (!c)
		return -EBADF;
	if (target >= XOK_ENVS || !x->envs[target].used ||
	    x->envs[target].caps[0].resource != c->resource)
		return -EACCES;
	return 0;
}

int xok_take_slice(struct xok *x, unsigned env, unsigned cap, unsigned target, unsigned cpu)
{
	int err;

	spin_lock(&x->lock);
	err = check_own_env(x, env, cap, target);
	if (!err && !may_give(x, cpu, x->envs[target].caps[0].resource))
		err = -EACCES;
	if (!err)
		err = add_slice(x, cpu, target);
	spin_unlock(&x->lock);
	return err;
}

int xok_yield(struct xok *x, unsigned env, unsigned cap, unsigned cpu, unsigned target)
{
	struct xok_slices *v = &x->slices[cpu];
	int err;

	spin_lock(&x->lock);
	err = target == XOK_NOBODY ? (xok_capability(x, env, cap) ? 0 : -EBADF)
				   : check_own_env(x, env, cap, target);
	if (!err && !may_give(x, cpu, xok_capability(x, env, cap)->resource))
		err = -EACCES;
	if (!err && target != XOK_NOBODY && place_of(v, target) == v->n)
		err = -ENOENT;
	if (!err)
		go_on_at(v, target == XOK_NOBODY ? v->at + 1 : place_of(v, target));
	spin_unlock(&x->lock);
	return err;
}

/* ---- their beginning ---- */

int xok_env_create(struct xok *x, unsigned env, unsigned child, struct mm *mm)
{
	struct xok_env *e;
	int err = 0;

	if (child >= XOK_ENVS)
		return -EINVAL;
	e = &x->envs[child];
	spin_lock(&x->lock);
	if (env >= XOK_ENVS || !x->envs[env].used)
		err = -EBADF;
	else if (e->used || e->dying)
		err = -EEXIST;
	if (!err) {
		e->resource = x->envs[env].resource;
		e->fault = x->envs[env].fault;
		e->arg = x->envs[env].arg;
		memcpy(e->caps, x->envs[env].caps, sizeof(e->caps));
		atomic_store(&e->mm, mm);
		atomic_store(&e->used, true);
	}
	spin_unlock(&x->lock);
	return err;
}

int xok_set_handler(struct xok *x, unsigned env, unsigned cap, unsigned target, xok_fault_fn f,
		    void *arg)
{
	int err;

	spin_lock(&x->lock);
	err = check_own_env(x, env, cap, target);
	if (!err) {
		x->envs[target].fault = f;
		x->envs[target].arg = arg;
	}
	spin_unlock(&x->lock);
	return err;
}

/* ---- exception stacks ---- */

/* Levels that it has taken, on all CPUs.  Lock held. */
static unsigned levels_of(const struct xok *x, const struct xok_env *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < x->machine->nr_cpus; i++)
		n += e->levels[i];
	return n;
}

int xok_set_stack(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va,
		  const pte_t *ptes, unsigned n)
{
	int err;

	spin_lock(&x->lock);
	err = n == x->stack_pages ? xok_check_entries(x, env, cap, target, va, ptes, n) : -EINVAL;
	for (unsigned i = 0; i < n; i++)
		if (!err && (!pte_present(ptes[i]) || !pte_write(ptes[i])))
			err = -EACCES;
	if (!err && levels_of(x, &x->envs[target]))
		err = -EBUSY;
	for (unsigned i = 0; !err && i < n; i++)
		x->envs[target].stack[i] = pte_pfn(ptes[i]);
	spin_unlock(&x->lock);
	return err;
}

bool xok_is_stack(const struct xok *x, u64 pfn)
{
	for (unsigned e = 0; e < XOK_ENVS; e++)
		for (unsigned i = 0; i < x->stack_pages; i++)
			if (x->envs[e].stack[i] == pfn)
				return true;
	return false;
}

/* ---- faults ---- */

/* A handler that has been entered. */
struct entered {
	unsigned env, cpu, level;
	struct xok_env as; /* as it was then; of its stack and levels nothing */
	struct xok_trap_frame *frame;
};

/* Why it cannot be entered; NULL: it can.  Lock held. */
static const char *why_not(const struct xok *x, const struct entered *in)
{
	const struct xok_env *e = &x->envs[in->env];
	u64 pfn = e->stack[in->cpu / XOK_STACK_CPUS];
	const _Atomic u32 *owner = xok_owner(x, pfn);

	if (!e->fault)
		return "kills the environment: it has no handler";
	if (!owner || atomic_load(owner) != e->resource)
		return "kills the environment: it has no exception stack";
	if (in->level >= XOK_NESTED)
		return "kills the environment: its handler has faulted in itself too often";
	return NULL;
}

static struct xok_trap_frame *frame_of(const struct xok *x, const struct entered *in)
{
	u64 pfn = x->envs[in->env].stack[in->cpu / XOK_STACK_CPUS];
	struct xok_trap_frame *frames = (void *)(x->machine->memory + (pfn << PAGE_SHIFT));

	return &frames[in->cpu % XOK_STACK_CPUS * XOK_NESTED + in->level];
}

/* NULL: it has the next level.  Otherwise why it has not; in->env XOK_NOBODY: there is none that
 * could be killed for that. */
static const char *take_level(struct xok *x, struct entered *in, const struct soft_cpu *cpu,
			      u64 cr2, u32 code)
{
	const char *why = "finds that the environment has been killed";
	struct xok_env *e;

	in->cpu = cpu->number;
	spin_lock(&x->lock);
	in->env = xok_faulting(x, cpu);
	if (in->env != XOK_NOBODY) {
		e = &x->envs[in->env];
		in->level = e->levels[in->cpu];
		in->as = *e;
		why = why_not(x, in);
	}
	if (!why) {
		e->levels[in->cpu]++;
		in->frame = frame_of(x, in);
		*in->frame = (struct xok_trap_frame){ .va = cr2, .code = code, .level = in->level };
	}
	spin_unlock(&x->lock);
	return why;
}

/* Was the environment killed meanwhile?  *here: for a fault on this CPU, which has not come back to
 * this handler. */
static bool leave_level(struct xok *x, const struct entered *in, bool *here)
{
	struct xok_env *e = &x->envs[in->env];
	bool dying, last;

	spin_lock(&x->lock);
	e->levels[in->cpu]--;
	dying = e->dying;
	*here = dying && e->killed_on == in->cpu;
	last = dying && !levels_of(x, e);
	spin_unlock(&x->lock);
	if (last)
		xok_env_gone(x, in->env);
	return dying;
}

static const struct fault_result killed = { .reason = FAULT_KILLED };

static struct fault_result is_killed(const char *why)
{
	ledger_step(&lab_kernel, why, 0);
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "who is next in the vector goes on");
	return killed;
}

/* Frames are repossessed before a library is entered for a fault or after it has left. */
struct fault_result xok_trap(struct xok *x, const struct soft_cpu *cpu, u64 cr2, u32 code,
			     const char *what)
{
	struct entered in = { .level = 0 };
	const char *why = take_level(x, &in, cpu, cr2, code);
	const struct ledger_actor *who = in.level ? &library_actor : &lab_program;
	rwsem_t *inside = in.level || why ? NULL : &x->holders[in.as.resource].inside;
	struct fault_result r;
	bool here;

	ledger_cross(who, &lab_kernel, BY_EXCEPTION, what);
	ledger_step(&lab_kernel, "finds the library OS by the time-slice vector", cr2);
	if (why) {
		if (in.env != XOK_NOBODY)
			xok_kill(x, in.env, in.cpu);
		return is_killed(why);
	}
	if (inside)
		down_read(inside);
	ledger_cross(&lab_kernel, &library_actor, BY_UPCALL,
		     "enters it at the fault handler of its environment, on a level of its "
		     "exception stack");
	r = in.as.fault(in.as.arg, in.as.mm, in.frame);
	if (inside)
		up_read(inside);
	if (leave_level(x, &in, &here)) {
		if (here)
			return killed;
		ledger_cross(&library_actor, &lab_kernel, BY_EXCEPTION,
			     "interrupted: somebody ends the environment");
		return is_killed("has taken away all that the environment had");
	}
	ledger_cross(&library_actor, who, BY_RETURN,
		     r.reason == FAULT_OK || r.reason == FAULT_RETRY
			     ? "restores the registers and jumps: the kernel has no part in it"
			     : "to the program's handler of the signal");
	return r;
}

/* ---- their end ---- */

/* Does a CPU run in the space? */
static bool is_loaded(const struct xok *x, const struct mm *mm)
{
	for (unsigned i = 0; i < x->machine->nr_cpus; i++)
		if (atomic_load(&x->machine->cpus[i].mm) == mm)
			return true;
	return false;
}

/* Has the library any environment, or one whose handler still runs?  Lock held. */
static bool is_alive(const struct xok *x, u32 resource)
{
	for (unsigned i = 0; i < XOK_ENVS; i++)
		if ((x->envs[i].used || x->envs[i].dying) && x->envs[i].resource == resource)
			return true;
	return false;
}

void xok_env_gone(struct xok *x, unsigned env)
{
	struct xok_env *e = &x->envs[env];
	u32 resource = e->resource;
	bool last;

	spin_lock(&x->lock);
	atomic_store(&e->mm, NULL);
	e->dying = false;
	e->resource = XOK_KERNEL;
	last = !is_alive(x, resource);
	spin_unlock(&x->lock);
	if (last)
		xok_release(x, resource);
}

void xok_kill(struct xok *x, unsigned env, unsigned cpu)
{
	struct xok_env *e = &x->envs[env];
	struct mm *mm;
	bool runs, inside;

	spin_lock(&x->lock);
	if (!e->used) { /* another CPU was faster */
		spin_unlock(&x->lock);
		return;
	}
	mm = e->mm;
	inside = levels_of(x, e);
	atomic_store(&e->used, false);
	e->dying = true;
	e->killed_on = cpu;
	e->fault = NULL;
	e->arg = NULL;
	memset(e->caps, 0, sizeof(e->caps));
	memset(e->stack, 0, sizeof(e->stack));
	lose_slices(x, env);
	spin_unlock(&x->lock);
	/* Where nobody runs in it, its library has taken the space down already. */
	runs = inside || is_loaded(x, mm);
	xok_break_bindings(x, env, runs ? mm : NULL);
	if (!inside)
		xok_env_gone(x, env);
}

int xok_env_destroy(struct xok *x, unsigned env, unsigned cap, unsigned target)
{
	int err = check_own_env(x, env, cap, target);

	if (!err)
		xok_kill(x, target, ~0U);
	return err;
}
