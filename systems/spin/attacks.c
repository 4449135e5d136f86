/* SPDX-License-Identifier: MIT */
/* What malicious extensions try: by the dispatcher's calls, and as scripts that are loaded. */
#include <string.h>

#include <stdio.h>

#include "engine/base/errno.h"
#include "systems/spin/internal.h"
#include "systems/spin/services.h"

#define AT    0x20000000ULL
#define PAGES 64

/* Not what an attack is to come to. */
#define NOT_REFUSED 1

static void run_never(void *closure, struct spin_fault *f)
{
	(void)f;
	*(bool *)closure = true;
}

static s64 attacker_installs(struct system *s, enum spin_event event, u64 key, void *closure)
{
	struct spin_installation i = { .extension = SPIN_ATTACKER,
				       .order = SPIN_FIRST,
				       .event = event,
				       .handler = run_never,
				       .closure = closure,
				       .key = key };

	return spin_install(spin_dispatcher_of(s), &i);
}

static int handler_for_all(struct system *s)
{
	return (int)attacker_installs(s, SPIN_INVALID_TRANSLATION, SPIN_ANY_KEY, NULL);
}

static int handler_for_another(struct system *s)
{
	return (int)attacker_installs(s, SPIN_INVALID_TRANSLATION, spin_key_of(s, 0), NULL);
}

static int handler_of_reclaim(struct system *s)
{
	return (int)attacker_installs(s, SPIN_RECLAIM, SPIN_ANY_KEY, NULL);
}

/* Process 1 begins, and is the attacker's. */
static void give_child(struct system *s)
{
	s->program->ops->fork(s->program, 0, 1);
	spin_give_space(s, 1, SPIN_ATTACKER);
}

static s64 attacker_installs_for_child(struct system *s, bool *ran)
{
	return attacker_installs(s, SPIN_INVALID_TRANSLATION, spin_key_of(s, 1), ran);
}

static void map_pages(struct system *s, u64 n)
{
	struct program_map map = { .addr = AT,
				   .len = n * PAGE_SIZE,
				   .prot = VM_READ | VM_WRITE,
				   .flags = VMAP_FIXED,
				   .file = -1 };

	s->program->ops->map(s->program, 0, &map);
}

/* A fault of the first process, while the attacker has a handler for a space of its own. */
static int handler_sees_another(struct system *s)
{
	bool ran = false;
	s64 handle;
	u8 byte;

	give_child(s);
	handle = attacker_installs_for_child(s, &ran);
	if (handle < 0)
		return NOT_REFUSED;
	map_pages(s, 1);
	s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	spin_uninstall(spin_dispatcher_of(s), SPIN_ATTACKER, handle);
	return ran ? 0 : -EACCES;
}

static int forged_handle(struct system *s)
{
	return spin_uninstall(spin_dispatcher_of(s), SPIN_ATTACKER, 0x7fff0001);
}

static int another_s_handle(struct system *s)
{
	return spin_uninstall(spin_dispatcher_of(s), SPIN_ATTACKER,
			      spin_of_system(s)->handles[0][0]);
}

static int stale_handle(struct system *s)
{
	bool ran = false;
	s64 handle;

	give_child(s);
	handle = attacker_installs_for_child(s, &ran);
	spin_uninstall(spin_dispatcher_of(s), SPIN_ATTACKER, handle);
	attacker_installs_for_child(s, &ran); /* in the same place */
	return spin_uninstall(spin_dispatcher_of(s), SPIN_ATTACKER, handle);
}

/* Its space is gone, and another process has the number. */
static int handler_outlives_its_space(struct system *s)
{
	bool ran = false;
	u8 byte;

	give_child(s);
	if (attacker_installs_for_child(s, &ran) < 0)
		return NOT_REFUSED;
	s->program->ops->exit(s->program, 1);
	s->program->ops->fork(s->program, 0, 1);
	s->program->ops->run(s->program, 0, 1);
	s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	return ran ? 0 : -EACCES;
}

