/* SPDX-License-Identifier: MIT */
/* The systems' side: a fresh machine for each sequence, through what a program can do there. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "engine/space/uapi.h"
#include "systems/system.h"
#include "tests/differential/guard.h"
#include "tests/differential/worlds/systems.h"

/* Fewer than all pages together, so that some have to go. */
#define FRAMES	  48
#define COPY_PART 1024 /* bytes */

struct side {
	const struct system_type *type;
	struct system *system;
	const struct script *script;
	s64 *results;
};

unsigned systems_number(void)
{
	return nr_system_types;
}

const char *systems_name(unsigned i)
{
	return system_types[i]->name;
}

static s64 ends(enum fault_reason reason)
{
	switch (reason) {
	case FAULT_MAPERR:
		return ENDS_MAPERR;
	case FAULT_ACCERR:
		return ENDS_ACCERR;
	case FAULT_BUS:
		return ENDS_BUS;
	default:
		return ENDS_BADLY;
	}
}

static s64 touch(struct program *p, u64 va, bool write, u64 word)
{
	enum fault_reason reason =
		p->ops->access(p, 0, va, write ? PF_WRITE : 0, &word, sizeof(word));

	return reason == FAULT_OK ? (s64)word : ends(reason);
}

static s64 add(struct program *p, u64 va, u64 word)
{
	u64 old = 0;
	enum fault_reason reason = p->ops->add(p, 0, va, word, &old);

	return reason == FAULT_OK ? (s64)old : ends(reason);
}

static s64 copy(struct program *p, const struct systems_step *op, u64 va)
{
	u8 bytes[4 * COPY_PART];
	u64 n = op->n * COPY_PART, left;

	memset(bytes, (int)op->word, sizeof(bytes));
	left = op->call == COPY_IN ? p->ops->copy_in(p, 0, bytes, va, n)
				   : p->ops->copy_out(p, 0, va, bytes, n);
	return (s64)(n - left);
}

static s64 child_touches(struct program *p, u64 va, bool write, u64 word)
{
	s64 result;
	int err = p->ops->fork(p, 0, 1);

	if (err)
		return err;
	p->ops->run(p, 0, 1);
	result = touch(p, va, write, word);
	p->ops->run(p, 0, 0);
	p->ops->exit(p, 1);
	return result;
}

static s64 map(struct program *p, const struct systems_step *op, u64 va)
{
	struct program_map a = { .addr = va,
				 .len = op->n * PAGE_SIZE,
				 .prot = op->prot,
				 .flags = VMAP_FIXED,
				 .vm_flags = op->shared ? VM_SHARED : 0,
				 .file = op->call == MAP_OF_FILE ? (int)op->file : -1,
				 .offset = op->page2 * PAGE_SIZE };

	return min_of(p->ops->map(p, 0, &a), (s64)0);
}

static s64 contents(struct program *p)
{
	u64 sum = 0, words[PAGE_SIZE / sizeof(u64)];

	for (unsigned page = 0; page < PAGES; page++) {
		enum fault_reason reason =
			p->ops->access(p, 0, window_at(page), 0, words, PAGE_SIZE);

		if (reason != FAULT_OK)
			sum = contents_add(sum, ends(reason));
		for (unsigned i = 0; reason == FAULT_OK && i < ARRAY_SIZE(words); i++)
			sum = contents_add(sum, (s64)words[i]);
	}
	return (s64)(sum >> 1);
}

static s64 file_word(struct program *p, const struct systems_step *op)
{
	u64 word = op->word, pos = op->page * PAGE_SIZE;
	s64 n = op->call == WRITE_FILE
			? p->ops->file_write(p, (int)op->file, pos, &word, sizeof(word))
			: p->ops->file_read(p, (int)op->file, pos, &word, sizeof(word));

	return n < 0 ? n : n ? (s64)word : -1;
}

