/* SPDX-License-Identifier: MIT */
/*
 * An extension that a user has loaded: three handlers of the dispatcher's that ask a script
 * (extensions/extension.h), to which the memory services are offered.
 *
 *   Trap.InvalidTranslation  First, for each space of its own: a memory object.  If the script has
 *                            bytes for the page, they are put into a frame that is mapped there;
 *                            AddressSpace's handler finds it and is done.  In a range of its own
 *                            the script maps a frame of its own itself.
 *   PhysAddr.Reclaim         First: the script may volunteer pages other than the oldest.
 *   PhysAddr.Repossess       First: it is told what has gone; a frame of its own it may read once
 *                            more.
 *
 * A handler that gets no answer leaves the event as it was, so the next one's turn comes: the
 * default's in the end.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/fault/supply.h"
#include "extensions/extension.h"
#include "systems/spin/internal.h"
#include "systems/spin/services.h"

/* Frames that are made free before a script is asked that may want some: it gets what there is. */
#define ROOM 8

static const struct ledger_actor users_extension = { .name = "the user's extension",
						     .ring = 0,
						     .domain = 1 };

struct spin_lua {
	struct spin *spin;
	struct extension *extension;
	struct extension_services services;
	s64 reclaim, repossess, faults[PROGRAM_PROCESSES]; /* handles; 0: not installed */
	_Atomic int last;
};

/* ---- the memory services, as the user's extension ---- */

static struct spin_services *of(void *arg)
{
	const struct spin_lua *l = arg;

	return l->spin->services;
}

static s64 allocate_frame(void *arg)
{
	ledger_step(&users_extension, "PhysAddr.Allocate", 0);
	return spin_phys_allocate_free(of(arg), SPIN_USERS);
}

static int deallocate_frame(void *arg, s64 frame)
{
	return spin_phys_deallocate(of(arg), SPIN_USERS, frame);
}

static int frame_state(void *arg, s64 frame)
{
	return spin_phys_state(of(arg), SPIN_USERS, frame);
}

static int change_state(void *arg, s64 frame, int state)
{
	return spin_phys_change_state(of(arg), SPIN_USERS, frame, (enum spin_frame_state)state);
}

static int change_protection(void *arg, s64 frame, u32 prot)
{
	return spin_phys_change_protection(of(arg), SPIN_USERS, frame, prot);
}

static int read_frame(void *arg, s64 frame, u64 at, void *bytes, u64 n)
{
	return spin_phys_read(of(arg), SPIN_USERS, frame, at, bytes, n);
}

static int write_frame(void *arg, s64 frame, u64 at, const void *bytes, u64 n)
{
	return spin_phys_write(of(arg), SPIN_USERS, frame, at, bytes, n);
}

static s64 allocate_range(void *arg, u64 space, u64 pages)
{
	return spin_virt_allocate(of(arg), SPIN_USERS, space, pages);
}

static int deallocate_range(void *arg, s64 range)
{
	return spin_virt_deallocate(of(arg), SPIN_USERS, range);
}

static int range_address(void *arg, s64 range, u64 *address)
{
	return spin_virt_address(of(arg), SPIN_USERS, range, address);
}

static int add_mapping(void *arg, u64 space, s64 frame, s64 range, u64 page, u32 prot)
{
	ledger_step(&users_extension, "Translation.AddMapping", 0);
	return spin_add_mapping(of(arg), SPIN_USERS, space, frame, range, page, prot);
}

static int remove_mapping(void *arg, u64 space, s64 range, u64 page)
{
	return spin_remove_mapping(of(arg), SPIN_USERS, space, range, page);
}

static int change_mapping(void *arg, u64 space, s64 range, u64 page, u32 prot)
{
	return spin_change_mapping(of(arg), SPIN_USERS, space, range, page, prot);
}

static int examine_mapping(void *arg, u64 space, u64 va, struct extension_examined *e)
{
	struct spin_examined found = { 0 };
	int err = spin_examine_mapping(of(arg), SPIN_USERS, space, va, &found);

	*e = (struct extension_examined){ found.prot, found.used, found.dirty };
	return err;
}

static void offer_services(struct spin_lua *l)
{
	l->services = (struct extension_services){
		.arg = l,
		.allocate_frame = allocate_frame,
		.deallocate_frame = deallocate_frame,
		.state = frame_state,
		.change_state = change_state,
		.change_protection = change_protection,
		.read = read_frame,
		.write = write_frame,
		.allocate_range = allocate_range,
		.deallocate_range = deallocate_range,
		.address = range_address,
		.add_mapping = add_mapping,
		.remove_mapping = remove_mapping,
		.change_mapping = change_mapping,
		.examine_mapping = examine_mapping,
	};
	extension_offer(l->extension, &l->services);
}

/* ---- handlers ---- */

/* Is there what the fault wants? */
static bool is_mapped(const struct spin_lua *l, const struct spin_fault *f)
{
	u32 wants = f->code & PF_WRITE ? VM_WRITE : f->code & PF_INSTR ? VM_EXEC : VM_READ;
	struct spin_examined e;

	return !spin_examine_mapping(l->spin->services, SPIN_USERS, f->key, f->va, &e) &&
	       e.prot & wants;
}

static void make_room(struct engine *e)
{
	if (zone_free_pages(e, ZONE_USER) < e->config.marks.low)
		reclaim_direct(e, ROOM);
}

/* The script says whether it has mapped a frame, and the table whether that is so: it may have gone
 * again, and another CPU may have been first. */
static void map_in_range(struct spin_lua *l, struct spin_fault *f)
{
	bool mapped = is_mapped(l, f);

	int answer = 1;

	for (unsigned tries = 0; !mapped && answer > 0 && tries < SPIN_STALE_TRIES; tries++) {
		make_room(&l->spin->base.machine->engine);
		answer = extension_range_fault(l->extension, f->key, f->va, f->code & PF_WRITE);
		atomic_store(&l->last, answer);
		mapped = is_mapped(l, f);
	}
	if (!mapped)
		return;
	ledger_step(&users_extension, "a frame of its own is there", f->va);
	f->result.reason = FAULT_OK;
	f->done = true;
}

static void supply(void *closure, struct spin_fault *f)
{
	struct spin_lua *l = closure;
	struct mm *mm = spin_space_of(l->spin, f->key);
	char bytes[PAGE_SIZE];
	int answer;

	if (!f->done && mm && f->va >= SPIN_VIRT_LOW && f->va < SPIN_VIRT_HIGH)
		map_in_range(l, f);
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
	else if (f->key == spin_frames_of(SPIN_USERS))
		atomic_store(&l->last, extension_transient(l->extension, f->frame));
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
	int err = 0;

	if (!l)
		return 0;
	s->owners[process] = SPIN_USERS;
	if (extension_answers(l->extension, EXTENSION_FAULT))
		err = install(l, SPIN_INVALID_TRANSLATION, supply, s->keys[process],
			      &l->faults[process]);
	if (!err && extension_answers(l->extension, EXTENSION_BEGIN))
		atomic_store(&l->last, extension_begin(l->extension, s->keys[process]));
	return err;
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
	if (!err && (extension_answers(l->extension, EXTENSION_REPOSSESS) ||
		     extension_answers(l->extension, EXTENSION_TRANSIENT)))
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
	offer_services(l);
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