/* ---- scripts ---- */

static bool load(struct system *s, const char *script)
{
	struct system_extension text = { .name = "attack.lua",
					 .text = script,
					 .size = strlen(script) };

	return spin_lua_begin(spin_of_system(s), &text) == 0;
}

/* Pages of the program, each full of its number. */
static void write_pages(struct system *s)
{
	map_pages(s, PAGES);
	for (unsigned i = 0; i < PAGES; i++) {
		u8 byte = (u8)i;

		s->program->ops->access(s->program, 0, AT + i * PAGE_SIZE, PF_WRITE, &byte, 1);
	}
}

static bool nothing_is_lost(struct system *s)
{
	for (unsigned i = 0; i < PAGES; i++) {
		u8 byte = 0xff;

		if (s->program->ops->access(s->program, 0, AT + i * PAGE_SIZE, 0, &byte, 1) !=
			    FAULT_OK ||
		    byte != (u8)i)
			return false;
	}
	return true;
}

/* What comes of a handler of Reclaim, while half of the program's pages have to go. */
static int reclaim_by(struct system *s, const char *script)
{
	int last;

	write_pages(s);
	if (!load(s, script))
		return NOT_REFUSED;
	s->program->ops->reclaim(s->program, 1);
	last = spin_lua_last(spin_of_system(s));
	s->program->ops->reclaim(s->program, PAGES / 2);
	return nothing_is_lost(s) && *spin_lua_says(spin_of_system(s)) ? last : NOT_REFUSED;
}

static int runs_for_ever(struct system *s)
{
	return reclaim_by(s, "return { reclaim = function() while true do end end }");
}

static int takes_all_memory(struct system *s)
{
	return reclaim_by(s, "return { reclaim = function()\n"
			     "  local s = 'x' while true do s = s .. s end\n"
			     "end }");
}

static int forges_a_page(struct system *s)
{
	return reclaim_by(s, "return { reclaim = function(pages)\n"
			     "  local page = pages:oldest()\n"
			     "  return { { address = page.address, stamp = page.stamp } }\n"
			     "end }");
}

static int answers_nonsense(struct system *s)
{
	return reclaim_by(s, "return { reclaim = function() return 0xffff888000000000 end }");
}

/* A page that was given, and has gone: the second question gets the same answer. */
static int uses_a_page_that_went(struct system *s)
{
	write_pages(s);
	if (!load(s, "local page return { reclaim = function(pages)\n"
		     "  page = page or pages:newest()\n"
		     "  return page\n"
		     "end }"))
		return NOT_REFUSED;
	s->program->ops->reclaim(s->program, 1);
	s->program->ops->reclaim(s->program, PAGES / 2);
	return nothing_is_lost(s) ? spin_lua_last(spin_of_system(s)) : NOT_REFUSED;
}

static int gives_more_than_a_page(struct system *s)
{
	u8 byte = 0xff;
	int last;

	if (!load(s, "return { fault = function() return ('x'):rep(4097) end }"))
		return NOT_REFUSED;
	map_pages(s, 1);
	s->program->ops->access(s->program, 0, AT, 0, &byte, 1);
	last = spin_lua_last(spin_of_system(s));
	return byte ? NOT_REFUSED : last;
}

/* What comes of a fault in the script's range; nothing may be mapped by it, and the program's other
 * pages stay as they are.  `handler` is its body, with frame and range. */
static int range_fault_by(struct system *s, const char *handler)
{
	char script[512];
	u8 byte;

	write_pages(s);
	snprintf(script, sizeof(script),
		 "local range, frame return {\n"
		 "  begin = function(space) range = VirtAddr.Allocate(space, 1) end,\n"
		 "  fault = function(address, write, space)\n"
		 "    if not space then return nil end\n"
		 "    frame = PhysAddr.Allocate()\n"
		 "    %s\n"
		 "  end }",
		 handler);
	if (!load(s, script))
		return NOT_REFUSED;
	if (s->program->ops->access(s->program, 0, SPIN_VIRT_LOW, 0, &byte, 1) != FAULT_MAPERR)
		return NOT_REFUSED;
	return nothing_is_lost(s) ? spin_lua_last(spin_of_system(s)) : NOT_REFUSED;
}