static s64 do_step(struct program *p, const struct systems_step *op)
{
	u64 va = window_at(op->page), len = op->n * PAGE_SIZE;

	switch ((enum systems_call)op->call) {
	case MAP:
	case MAP_OF_FILE:
		return map(p, op, va);
	case UNMAP:
		return p->ops->unmap(p, 0, va, len);
	case PROTECT:
		return p->ops->protect(p, 0, va, len, op->prot);
	case MOVE:
		return min_of(p->ops->remap(p, 0, va, len, len,
					    UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED,
					    window_at(op->page2)),
			      (s64)0);
	case DONTNEED:
		return p->ops->advise(p, 0, va, len, VADV_DONTNEED);
	case PAGEOUT:
		p->ops->pageout(p, 0, va, len);
		return 0;
	case READ:
	case WRITE:
		return touch(p, va, op->call == WRITE, op->word);
	case ADD:
		return add(p, va, op->word);
	case COPY_IN:
	case COPY_OUT:
		return copy(p, op, va + PAGE_SIZE / 2);
	case CHILD_READS:
	case CHILD_WRITES:
		return child_touches(p, va, op->call == CHILD_WRITES, op->word);
	case READ_FILE:
	case WRITE_FILE:
		return file_word(p, op);
	case CUT_FILE:
		return p->ops->file_truncate(p, (int)op->file, op->page * PAGE_SIZE);
	case CONTENTS:
		return contents(p);
	default:
		return -ENOSYS;
	}
}

static bool make_files(struct program *p)
{
	for (int f = 0; f < NR_FILES; f++)
		if (p->ops->file_create(p, f, f == IN_MEMORY || !systems_have_disk()) ||
		    p->ops->file_truncate(p, f, FILE_PAGES * PAGE_SIZE))
			return false;
	return true;
}

/* Where a system runs several programs, each does the step, one after the other: nothing else may
 * come of it than of the first's. */
static void do_beside(const struct side *side, unsigned i, const struct systems_step *op)
{
	const struct system *s = side->system;
	char why[120];

	for (unsigned k = 1; k < s->nr_parts; k++) {
		s64 got = do_step(s->parts[k].program, op);

		if (got == side->results[i])
			continue;
		snprintf(why, sizeof(why), "step %u gives %lld, and %lld in its program %s", i,
			 (long long)side->results[i], (long long)got, side->type->parts[k]);
		guard_give_up(why);
	}
}

static void do_script(void *arg)
{
	struct side *side = arg;
	struct program *p = side->system->program;
	bool made = make_files(p);

	for (unsigned k = 1; made && k < side->system->nr_parts; k++)
		made = make_files(side->system->parts[k].program);
	if (!made)
		guard_give_up("no memory for files");
	for (unsigned i = 0; i < side->script->n; i++) {
		struct systems_step op = systems_step(side->script, i);

		side->results[i] = do_step(p, &op);
		do_beside(side, i, &op);
	}
	p->ops->check(p);
}

/* On a small machine: which calls there are does not change. */
static bool offers_moves(unsigned i)
{
	static enum { UNKNOWN, YES, NO } known[64];
	struct system_options options = { .cpus = 1, .frames = FRAMES };
	struct system *system;

	if (i >= ARRAY_SIZE(known) || known[i] != UNKNOWN)
		return i < ARRAY_SIZE(known) && known[i] == YES;
	if (ledger_create(1, &options.ledger))
		return true;
	if (!system_types[i]->create(system_types[i], &options, &system)) {
		known[i] = system->program->ops->remap ? YES : NO;
		system->destroy(system);
	}
	ledger_destroy(options.ledger);
	return known[i] != NO;
}

bool systems_offers(unsigned i, const struct script *script)
{
	for (unsigned k = 0; k < script->n; k++)
		if (systems_step(script, k).call == MOVE)
			return offers_moves(i);
	return true;
}

bool systems_do(unsigned i, const struct script *script, s64 *results, char *why)
{
	struct side side = { .type = system_types[i], .script = script, .results = results };
	struct system_options options = { .cpus = 1, .frames = FRAMES };
	bool good;

	if (ledger_create(1, &options.ledger) ||
	    side.type->create(side.type, &options, &side.system)) {
		snprintf(why, 160, "no memory for it");
		return false;
	}
	why[0] = 0;
	good = guarded(do_script, &side, why, 160);
	/* Who has panicked is left as it is. */
	if (good)
		side.system->destroy(side.system);
	ledger_destroy(options.ledger);
	return good;
}
