/* SPDX-License-Identifier: MIT */
/* What the user asks of `vmfault oracle`, and its result as JSON. */
#ifndef VMF_TOOLS_ORACLE_H
#define VMF_TOOLS_ORACLE_H

#include <jansson.h>

#include "tests/differential/session.h"
#include "tests/differential/worlds/world.h"

/* --replay: the files of one world. */
struct world_files {
	const struct oracle_world *world;
	struct script *scripts;
	char **names; /* each is ours */
	unsigned n;
};

enum { ORACLE_WORLDS = 10 };

struct oracle_options {
	struct session_options session;
	struct sequence *sequences; /* of the files to replay, in the plain world */
	char **names;		    /* of the files: each is ours */
	unsigned n;
	struct world_files files[ORACLE_WORLDS]; /* by world */
	unsigned nr_files;			 /* to replay, of all worlds */
	const char *world;			 /* its name, "plain" or "all" */
	bool engine_only, json, help;
	bool has_jobs; /* --jobs was given */
};

/* As exit statuses. */
enum { ORACLE_SAME = 0, ORACLE_MISMATCH = 1, ORACLE_SKIPPED = 77 };

/* ---- oracle_worlds.c ---- */

/* False: there is no such world, and that has been said. */
bool oracle_take_world(struct oracle_options *o, const char *name);
/* A sequence of `world` from the file of that name.  False: said likewise. */
bool oracle_add_script(struct oracle_options *o, const struct oracle_world *world, const char *name,
		       const char *text, size_t size);
/* Those that are asked for but for the plain one: the exit status.  `list`: with --json, gets an
 * object each. */
int oracle_run_worlds(const struct oracle_options *o, json_t *list);
void oracle_free_files(struct oracle_options *o);

/* ---- oracle_json.c ---- */

/* One object. */
json_t *oracle_json(const struct session_options *options, const struct session_result *result);

#endif
