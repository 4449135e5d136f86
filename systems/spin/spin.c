/* SPDX-License-Identifier: MIT */
/*
 * SPIN: the kernel fields the fault and raises an event; the extension that has registered a
 * handler for it decides, supplies and installs.  Kernel and extensions share one protection
 * domain.
 *
 *   1. The CPU traps; the kernel saves the strand's state and finds its address space.
 *   2. It raises Trap.InvalidTranslation (the translation is not there), Trap.ProtectionFault (it
 * is, and forbids the access) or Trap.AccessViolation (the address is none of the program's).
 *   3. The dispatcher evaluates the guards of each handler that is installed for the event: first
 * the one that its owner has imposed, is this the address space that the handler is for?
 *   4. Those that are allowed run, in order; each returns at once if the fault is done.
 *   5. The handler of the extension AddressSpace looks up the area, has its memory object supply a
 *      frame, and adds the mapping (Translation.AddMapping).
 *   6. The default handler is installed Last: if nobody has dealt with the fault, the strand gets
 * the exception UnhandledUserSpace.
 *   7. Back to the strand.
 *
 * AddressSpace is this project's engine.  It installs its handlers for each space anew: so the
 * guards that a fault costs are as many as there are spaces with handlers.  The owner of the events
 * authorizes an extension only for spaces that it was given, and imposes the guard; handlers for
 * all spaces are the kernel's own.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/spin/spin.h"

#define ADDRESS_SPACE 1 /* the extension's number */

static const struct ledger_actor dispatcher_actor = { .name = "the dispatcher",
						      .ring = 0,
						      .domain = 1 };
static const struct ledger_actor address_space = { .name = "the extension AddressSpace",
						   .ring = 0,
						   .domain = 1 };

struct spin {
	struct engine_system base;
	struct spin_dispatcher *dispatcher;
	u32 owners[PROGRAM_PROCESSES]; /* of each space: an extension */
	/* What handlers name each space by, and the last that was given: never one that was
	 * another's, for a handler may be there longer than its space. */
	u64 keys[PROGRAM_PROCESSES], last_key;
	s64 handles[PROGRAM_PROCESSES][NR_SPIN_EVENTS];
};

static struct spin *spin_of(struct program *p)
{
	return container_of(engine_system_of_program(p), struct spin, base);
}

static struct spin *spin_of_system(struct system *s)
{
	return container_of(engine_system_of(s), struct spin, base);
}

struct spin_dispatcher *spin_dispatcher_of(struct system *s)
{
	return spin_of_system(s)->dispatcher;
}

void spin_give_space(struct system *s, unsigned process, u32 extension)
{
	spin_of_system(s)->owners[process] = extension;
}

u64 spin_key_of(struct system *s, unsigned process)
{
	return spin_of_system(s)->keys[process];
}

/* Whose key that is; PROGRAM_PROCESSES: nobody's, or nobody's any more. */
static unsigned process_of(const struct spin *s, u64 key)
{
	unsigned i = 0;

	while (i < PROGRAM_PROCESSES && (key == SPIN_ANY_KEY || s->keys[i] != key))
		i++;
	return i;
}

/* ---- who may install what ---- */

static int authorize(void *arg, const struct spin_installation *i, u64 *imposed)
{
	struct spin *s = arg;

	unsigned process = process_of(s, i->key);

	*imposed = i->key;
	if (i->extension == SPIN_KERNEL)
		return 0;
	if (process == PROGRAM_PROCESSES)
		return -EACCES;
	if (i->extension != ADDRESS_SPACE && s->owners[process] != i->extension)
		return -EACCES;
	return 0;
}

/* ---- handlers ---- */

void spin_address_space_handler(void *closure, struct spin_fault *f)
{
	struct spin *s = closure;
	struct mm *mm = s->base.program.mms[process_of(s, f->key)];

	if (f->done)
		return;
	ledger_step(&address_space, "its handler runs: looks up the area", f->va);
	f->result = resolve_fault(mm, f->va, f->code, FAULT_FLAG_USER);
	f->done = f->result.reason == FAULT_OK || f->result.reason == FAULT_RETRY;
}

/* The strand is told by the result that is there; if no handler ran, there is no such address. */
static void default_handler(void *closure, struct spin_fault *f)
{
	(void)closure;
	if (f->done)
		return;
	ledger_step(&dispatcher_actor,
		    "the default handler: nobody has dealt with it, UnhandledUserSpace", f->va);
	if (f->result.reason == FAULT_OK)
		f->result.reason = FAULT_MAPERR;
}

