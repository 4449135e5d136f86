/* SPDX-License-Identifier: MIT */
/*
 * The same program on the running kernel and on every system of the laboratory: what it reads, what
 * its calls return and which signals it gets must be the same.  Memory is short there, and pages go
 * out and come back.
 */
#include <string.h>

#include "engine/space/mm.h"
#include "tests/differential/worlds/systems.h"

enum { RANDOM_STEPS = 80, CONTENTS_EVERY = 20 };

static const char *const names[NR_SYSTEMS_CALLS] = {
	[MAP] = "map",
	[MAP_OF_FILE] = "map_file",
	[UNMAP] = "unmap",
	[PROTECT] = "protect",
	[MOVE] = "move",
	[DONTNEED] = "dontneed",
	[PAGEOUT] = "pageout",
	[READ] = "read",
	[WRITE] = "write",
	[ADD] = "add",
	[COPY_IN] = "copy_in",
	[COPY_OUT] = "copy_out",
	[CHILD_READS] = "child_reads",
	[CHILD_WRITES] = "child_writes",
	[READ_FILE] = "file_read",
	[WRITE_FILE] = "file_write",
	[CUT_FILE] = "file_cut",
	[CONTENTS] = "contents",
};

static const struct step_field fields[] = {
	STEP_FIELD(struct systems_step, page),	STEP_FIELD(struct systems_step, n),
	STEP_FIELD(struct systems_step, page2), STEP_FIELD(struct systems_step, prot),
	STEP_FIELD(struct systems_step, file),	STEP_FIELD(struct systems_step, shared),
	STEP_FIELD(struct systems_step, word),
};

enum row {
	ROW_MAPERR,
	ROW_ACCERR,
	ROW_BUS,
	ROW_SHORT_COPY,
	ROW_CHILD,
	ROW_CHILD_ENDS,
	ROW_MOVED,
	ROW_CUT,
	NR_ROWS
};
static const char *const rows[NR_ROWS] = {
	[ROW_MAPERR] = "SIGSEGV where nothing is mapped",
	[ROW_ACCERR] = "SIGSEGV where the access is not allowed",
	[ROW_BUS] = "SIGBUS behind a file's end",
	[ROW_SHORT_COPY] = "a system call finds only part of its buffer",
	[ROW_CHILD] = "a child writes to its copy",
	[ROW_CHILD_ENDS] = "a child gets a signal",
	[ROW_MOVED] = "memory is moved",
	[ROW_CUT] = "a file is made shorter, or longer",
};

/* ---- sequences ---- */

static void generate_areas(struct systems_step *op)
{
	static const u32 prots[] = { VM_READ | VM_WRITE, VM_READ | VM_WRITE, VM_READ, 0 };

	op->prot = prots[chance(op->call == PROTECT ? 4 : 3)];
	op->page = (u32)chance(PAGES);
	op->n = (u32)(1 + chance(min_of(12u, PAGES - op->page)));
	if (op->call == MAP_OF_FILE) {
		op->file = (u32)chance(NR_FILES);
		op->shared = (u32)chance(2);
		op->page2 = (u32)chance(FILE_PAGES);
	} else if (op->call == MOVE) {
		op->n = 1;
		op->page2 = (u32)chance(PAGES);
	}
}