/* A number that looks like a handle, for it is one's. */
static int forges_a_frame(struct system *s)
{
	return range_fault_by(s, "return Translation.AddMapping(space, frame.id, range, 0, 'rw')");
}

/* Something that says of itself all that a frame does. */
static int dresses_as_a_frame(struct system *s)
{
	return range_fault_by(
		s, "local f = setmetatable({}, { __index = function(t, k) return frame[k] end })\n"
		   "return Translation.AddMapping(space, f, range, 0, 'rw')");
}

static int maps_a_frame_that_it_gave_back(struct system *s)
{
	return range_fault_by(
		s, "PhysAddr.Deallocate(frame)\n"
		   "return assert(Translation.AddMapping(space, frame, range, 0, 'rw'))");
}

/* It is not believed, and not asked for ever. */
static int says_that_a_frame_is_mapped(struct system *s)
{
	return range_fault_by(s, "PhysAddr.Deallocate(frame) return true") == 1 ? -EFAULT
										: NOT_REFUSED;
}

/* ---- the memory services ---- */

#define OTHER (SPIN_ATTACKER + 1)

/* The attacker maps the frame in its own space. */
static int attacker_maps(struct system *s, s64 frame)
{
	struct spin_services *m = spin_services_of(s);
	u64 map;
	s64 range;

	give_child(s);
	map = spin_key_of(s, 1);
	range = spin_virt_allocate(m, SPIN_ATTACKER, map, 1);
	if (range < 0)
		return NOT_REFUSED;
	return spin_add_mapping(m, SPIN_ATTACKER, map, frame, range, 0, VM_READ);
}

static int frame_that_was_given_back(struct system *s)
{
	struct spin_services *m = spin_services_of(s);
	s64 frame = spin_phys_allocate(m, SPIN_ATTACKER);

	spin_phys_deallocate(m, SPIN_ATTACKER, frame);
	return attacker_maps(s, frame);
}

/* And another has it by now. */
static int frame_is_given_back_twice(struct system *s)
{
	struct spin_services *m = spin_services_of(s);
	s64 frame = spin_phys_allocate(m, SPIN_ATTACKER), again;
	u8 byte = 9;

	spin_phys_deallocate(m, SPIN_ATTACKER, frame);
	again = spin_phys_allocate(m, OTHER);
	spin_phys_write(m, OTHER, again, 0, &byte, 1);
	if (spin_phys_deallocate(m, SPIN_ATTACKER, frame) ||
	    spin_phys_read(m, OTHER, again, 0, &byte, 1) || byte != 9)
		return NOT_REFUSED;
	return spin_phys_deallocate(m, SPIN_ATTACKER, again);
}

static int frame_of_another(struct system *s)
{
	return attacker_maps(s, spin_phys_allocate(spin_services_of(s), OTHER));
}

/* The program's own, by any name that it could have: each frame's first. */
static int frame_of_the_program(struct system *s)
{
	s64 frames = (s64)spin_of_system(s)->base.machine->nr_user;
	int result = NOT_REFUSED;

	write_pages(s);
	for (s64 name = 1; name <= frames; name++) {
		int err = spin_phys_write(spin_services_of(s), SPIN_ATTACKER, name, 0, "x", 1);

		if (err == -EACCES)
			result = err;
		else if (err != -EBADF)
			return NOT_REFUSED;
	}
	return nothing_is_lost(s) ? result : NOT_REFUSED;
}

static int frame_that_is_made_up(struct system *s)
{
	return attacker_maps(s, 77LL << 32 | 1);
}