static int install_for(struct spin *s, unsigned process)
{
	s->keys[process] = ++s->last_key;
	for (unsigned event = 0; event < NR_SPIN_EVENTS; event++) {
		struct spin_installation i = { .extension = ADDRESS_SPACE,
					       .event = event,
					       .order = SPIN_NORMAL,
					       .handler = spin_address_space_handler,
					       .closure = s,
					       .key = s->keys[process] };

		s->handles[process][event] = spin_install(s->dispatcher, &i);
		if (s->handles[process][event] < 0)
			return -ENOMEM;
	}
	return 0;
}

static void uninstall_for(struct spin *s, unsigned process)
{
	for (unsigned event = 0; event < NR_SPIN_EVENTS; event++)
		if (s->handles[process][event] > 0)
			spin_uninstall(s->dispatcher, ADDRESS_SPACE, s->handles[process][event]);
}

static int install_defaults(struct spin *s)
{
	for (unsigned event = 0; event < NR_SPIN_EVENTS; event++) {
		struct spin_installation i = { .extension = SPIN_KERNEL,
					       .event = event,
					       .order = SPIN_LAST,
					       .handler = default_handler };
		s64 handle = spin_install(s->dispatcher, &i);

		if (handle < 0)
			return (int)handle;
	}
	return 0;
}

/* ---- the trap ---- */

static enum spin_event event_of(u64 va, u32 code)
{
	if (va >= ENGINE_SYSTEM_HIGH)
		return SPIN_ACCESS_VIOLATION;
	return code & PF_PROT ? SPIN_PROTECTION_FAULT : SPIN_INVALID_TRANSLATION;
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	static const char *const raises[] = {
		[SPIN_INVALID_TRANSLATION] = "the event Trap.InvalidTranslation is raised",
		[SPIN_PROTECTION_FAULT] = "the event Trap.ProtectionFault is raised",
		[SPIN_ACCESS_VIOLATION] = "the event Trap.AccessViolation is raised",
	};
	struct engine_system *base = engine_system_of_engine(&cpu->machine->engine);
	struct spin *s = container_of(base, struct spin, base);
	struct program *p = &base->program.program;
	struct spin_fault f = { .cpu = cpu->number,
				.key = s->keys[p->ops->running(p, cpu->number)],
				.va = cr2,
				.code = code };
	bool user = code & PF_USER;

	ledger_cross(user ? &lab_program : &lab_kernel, &lab_kernel, BY_EXCEPTION,
		     "trap: the strand's state is saved");
	ledger_step(&lab_kernel, raises[event_of(cr2, code)], cr2);
	ledger_step(&dispatcher_actor, "evaluates the guards of the handlers installed for it",
		    cr2);
	spin_raise(s->dispatcher, event_of(cr2, code), &f);
	if (user)
		ledger_cross(&lab_kernel, &lab_program, BY_RETURN,
			     f.done ? "the strand goes on: the access is made again"
				    : "the strand's handler of the exception");
	return f.result;
}

/* ---- the program's calls ---- */

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct spin *s = spin_of(p);
	int err = s->base.engine_ops.fork(p, cpu, child);

	if (!err && install_for(s, child)) {
		uninstall_for(s, child);
		s->base.engine_ops.exit(p, child);
		return -ENOMEM;
	}
	return err;
}

static void exit_process(struct program *p, unsigned process)
{
	uninstall_for(spin_of(p), process);
	spin_of(p)->owners[process] = 0;
	spin_of(p)->keys[process] = SPIN_ANY_KEY;
	spin_of(p)->base.engine_ops.exit(p, process);
}

/* ---- attacks ---- */

#define ATTACKER 7
#define AT	 0x20000000ULL

static void run_never(void *closure, struct spin_fault *f)
{
	(void)f;
	*(bool *)closure = true;
}

static s64 attacker_installs(struct system *s, u64 key, void *closure)
{
	struct spin_installation i = { .extension = ATTACKER,
				       .order = SPIN_FIRST,
				       .event = SPIN_INVALID_TRANSLATION,
				       .handler = run_never,
				       .closure = closure,
				       .key = key };

	return spin_install(spin_dispatcher_of(s), &i);
}

static int handler_for_all(struct system *s)
{
	return (int)attacker_installs(s, SPIN_ANY_KEY, NULL);
}

