/* SPDX-License-Identifier: MIT */
/* vmfault oracle: does the engine do what the running kernel does? */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/differential/op_text.h"
#include "tools/oracle.h"
#include "tools/say.h"
#include "tools/verbs.h"
#include "tools/words.h"

#define DEFAULT_OPERATIONS 50000
#define MAX_FILE_SIZE	   (1u << 20)

static void help(void)
{
	printf("Usage: vmfault oracle [OPTIONS]\n"
	       "\n"
	       "Do random memory operations in real processes and in the engine, and compare all "
	       "that\n"
	       "comes of them.  A mismatch is made as short as it can be and printed as a test.\n"
	       "\n"
	       "  --world WORLD    what the operations are about: plain (the default: memory of "
	       "all kinds,\n"
	       "                   several processes), one of those below, or all\n"
	       "  --operations N   do at least N operations, of each world (%d)\n"
	       "  --seed S         begin the random sequences with S (the time)\n"
	       "  --first N        begin with the N-th sequence of the seed (0)\n"
	       "  --jobs N         plain: do N sequences at once, 1 to %d (one a CPU)\n"
	       "  --replay FILE    do the sequence of FILE instead, or of all *.ops in a "
	       "directory;\n"
	       "                   may be given many times\n"
	       "  --engine         the engine alone, which checks itself: nothing is compared (not "
	       "plain)\n"
	       "  --json           print JSON\n"
	       "  --help           this\n"
	       "\n"
	       "The exit status is 0 if there is no mismatch, 1 if there is one, 77 if nothing "
	       "that was\n"
	       "asked for can be had of this kernel; 125: vmfault could not do its part.\n"
	       "\n"
	       "Worlds:\n",
	       DEFAULT_OPERATIONS, MAX_JOBS);
	for (unsigned i = 0; i < nr_worlds; i++)
		printf("  %-13s %s\n", worlds[i]->name, worlds[i]->about);
}

/* ---- files ---- */

static bool cannot_read(const char *path, const char *why)
{
	say("--replay %.500s cannot be read: %s", path, why);
	return false;
}

static bool read_text(const char *path, char *text, size_t *size)
{
	FILE *f = fopen(path, "re");
	bool whole;

	if (!f)
		return cannot_read(path, strerror(errno));
	errno = 0;
	*size = fread(text, 1, MAX_FILE_SIZE, f);
	if (ferror(f)) {
		fclose(f);
		return cannot_read(path, strerror(errno));
	}
	whole = *size < MAX_FILE_SIZE;
	fclose(f);
	return whole || cannot_read(path, "it is too long");
}

static bool add_sequence(struct oracle_options *o, const char *path, const char *text, size_t size)
{
	struct sequence *grown = realloc(o->sequences, (o->n + 1) * sizeof(*grown));
	char **names = realloc(o->names, (o->n + 1) * sizeof(*names));
	char complaint[COMPLAINT_SIZE];

	o->sequences = grown ?: o->sequences;
	o->names = names ?: o->names;
	if (!grown || !names || !(o->names[o->n] = strdup(path))) {
		say("out of memory");
		return false;
	}
	if (sequence_parse(text, size, &o->sequences[o->n], complaint)) {
		o->n++;
		return true;
	}
	free(o->names[o->n]);
	say("%.500s: %s", path, complaint);
	return false;
}

static bool add_file(struct oracle_options *o, const char *path)
{
	char *text = malloc(MAX_FILE_SIZE);
	const struct oracle_world *world;
	bool good = false;
	size_t size;

	if (!text) {
		say("out of memory");
	} else if (read_text(path, text, &size)) {
		world = steps_world(text, size);
		good = world ? oracle_add_script(o, world, path, text, size)
			     : add_sequence(o, path, text, size);
	}
	free(text);
	return good;
}

static int is_sequence(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && !strcmp(dot, ".ops");
}

/* A file, or all *.ops of a directory. */
static bool add_path(struct oracle_options *o, const char *path)
{
	struct dirent **entries;
	struct stat st;
	bool good = true;
	char name[PATH_MAX];
	int n;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return add_file(o, path);
	n = scandir(path, &entries, is_sequence, alphasort);
	if (n <= 0)
		return cannot_read(path, n ? strerror(errno) : "there is no .ops file in it");
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		good = good && add_file(o, name);
		free(entries[i]);
	}
	free(entries);
	return good;
}

/* ---- the command line ---- */

