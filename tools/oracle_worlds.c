/* SPDX-License-Identifier: MIT */
/* The worlds of `vmfault oracle` besides the plain one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/differential/compare.h"
#include "tools/oracle.h"
#include "tools/say.h"
#include "tools/verbs.h"

bool oracle_take_world(struct oracle_options *o, const char *name)
{
	o->world = name;
	if (!strcmp(name, "plain") || !strcmp(name, "all") || world_find(name))
		return true;
	say("--world '%.100s' is none of plain, huge, hugeswap, hugetlb, userfault, userfaultswap, "
	    "pageout, "
	    "systems, "
	    "all",
	    name);
	return false;
}

bool oracle_add_script(struct oracle_options *o, const struct oracle_world *world, const char *name,
		       const char *text, size_t size)
{
	struct world_files *files = o->files;
	char complaint[160], **names;
	struct script *scripts;

	while (files->world && files->world != world)
		files++;
	scripts = realloc(files->scripts, (files->n + 1) * sizeof(*scripts));
	names = realloc(files->names, (files->n + 1) * sizeof(*names));
	files->world = world;
	files->scripts = scripts ?: files->scripts;
	files->names = names ?: files->names;
	if (!scripts || !names || !(names[files->n] = strdup(name))) {
		say("out of memory");
		return false;
	}
	files->n++;
	o->nr_files++;
	if (steps_parse(world, text, size, &scripts[files->n - 1], complaint))
		return true;
	say("%.500s: %s", name, complaint);
	return false;
}

void oracle_free_files(struct oracle_options *o)
{
	for (struct world_files *files = o->files; files->world; files++) {
		while (files->n)
			free(files->names[--files->n]);
		free(files->names);
		free(files->scripts);
	}
}

/* ---- JSON ---- */

static void set(json_t *object, const char *key, u64 value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *calls_object(const struct oracle_world *world, const struct world_result *r)
{
	json_t *calls = json_object();

	for (unsigned call = 0; call < world->nr_calls; call++) {
		json_t *o = json_object(), *results = json_object();

		set(o, "operations", r->calls[call]);
		for (int err = 0; err < MOST_ERRNOS; err++)
			if (r->errnos[call][err])
				set(results, err ? errno_name(err) : "ok", r->errnos[call][err]);
		json_object_set_new(o, "results", results);
		json_object_set_new(calls, world->calls[call], o);
	}
	return calls;
}

static json_t *rows_object(const struct oracle_world *world, const struct world_result *r)
{
	json_t *o = json_object(), *reached = json_object(), *missed = json_array();

	for (unsigned i = 0; i < world->nr_rows; i++)
		if (r->rows[i])
			set(reached, world->rows[i], r->rows[i]);
		else
			json_array_append_new(missed, json_string(world->rows[i]));
	json_object_set_new(o, "reached", reached);
	json_object_set_new(o, "not_reached", missed);
	return o;
}

static json_t *mismatch_object(const struct world_result *r)
{
	json_t *o = json_object();

	set(o, "sequence", r->number);
	json_object_set_new(o, "what", json_string(r->what));
	json_object_set_new(o, "test", json_string(r->text));
	return o;
}

static json_t *world_object(const struct oracle_world *world, const struct world_run *run,
			    const struct world_result *r)
{
	json_t *o = json_object();

	json_object_set_new(o, "world", json_string(world->name));
	json_object_set_new(o, "skipped",
			    r->end == WORLD_SKIPPED ? json_string(r->what) : json_null());
	json_object_set_new(o, "mismatch",
			    r->end == WORLD_MISMATCH ? mismatch_object(r) : json_null());
	set(o, "operations", r->operations);
	set(o, "sequences", r->sequences);
	set(o, "unsteady_sequences", r->unsteady);
	set(o, "disturbed_sequences", r->disturbed);
	if (!run->replayed)
		set(o, "seed", run->seed);
	json_object_set_new(o, "seconds", json_real(r->seconds));
	json_object_set_new(o, "calls", calls_object(world, r));
	json_object_set_new(o, "rows", rows_object(world, r));
	return o;
}

/* ---- running ---- */

static int run_world(const struct oracle_options *o, const struct oracle_world *world,
		     const struct world_files *files, json_t *list)
{
	struct world_result *r = malloc(sizeof(*r));
	struct world_run run = {
		.operations = o->session.operations,
		.seed = o->session.seed,
		.first = o->session.first,
		.shrink_seconds = o->session.shrink_seconds,
		.engine_only = o->engine_only,
		.progress = isatty(STDERR_FILENO),
		.replayed = files ? files->scripts : NULL,
		.names = files ? (const char *const *)files->names : NULL,
		.nr_replayed = files ? files->n : 0,
	};
	enum world_end end;

	if (!r) {
		say("out of memory");
		return EXIT_TROUBLE;
	}
	world_run(world, &run, r);
	end = r->end;
	if (list)
		json_array_append_new(list, world_object(world, &run, r));
	else
		world_print(world, &run, r);
	if (end == WORLD_TROUBLE)
		say("world %s: %s", world->name, r->what);
	free(r);
	return end == WORLD_SAME       ? ORACLE_SAME
	       : end == WORLD_MISMATCH ? ORACLE_MISMATCH
	       : end == WORLD_SKIPPED  ? ORACLE_SKIPPED
				       : EXIT_TROUBLE;
}

/* The worst of what several came to; skipped is what nothing else came to. */
static int worse(int a, int b)
{
	static const int order[] = { ORACLE_SKIPPED, ORACLE_SAME, ORACLE_MISMATCH, EXIT_TROUBLE };
	int worst = a;

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		if (order[i] == a || order[i] == b)
			worst = order[i];
	return worst;
}

int oracle_run_worlds(const struct oracle_options *o, json_t *list)
{
	int status = ORACLE_SKIPPED;

	for (const struct world_files *files = o->files; files->world; files++)
		status = worse(status, run_world(o, files->world, files, list));
	if (o->nr_files || o->n)
		return status;
	for (unsigned i = 0; i < nr_worlds && status != ORACLE_MISMATCH; i++)
		if (!strcmp(o->world, "all") || !strcmp(o->world, worlds[i]->name))
			status = worse(status, run_world(o, worlds[i], NULL, list));
	return status;
}