static void generate(struct script *s)
{
	static const u8 likely[] = {
		MAP,	  MAP,	       MAP_OF_FILE,  UNMAP,	PROTECT,    PROTECT,
		MOVE,	  DONTNEED,    PAGEOUT,	     PAGEOUT,	PAGEOUT,    READ,
		READ,	  READ,	       WRITE,	     WRITE,	WRITE,	    WRITE,
		WRITE,	  WRITE,       ADD,	     ADD,	COPY_IN,    COPY_OUT,
		COPY_OUT, CHILD_READS, CHILD_WRITES, READ_FILE, WRITE_FILE, CUT_FILE,
	};

	bool moves = chance(2); /* not every system offers them */

	for (s->n = 0; s->n < RANDOM_STEPS; s->n++) {
		struct systems_step op = { .call = likely[chance(sizeof(likely))] };

		if (op.call == MOVE && !moves)
			op.call = UNMAP;

		if (s->n < 3) /* something to begin with */
			op.call = s->n ? MAP_OF_FILE : MAP;
		else if (s->n % CONTENTS_EVERY == CONTENTS_EVERY - 1)
			op = (struct systems_step){ .call = CONTENTS };
		if (op.call <= PAGEOUT) {
			generate_areas(&op);
		} else if (op.call < READ_FILE) {
			op.page = (u32)chance(PAGES);
			op.n = op.call == COPY_IN || op.call == COPY_OUT ? (u32)(1 + chance(4)) : 0;
			op.word = (u32)chance(1u << 20);
		} else if (op.call < CONTENTS) {
			op.file = (u32)chance(NR_FILES);
			op.page = (u32)chance(FILE_PAGES + (op.call == CUT_FILE));
			op.word = (u32)chance(1u << 20);
		}
		if (op.call != MAP && op.call != MAP_OF_FILE && op.call != PROTECT)
			op.prot = 0;
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}

static bool fits(const void *step)
{
	const struct systems_step *op = step;

	if ((op->prot & ~(u32)(VM_READ | VM_WRITE)) || op->prot == VM_WRITE || op->shared > 1 ||
	    op->file >= NR_FILES || op->word >= 1u << 20)
		return false;
	if (op->call == MAP_OF_FILE && op->page2 >= FILE_PAGES)
		return false;
	/* (Where a monitor serves faults, no areas are moved together.) */
	if (op->call == MOVE && (op->page2 >= PAGES || op->n != 1))
		return false;
	if (op->call == READ_FILE || op->call == WRITE_FILE || op->call == CUT_FILE)
		return op->page < FILE_PAGES + (op->call == CUT_FILE);
	if (op->call <= PAGEOUT)
		return op->page < PAGES && op->n && op->n <= PAGES - op->page;
	return op->page < PAGES && op->n <= 4;
}

/* ---- comparing ---- */

static void count_rows(u64 *row, const struct systems_step *op, s64 result)
{
	bool access = op->call >= READ && op->call <= ADD;
	bool child = op->call == CHILD_READS || op->call == CHILD_WRITES;

	row[ROW_MAPERR] += access && result == ENDS_MAPERR;
	row[ROW_ACCERR] += access && result == ENDS_ACCERR;
	row[ROW_BUS] += access && result == ENDS_BUS;
	row[ROW_SHORT_COPY] += (op->call == COPY_IN || op->call == COPY_OUT) && result > 0 &&
			       result < (s64)op->n * 1024;
	row[ROW_CHILD] += op->call == CHILD_WRITES && result >= 0;
	row[ROW_CHILD_ENDS] += child && result < 0;
	row[ROW_MOVED] += op->call == MOVE && !result;
	row[ROW_CUT] += op->call == CUT_FILE && !result;
}

/* A system does the script; true: it did what `expected` says, which is what `who` did. */
static bool try_system(unsigned number, const struct script *s, const char *who,
		       const s64 *expected, struct world_trial *t)
{
	s64 results[MOST_STEPS];
	char why[160] = "";

	if (!systems_do(number, s, results, why)) {
		t->verdict = VERDICT_DIFFERS;
		t->at = s->n - 1;
		snprintf(t->text, sizeof(t->text), "%s: %s\n", systems_name(number), why);
		return false;
	}
	for (unsigned i = 0; i < s->n; i++) {
		if (!expected || results[i] == expected[i])
			continue;
		t->verdict = VERDICT_DIFFERS;
		t->at = i;
		snprintf(t->text, sizeof(t->text), "%s: %ld\n%s: %ld\n", who, (long)expected[i],
			 systems_name(number), (long)results[i]);
		return false;
	}
	memcpy(t->results, results, sizeof(results));
	return true;
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	static s64 real[MOST_STEPS];

	t->verdict = VERDICT_TROUBLE;
	snprintf(t->text, sizeof(t->text), "the kernel's process ended badly");
	if (!engine_only && !systems_kernel(s, real))
		return;
	t->text[0] = 0;
	t->verdict = VERDICT_SAME;
	/* Without the kernel they are compared with the first of them. */
	for (unsigned i = 0; i < systems_number(); i++)
		if (systems_offers(i, s) &&
		    !try_system(i, s, engine_only ? systems_name(0) : "kernel",
				!engine_only ? real
				: i	     ? t->results
					     : NULL,
				t))
			return;
	for (unsigned i = 0; i < s->n; i++) {
		struct systems_step op = systems_step(s, i);

		count_rows(t->rows, &op, t->results[i]);
	}
}

static const char *open_world(bool engine_only)
{
	struct systems_step op = { .call = MAP, .n = 1, .prot = VM_READ };
	static s64 results[MOST_STEPS];
	struct script s = { .n = 1 };

	memcpy(s.steps[0], &op, sizeof(op));
	if (engine_only || (systems_kernel(&s, results) && !results[0]))
		return NULL;
	return "the kernel gives a process no files in memory, or not the window's addresses";
}

const struct oracle_world world_systems = {
	.name = "systems",
	.about = "every system of the laboratory: what a program reads, gets and is told",
	.calls = names,
	.nr_calls = NR_SYSTEMS_CALLS,
	.fields = fields,
	.nr_fields = sizeof(fields) / sizeof(*fields),
	.rows = rows,
	.nr_rows = NR_ROWS,
	.open = open_world,
	.generate = generate,
	.fits = fits,
	.perform = perform,
};