static bool take_number(const char *name, const char *value, u64 least, u64 most, u64 *out)
{
	char *end;

	errno = 0;
	*out = strtoull(value, &end, 0);
	if (*value >= '0' && *value <= '9' && !*end && !errno && *out >= least && *out <= most)
		return true;
	say("%s '%.100s' is not a number from %llu to %llu", name, value, (unsigned long long)least,
	    (unsigned long long)most);
	return false;
}

static bool take_value(struct oracle_options *o, const char *name, const char *value)
{
	u64 n;

	if (!strcmp(name, "--replay"))
		return add_path(o, value);
	if (!strcmp(name, "--world"))
		return oracle_take_world(o, value);
	if (!strcmp(name, "--operations"))
		return take_number(name, value, 1, 1ULL << 40, &o->session.operations);
	if (!strcmp(name, "--seed"))
		return take_number(name, value, 0, ~0ULL, &o->session.seed);
	if (!strcmp(name, "--first"))
		return take_number(name, value, 0, 1ULL << 40, &o->session.first);
	if (!take_number(name, value, 1, MAX_JOBS, &n))
		return false;
	o->session.jobs = n;
	o->has_jobs = true;
	return true;
}

/* The option at argv[*at]; *at is left on its last word. */
static bool take_option(struct oracle_options *o, int argc, char **argv, int *at)
{
	static const char *const names[] = { "--world", "--operations", "--seed", "--first",
					     "--jobs",	"--replay",	NULL };
	const char *word = argv[*at], *name, *value;

	if (!strcmp(word, "--json"))
		return o->json = true;
	if (!strcmp(word, "--engine"))
		return o->engine_only = true;
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return o->help = true;
	return words_take("oracle", names, argc, argv, at, &name, &value) &&
	       take_value(o, name, value);
}

static bool has_plain(const struct oracle_options *o)
{
	if (o->n || o->nr_files)
		return o->n;
	return !o->engine_only && (!strcmp(o->world, "plain") || !strcmp(o->world, "all"));
}

static bool parse(struct oracle_options *o, int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	o->session = (struct session_options){
		.operations = DEFAULT_OPERATIONS,
		.seed = time(NULL),
		.jobs = min_of(max_of(cpus, 1L), (long)MAX_JOBS),
		.shrink_seconds = 60,
	};
	o->world = "plain";
	for (int i = 1; i < argc && !o->help; i++)
		if (!take_option(o, argc, argv, &i))
			return false;
	if (o->engine_only && !strcmp(o->world, "plain") && !o->nr_files && !o->help) {
		say("--engine needs a --world that is not plain");
		return false;
	}
	if (o->has_jobs && !has_plain(o) && !o->help) {
		say("--jobs is for the plain world: the others do one sequence after the other");
		return false;
	}
	o->session.replayed = o->n ? o->sequences : NULL;
	o->session.names = (const char *const *)o->names;
	o->session.nr_replayed = o->n;
	if (o->n)
		o->session.first = 0;
	return true;
}

static int run_plain(const struct oracle_options *o, json_t **object)
{
	struct session_result *result = malloc(sizeof(*result));
	enum session_end end;

	if (!result) {
		say("out of memory");
		return EXIT_TROUBLE;
	}
	session_run(&o->session, result);
	end = result->end;
	if (end == SESSION_TROUBLE)
		say("%s", result->what);
	else if (o->json)
		*object = oracle_json(&o->session, result);
	else
		report_print(&o->session, result);
	free(result);
	return end == SESSION_SAME ? 0 : end == SESSION_MISMATCH ? 1 : EXIT_TROUBLE;
}

/* With the plain world its object is the whole, and has a list of the others if there are any. */
static int run(const struct oracle_options *o)
{
	json_t *list = o->json ? json_array() : NULL, *object = NULL;
	bool plain = has_plain(o);
	int status = plain ? run_plain(o, &object) : ORACLE_SKIPPED, others = ORACLE_SKIPPED;

	if (!plain || !status)
		others = oracle_run_worlds(o, list);
	if (o->json && (object || !plain)) {
		object = object ?: json_object();
		if (json_array_size(list))
			json_object_set(object, "worlds", list);
		json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		printf("\n");
	}
	json_decref(list);
	json_decref(object);
	return plain && (status || others == ORACLE_SKIPPED) ? status : others;
}

int verb_oracle(int argc, char **argv)
{
	struct oracle_options options = { 0 };
	int status = EXIT_TROUBLE;

	if (parse(&options, argc, argv)) {
		status = 0;
		if (options.help)
			help();
		else
			status = run(&options);
	}
	free(options.sequences);
	while (options.n)
		free(options.names[--options.n]);
	free(options.names);
	oracle_free_files(&options);
	return status;
}
