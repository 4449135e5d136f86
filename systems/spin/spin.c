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
 * AddressSpace is this project's engine over the memory services (services.h), which other
 * extensions call, too; pager.c is one.  It installs its handlers for each space anew: so the
 * guards that a fault costs are as many as there are spaces with handlers.  The owner of the events
 * authorizes an extension only for spaces that it was given, and imposes the guard; handlers for
 * all spaces are the kernel's own.
 *
 * When memory is short the kernel raises PhysAddr.Reclaim: a handler may volunteer a page, and the
 * default handler gives the oldest.  When a page has been written out it raises PhysAddr.Repossess.
 * Both are for the one extension that memory was given to, of all spaces.  lua.c is the extension
 * that a user has written and loads.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/spin/memory.h"

static const struct ledger_actor dispatcher_actor = { .name = "the dispatcher",
						      .ring = 0,
						      .domain = 1 };
static const struct ledger_actor address_space = { .name = "the extension AddressSpace",
						   .ring = 0,
						   .domain = 1 };

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

struct mm *spin_space_of(struct spin *s, u64 key)
{
	unsigned process = process_of(s, key);

	return process < PROGRAM_PROCESSES ? s->base.program.mms[process] : NULL;
}

/* ---- who may install what ---- */

static int authorize(void *arg, const struct spin_installation *i, u64 *imposed)
{
	struct spin *s = arg;
	unsigned process = process_of(s, i->key);

	*imposed = i->key;
	if (i->extension == SPIN_KERNEL)
		return 0;
	/* Which pages go is no space's affair: one extension says it for all. */
	if (i->event >= NR_SPIN_TRAPS && i->key == spin_frames_of(i->extension))
		return 0; /* its own frames are */
	if (i->event >= NR_SPIN_TRAPS)
		return i->key == SPIN_ANY_KEY && s->memory_owner == i->extension ? 0 : -EACCES;
	if (process == PROGRAM_PROCESSES)
		return -EACCES;
	if (i->extension != SPIN_ADDRESS_SPACE && s->owners[process] != i->extension)
		return -EACCES;
	return 0;
}

/* ---- handlers ---- */

static bool is_in_ranges(u64 va)
{
	return va >= SPIN_VIRT_LOW && va < SPIN_VIRT_HIGH;
}

/* A frame that has become stale meanwhile is no reason to give up at once, and none to go on for
 * ever. */
static struct fault_result resolve(struct mm *mm, const struct spin_fault *f)
{
	struct fault_result r;

	for (unsigned tries = 0; tries < SPIN_STALE_TRIES; tries++) {
		spin_met_stale_frame();
		r = resolve_fault(mm, f->va, f->code, FAULT_FLAG_USER);
		if (!spin_met_stale_frame() || r.reason != FAULT_RETRY)
			return r;
		ledger_count(PAID_RETRIES);
	}
	r.reason = FAULT_OOM;
	return r;
}