static int map_of_another(struct system *s)
{
	struct spin_examined e;

	map_pages(s, 1);
	return spin_examine_mapping(spin_services_of(s), SPIN_ATTACKER, spin_key_of(s, 0), AT, &e);
}

static int range_in_another_s_map(struct system *s)
{
	return (int)spin_virt_allocate(spin_services_of(s), SPIN_ATTACKER, spin_key_of(s, 0), 1);
}

static int frame_is_to_stay(struct system *s)
{
	struct spin_services *m = spin_services_of(s);

	return spin_phys_change_state(m, SPIN_ATTACKER, spin_phys_allocate(m, SPIN_ATTACKER),
				      SPIN_PINNED);
}

static int past_the_end_of_a_frame(struct system *s)
{
	struct spin_services *m = spin_services_of(s);
	u8 bytes[16];

	return spin_phys_read(m, SPIN_ATTACKER, spin_phys_allocate(m, SPIN_ATTACKER), PAGE_SIZE - 8,
			      bytes, sizeof(bytes));
}

/* There is an end to it, and the program goes on. */
static int takes_every_frame(struct system *s)
{
	struct spin_services *m = spin_services_of(s);
	s64 frame;

	do
		frame = spin_phys_allocate(m, SPIN_ATTACKER);
	while (frame > 0);
	write_pages(s);
	return nothing_is_lost(s) ? (int)frame : NOT_REFUSED;
}

const struct system_attack spin_attacks[NR_SPIN_ATTACKS] = {
	{ "an extension installs a handler for every space", handler_for_all, -EACCES },
	{ "an extension installs a handler for a space of another's", handler_for_another,
	  -EACCES },
	{ "an extension that memory was not given to says which pages go", handler_of_reclaim,
	  -EACCES },
	{ "a handler sees faults of a space that it is not for", handler_sees_another, -EACCES },
	{ "a handler sees faults of who comes after its space", handler_outlives_its_space,
	  -EACCES },
	{ "a handle is made up", forged_handle, -EBADF },
	{ "a handler of another extension is taken away", another_s_handle, -EACCES },
	{ "a handle is used after its handler was taken away", stale_handle, -EBADF },
	{ "a user's extension runs for ever", runs_for_ever, -ETIMEDOUT },
	{ "a user's extension takes all memory", takes_all_memory, -ENOMEM },
	{ "a user's extension makes up a page", forges_a_page, -EINVAL },
	{ "a user's extension answers with an address", answers_nonsense, -EINVAL },
	{ "a user's extension gives a page that has gone", uses_a_page_that_went, -EBADF },
	{ "a memory object has more bytes than a page", gives_more_than_a_page, -EINVAL },
	{ "a user's extension makes up a frame", forges_a_frame, -EINVAL },
	{ "a user's extension has a table for a frame", dresses_as_a_frame, -EINVAL },
	{ "a user's extension maps a frame that it gave back", maps_a_frame_that_it_gave_back,
	  -EINVAL },
	{ "a user's extension says that it has mapped a frame", says_that_a_frame_is_mapped,
	  -EFAULT },
	{ "an extension maps a frame that it gave back", frame_that_was_given_back, -EBADF },
	{ "a frame is given back again when another has it", frame_is_given_back_twice, -EACCES },
	{ "an extension maps a frame of another's", frame_of_another, -EACCES },
	{ "an extension writes to a frame of the program's", frame_of_the_program, -EACCES },
	{ "a frame's handle is made up", frame_that_is_made_up, -EBADF },
	{ "an extension looks at the mappings of a foreign space", map_of_another, -EACCES },
	{ "an extension takes addresses of a foreign space", range_in_another_s_map, -EACCES },
	{ "an extension pins a frame", frame_is_to_stay, -EACCES },
	{ "an extension reads past the end of its frame", past_the_end_of_a_frame, -EINVAL },
	{ "an extension takes every frame", takes_every_frame, -ENOMEM },
};