static int handler_for_another(struct system *s)
{
	return (int)attacker_installs(s, spin_key_of(s, 0), NULL);
}

/* Process 1 begins, and is the attacker's. */
static void give_child(struct system *s)
{
	s->program->ops->fork(s->program, 0, 1);
	spin_give_space(s, 1, ATTACKER);
}

/* A fault of the first process, while the attacker has a handler for a space of its own. */
static int handler_sees_another(struct system *s)
{
	struct program_map map = { .addr = AT,
				   .len = PAGE_SIZE,
				   .prot = VM_READ | VM_WRITE,
				   .flags = VMAP_FIXED,
				   .file = -1 };
	bool ran = false;
	s64 handle;
	u8 byte;

	give_child(s);
	handle = attacker_installs(s, spin_key_of(s, 1), &ran);
	if (handle < 0)
		return 1;
	s->program->ops->map(s->program, 0, &map);
	s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	spin_uninstall(spin_dispatcher_of(s), ATTACKER, handle);
	return ran ? 0 : -EACCES;
}

static int forged_handle(struct system *s)
{
	return spin_uninstall(spin_dispatcher_of(s), ATTACKER, 0x7fff0001);
}

static int another_s_handle(struct system *s)
{
	return spin_uninstall(spin_dispatcher_of(s), ATTACKER, spin_of_system(s)->handles[0][0]);
}

static int stale_handle(struct system *s)
{
	bool ran = false;
	s64 handle;

	give_child(s);
	handle = attacker_installs(s, spin_key_of(s, 1), &ran);
	spin_uninstall(spin_dispatcher_of(s), ATTACKER, handle);
	attacker_installs(s, spin_key_of(s, 1), &ran); /* in the same place */
	return spin_uninstall(spin_dispatcher_of(s), ATTACKER, handle);
}

/* Its space is gone, and another process has the number. */
static int handler_outlives_its_space(struct system *s)
{
	bool ran = false;
	u8 byte;

	give_child(s);
	if (attacker_installs(s, spin_key_of(s, 1), &ran) < 0)
		return 1;
	s->program->ops->exit(s->program, 1);
	s->program->ops->fork(s->program, 0, 1);
	s->program->ops->run(s->program, 0, 1);
	s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	return ran ? 0 : -EACCES;
}

static const struct system_attack attacks[] = {
	{ "an extension installs a handler for every space", handler_for_all, -EACCES },
	{ "an extension installs a handler for a space of another's", handler_for_another,
	  -EACCES },
	{ "a handler sees faults of a space that it is not for", handler_sees_another, -EACCES },
	{ "a handler sees faults of who comes after its space", handler_outlives_its_space,
	  -EACCES },
	{ "a handle is made up", forged_handle, -EBADF },
	{ "a handler of another extension is taken away", another_s_handle, -EACCES },
	{ "a handle is used after its handler was taken away", stale_handle, -EBADF },
};

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },
	{ PAID_CROSSINGS, 2, NULL },
	{ PAID_DOMAINS, 0, NULL },
	{ PAID_SYSTEM_CALLS, 0, NULL },
	{ PAID_PAGES_COPIED, 0, NULL },
	{ PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL },
	{ PAID_GUARDS, 1, "the default handler's, which allow all, count" },
	{ PAID_HANDLERS, 1, "the default handler runs, too, and finds the fault done" },
};

/* ---- its life ---- */

static void destroy(struct system *system)
{
	struct spin *s = spin_of_system(system);

	engine_system_fini(&s->base);
	spin_dispatcher_destroy(s->dispatcher);
	free(s);
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct spin *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	err = spin_dispatcher_create(authorize, s, &s->dispatcher);
	if (!err)
		err = engine_system_init(&s->base, type, o, trap);
	if (err) {
		if (s->dispatcher)
			spin_dispatcher_destroy(s->dispatcher);
		free(s);
		return err;
	}
	s->base.kernel = &address_space; /* the engine's steps are the extension's */
	s->base.ops.fork = fork_process;
	s->base.ops.exit = exit_process;
	s->base.system.destroy = destroy;
	*system = &s->base.system;
	err = install_defaults(s);
	if (!err)
		err = install_for(s, 0);
	if (err)
		destroy(&s->base.system);
	return err;
}

const struct system_type spin_system = {
	.name = "spin",
	.summary =
		"the kernel raises an event; an extension's handler decides, supplies and installs",
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};
