/* SPDX-License-Identifier: MIT */
/*
 * An extension that a user has loaded: three handlers of the dispatcher's that ask a script
 * (extensions/extension.h).
 *
 *   Trap.InvalidTranslation  First, for each space of its own: a memory object.  If the script has
 *                            bytes for the page, they are put into a frame that is mapped there;
 *                            AddressSpace's handler finds it and is done.
 *   PhysAddr.Reclaim         First: the script may volunteer pages other than the oldest.
 *   PhysAddr.Repossess       First: it is told what has gone.
 *
 * A handler that gets no answer leaves the event as it was, so the next one's turn comes: the
 * default's in the end.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/fault/supply.h"
#include "extensions/extension.h"
#include "systems/spin/internal.h"

static const struct ledger_actor users_extension = { .name = "the user's extension",
						     .ring = 0,
						     .domain = 1 };

struct spin_lua {
	struct spin *spin;
	struct extension *extension;
	s64 reclaim, repossess, faults[PROGRAM_PROCESSES]; /* handles; 0: not installed */
	_Atomic int last;
};

/* ---- handlers ---- */

static void supply(void *closure, struct spin_fault *f)
{
	struct spin_lua *l = closure;
	struct mm *mm = spin_space_of(l->spin, f->key);
	char bytes[PAGE_SIZE];
	int answer;

	if (f->done || !mm || supply_check(mm, f->va))
		return;
	answer = extension_fault(l->extension, f->va, f->code & PF_WRITE, bytes);
	atomic_store(&l->last, answer);
	if (answer <= 0)
		return;
	ledger_step(&users_extension, "its memory object has the bytes of the page", f->va);
	/* If that fails another CPU was first, or there is no frame: AddressSpace finds out. */
	supply_page(mm, f->va, bytes);
}

static void volunteer(void *closure, struct spin_fault *f)
{
	struct spin_lua *l = closure;
	struct spin_reclaim *r = f->reclaim;
	int answer;

	if (f->done || !r)
		return;
	answer = extension_reclaim(l->extension, r->pages, r->next, &r->neighbours);
	atomic_store(&l->last, answer);
	if (answer <= 0)
		return;
	ledger_step(&users_extension, "volunteers a page", 0);
	r->n = (unsigned)answer;
	f->done = true;
}

static void hear(void *closure, struct spin_fault *f)
{
	struct spin_lua *l = closure;

	if (!f->frame)
		atomic_store(&l->last, extension_repossess(l->extension, f->va));
}

/* ---- its life ---- */

static int install(struct spin_lua *l, enum spin_event event, spin_handler_fn handler, u64 key,
		   s64 *handle)
{
	struct spin_installation i = { .extension = SPIN_USERS,
				       .event = event,
				       .order = SPIN_FIRST,
				       .handler = handler,
				       .closure = l,
				       .key = key };

	*handle = spin_install(l->spin->dispatcher, &i);
	return (int)min_of(*handle, (s64)0);
}

static void uninstall(struct spin_lua *l, s64 *handle)
{
	/* None of its handlers runs longer than its steps allow. */
	if (*handle > 0)
		spin_uninstall(l->spin->dispatcher, SPIN_USERS, *handle);
	*handle = 0;
}

int spin_lua_begin_space(struct spin *s, unsigned process)
{
	struct spin_lua *l = s->lua;

	if (!l)
		return 0;
	s->owners[process] = SPIN_USERS;
	if (!extension_answers(l->extension, EXTENSION_FAULT))
		return 0;
	return install(l, SPIN_INVALID_TRANSLATION, supply, s->keys[process], &l->faults[process]);
}

void spin_lua_end_space(struct spin *s, unsigned process)
{
	if (s->lua)
		uninstall(s->lua, &s->lua->faults[process]);
}

static int begin_everywhere(struct spin *s)
{
	struct spin_lua *l = s->lua;
	int err = 0;

	s->memory_owner = SPIN_USERS;
	if (extension_answers(l->extension, EXTENSION_RECLAIM))
		err = install(l, SPIN_RECLAIM, volunteer, SPIN_ANY_KEY, &l->reclaim);
	if (!err && extension_answers(l->extension, EXTENSION_REPOSSESS))
		err = install(l, SPIN_REPOSSESS, hear, SPIN_ANY_KEY, &l->repossess);
	for (unsigned i = 0; !err && i < PROGRAM_PROCESSES; i++)
		if (s->keys[i] != SPIN_ANY_KEY)
			err = spin_lua_begin_space(s, i);
	return err;
}

int spin_lua_begin(struct spin *s, const struct system_extension *text)
{
	struct spin_lua *l = calloc(1, sizeof(*l));
	char says[EXTENSION_SAYS];
	int err;

	if (!l)
		return -ENOMEM;
	l->spin = s;
	err = extension_load(&soft_host_memory, text->name, text->text, text->size, &l->extension,
			     says);
	if (err) {
		free(l);
		return err;
	}
	s->lua = l;
	err = begin_everywhere(s);
	if (err)
		spin_lua_end(s);
	return err;
}

void spin_lua_end(struct spin *s)
{
	struct spin_lua *l = s->lua;

	if (!l)
		return;
	uninstall(l, &l->reclaim);
	uninstall(l, &l->repossess);
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		uninstall(l, &l->faults[i]);
	s->memory_owner = SPIN_KERNEL;
	s->lua = NULL;
	extension_free(l->extension);
	free(l);
}

const char *spin_lua_says(struct spin *s)
{
	return s->lua ? extension_says(s->lua->extension) : "";
}

int spin_lua_last(struct spin *s)
{
	return s->lua ? atomic_load(&s->lua->last) : 0;
}
