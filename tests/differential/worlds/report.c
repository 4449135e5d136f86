/* SPDX-License-Identifier: MIT */
/* What a run of a world came to, for a person. */
#include <string.h>

#include "tests/differential/compare.h"
#include "tests/differential/worlds/world.h"

static void print_calls(const struct oracle_world *world, const struct world_result *r)
{
	printf("calls, and what came of them:\n");
	for (unsigned call = 0; call < world->nr_calls; call++) {
		printf("  %-14s %8llu ", world->calls[call], (unsigned long long)r->calls[call]);
		for (int err = 0; err < MOST_ERRNOS; err++)
			if (r->errnos[call][err])
				printf(" %s %llu", err ? errno_name(err) : "ok",
				       (unsigned long long)r->errnos[call][err]);
		printf("\n");
	}
}

static void print_rows(const struct oracle_world *world, const struct world_result *r)
{
	unsigned reached = 0;

	for (unsigned i = 0; i < world->nr_rows; i++)
		reached += r->rows[i] != 0;
	printf("cases: %u of %u reached\n", reached, world->nr_rows);
	for (unsigned i = 0; i < world->nr_rows; i++)
		if (r->rows[i])
			printf("  %8llu %s\n", (unsigned long long)r->rows[i], world->rows[i]);
		else
			printf("  not reached: %s\n", world->rows[i]);
}

void world_print(const struct oracle_world *world, const struct world_run *o,
		 const struct world_result *r)
{
	if (r->end == WORLD_SKIPPED) {
		printf("world %s: skipped: %s\n", world->name, r->what);
		return;
	}
	if (r->operations) {
		print_calls(world, r);
		print_rows(world, r);
	}
	if (r->unsteady)
		printf("%llu sequences differed once, and not when they were done again\n",
		       (unsigned long long)r->unsteady);
	if (r->disturbed)
		printf("%llu sequences were given up: the kernel was short of something, or at "
		       "work by itself\n",
		       (unsigned long long)r->disturbed);
	printf("world %s: %llu operations in %llu sequences, ", world->name,
	       (unsigned long long)r->operations, (unsigned long long)r->sequences);
	if (o->replayed)
		printf("from files");
	else
		printf("seed %llu", (unsigned long long)o->seed);
	printf(", %.0f s: %s\n", r->seconds,
	       r->end == WORLD_MISMATCH	 ? "A MISMATCH"
	       : r->end == WORLD_TROUBLE ? "not finished"
	       : o->engine_only		 ? "the engine alone, nothing compared"
					 : "no mismatch");
	if (r->end == WORLD_MISMATCH)
		printf("\n%s\n\nThe shortest sequence found:\n\n%s", r->what, r->text);
}