void spin_address_space_handler(void *closure, struct spin_fault *f)
{
	struct spin *s = closure;
	struct mm *mm = spin_space_of(s, f->key);

	if (f->done || is_in_ranges(f->va)) /* which are other extensions' */
		return;
	ledger_step(&address_space, "its handler runs: looks up the area", f->va);
	f->result = resolve(mm, f);
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

/* The page that came first goes first, if nobody has another. */
static void default_reclaim(void *closure, struct spin_fault *f)
{
	struct spin_reclaim *r = f->reclaim;

	(void)closure;
	if (f->done || !r) /* of a frame: the one that is asked for goes */
		return;
	ledger_step(&dispatcher_actor, "the default handler: the oldest page goes", 0);
	r->n = chosen_oldest(r->pages, &r->next[0]) ? 0 : 1;
	r->neighbours = true;
	f->done = true;
}

/* What was written out is nobody's concern. */
static void default_repossess(void *closure, struct spin_fault *f)
{
	(void)closure;
	f->done = true;
}

static int install_for(struct spin *s, unsigned process)
{
	s->keys[process] = ++s->last_key;
	for (unsigned event = 0; event < NR_SPIN_TRAPS; event++) {
		struct spin_installation i = { .extension = SPIN_ADDRESS_SPACE,
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
	for (unsigned event = 0; event < NR_SPIN_TRAPS; event++)
		if (s->handles[process][event] > 0)
			spin_uninstall(s->dispatcher, SPIN_ADDRESS_SPACE,
				       s->handles[process][event]);
}

static int install_defaults(struct spin *s)
{
	static const spin_handler_fn handlers[NR_SPIN_EVENTS] = {
		[SPIN_INVALID_TRANSLATION] = default_handler,
		[SPIN_PROTECTION_FAULT] = default_handler,
		[SPIN_ACCESS_VIOLATION] = default_handler,
		[SPIN_RECLAIM] = default_reclaim,
		[SPIN_REPOSSESS] = default_repossess,
	};

	for (unsigned event = 0; event < NR_SPIN_EVENTS; event++) {
		struct spin_installation i = { .extension = SPIN_KERNEL,
					       .event = event,
					       .order = SPIN_LAST,
					       .handler = handlers[event] };
		s64 handle = spin_install(s->dispatcher, &i);

		if (handle < 0)
			return (int)handle;
	}
	return 0;
}

/* ---- the trap ---- */

static enum spin_event event_of(u64 va, u32 code)
{
	if (va >= ENGINE_SYSTEM_HIGH && !is_in_ranges(va))
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

/* ---- memory ---- */

/* Memory is short: which page goes? */
static unsigned raise_reclaim(struct reclaim_chooser *c, struct lruvec *pages,
			      struct page_handle *next, bool *neighbours)
{
	struct spin *s = container_of(c, struct spin, chooser);
	struct spin_reclaim r = { .pages = pages, .next = next };
	struct spin_fault f = { .cpu = ledger_cpu(), .key = SPIN_ANY_KEY, .reclaim = &r };

	ledger_step(&lab_kernel, "memory is short: the event PhysAddr.Reclaim is raised", 0);
	/* Who has more gives. */
	if (spin_phys_held(s->services) > chosen_length(pages))
		spin_phys_take_back(s->services, 1);
	spin_raise(s->dispatcher, SPIN_RECLAIM, &f);
	*neighbours = r.neighbours;
	return r.n;
}

/* The engine's steps; a page that has been written out is an event. */
static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	struct engine_system *base = container_of(o, struct engine_system, observer);
	struct spin *s = container_of(base, struct spin, base);
	struct spin_fault f = { .cpu = ledger_cpu(), .key = SPIN_ANY_KEY, .va = va };

	engine_system_step(o, step, va, n);
	if (step != STEP_WRITTEN_OUT)
		return;
	ledger_step(&lab_kernel, "a page is written out: the event PhysAddr.Repossess is raised",
		    va);
	spin_raise(s->dispatcher, SPIN_REPOSSESS, &f);
}

/* ---- the program's calls ---- */

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct spin *s = spin_of(p);
	int err = s->base.engine_ops.fork(p, cpu, child);

	if (err)
		return err;
	err = install_for(s, child);
	if (!err)
		err = spin_lua_begin_space(s, child);
	if (err)
		p->ops->exit(p, child);
	return err ? -ENOMEM : 0;
}

static void exit_process(struct program *p, unsigned process)
{
	struct spin *s = spin_of(p);

	spin_lua_end_space(s, process);
	spin_services_end_space(s, process);
	uninstall_for(s, process);
	s->owners[process] = SPIN_KERNEL;
	s->keys[process] = SPIN_ANY_KEY;
	s->base.engine_ops.exit(p, process);
}

/* Asked by an extension that is in the kernel, and has the map. */
static int dirty(struct program *p, unsigned cpu, u64 va)
{
	struct spin *s = spin_of(p);
	struct spin_examined e;
	int err;

	ledger_begin(s->base.system.ledger, cpu);
	ledger_step(&address_space, "Translation.ExamineMapping", va);
	err = spin_examine_mapping(s->services, SPIN_ADDRESS_SPACE,
				   s->keys[p->ops->running(p, cpu)], va, &e);
	return err ? err : e.dirty;
}

static void check(struct program *p)
{
	spin_of(p)->base.engine_ops.check(p);
	spin_address_space_check(spin_of(p));
}

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },
	{ PAID_CROSSINGS, 2, NULL },
	{ PAID_DOMAINS, 0, NULL },
	{ PAID_SYSTEM_CALLS, 0, NULL },
	{ PAID_PAGES_COPIED, 0, NULL },
	{ PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL },
	{ PAID_GUARDS, 1, "the default handler's, which allow all, count" },
	{ PAID_CAPABILITIES, 0, "frames are checked at each call, where SPIN has types" },
	{ PAID_HANDLERS, 1, "the default handler runs, too, and finds the fault done" },
};

/* ---- its life ---- */

static void destroy(struct system *system)
{
	struct spin *s = spin_of_system(system);

	spin_lua_end(s);
	chosen_end(&s->base.machine->engine);
	spin_services_end(s);
	engine_system_fini(&s->base);
	spin_services_destroy(s->services);
	spin_dispatcher_destroy(s->dispatcher);
	free(s);
}

static const char *says(struct system *system)
{
	return spin_lua_says(spin_of_system(system));
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct spin *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->base.policy = &policy_chosen;
	s->chooser.choose = raise_reclaim;
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
	s->base.ops.dirty = dirty;
	s->base.ops.check = check;
	s->base.system.destroy = destroy;
	s->base.system.says = says;
	s->base.observer.step = step;
	*system = &s->base.system;
	err = spin_services_create(s);
	if (!err)
		err = install_defaults(s);
	if (!err)
		err = install_for(s, 0);
	if (!err)
		err = chosen_begin(&s->base.machine->engine, &s->chooser);
	if (!err && o->extension)
		err = spin_lua_begin(s, o->extension);
	if (err)
		destroy(&s->base.system);
	return err;
}

const struct system_type spin_system = {
	.name = "spin",
	.summary =
		"the kernel raises an event; an extension's handler decides, supplies and installs",
	.attacks = spin_attacks,
	.nr_attacks = NR_SPIN_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.takes_extension = true,
	.create = create,
};
