/* SPDX-License-Identifier: MIT */
/*
 * The command line of `vmfault run`.  Options end at the first word that is none, or at `--`; what
 * follows is the program's.  Long options only, whole names only, `--name value` or `--name=value`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "tools/extension_file.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/say.h"

void options_help(void)
{
	printf("Usage: vmfault run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n"
	       "\n"
	       "Run PROGRAM with its anonymous memory held to a limit: what it does not use just\n"
	       "now is kept compressed, and a table of what happened is printed at the end.\n"
	       "\n"
	       "  --memory SIZE    most resident memory of each process: bytes, or with K, M, G, "
	       "T\n"
	       "                   (KiB, MiB, ...), at least 16M; or N%% of the peak of the "
	       "earlier\n"
	       "                   run that --stats names.  Without it the program is only "
	       "watched.\n"
	       "  --compress HOW   lz4 (default), zstd or none\n"
	       "  --threads N      threads that serve faults, 1 to %d (one a CPU)\n"
	       "  --prefetch N     most pages brought in with one fault, 0 to %d (%d)\n"
	       "  --policy WHICH   which pages go first: lru (default), gen, clock or fifo\n"
	       "  --huge-pages HOW  keep: 2 MiB that are all in memory are put together again, "
	       "and\n"
	       "                   go last; split (default): pages are single once they have "
	       "been away\n"
	       "  --extension FILE  which pages go first is said by a handler of Reclaim in "
	       "this Lua\n"
	       "                   file, instead of --policy\n"
	       "  --stats FILE     write what happened to FILE, as JSON\n"
	       "  --json           print JSON instead of the table\n"
	       "  --verbose        say what is done\n"
	       "  --help           this\n"
	       "\n"
	       "The exit status is the program's own, or 128 + the signal that ended it; 127: no\n"
	       "such program; 126: it cannot be executed; 125: vmfault could not do its part.\n",
	       MAX_THREADS, (int)MAX_PREFETCH, DEFAULT_PREFETCH);
}

/* ---- values ---- */

/* The number that `text` begins with; what follows it in *rest. */
static bool number_parse(const char *text, u64 *value, const char **rest)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	*rest = end;
	return errno == 0;
}

static bool unit_parse(const char *text, unsigned *shift)
{
	static const char units[] = "KMGT";
	const char *unit = *text ? strchr(units, *text & ~0x20) : NULL;

	if (!strcasecmp(text, "") || !strcasecmp(text, "B")) {
		*shift = 0;
		return true;
	}
	if (!unit)
		return false;
	*shift = 10 * (unit - units + 1);
	return text[1] == '\0' || !strcasecmp(text + 1, "iB");
}

bool size_parse(const char *text, u64 *bytes)
{
	const char *rest;
	unsigned shift;
	u64 n;

	if (!number_parse(text, &n, &rest) || !unit_parse(rest, &shift))
		return false;
	if (n > UINT64_MAX >> shift)
		return false;
	*bytes = n << shift;
	return true;
}

static bool set_memory(struct run_options *o, const char *value)
{
	const char *rest;
	u64 n;

	o->watch = false;
	if (number_parse(value, &n, &rest) && !strcmp(rest, "%")) {
		if (n < 1 || n > 100) {
			say("--memory %s: must be from 1%% to 100%%", value);
			return false;
		}
		o->percent = n;
		return true;
	}
	o->percent = 0;
	if (!size_parse(value, &o->memory)) {
		say("--memory '%s' is no size: give bytes, or a number with K, M, G or %%", value);
		return false;
	}
	if (o->memory < MIN_MEMORY || o->memory > MAX_MEMORY) {
		say("--memory %s is too %s: at %s %s", value,
		    o->memory < MIN_MEMORY ? "little" : "much",
		    o->memory < MIN_MEMORY ? "least" : "most",
		    o->memory < MIN_MEMORY ? "16M" : "64T");
		return false;
	}
	return true;
}

/* One of the known names, after which is NULL. */
static bool set_name(const char *value, const char *const *known, const char **out)
{
	const char *const *name;

	for (name = known; *name; name++) {
		if (!strcmp(value, *name)) {
			*out = *name;
			return true;
		}
	}
	return false;
}

static bool set_compress(struct run_options *o, const char *value)
{
	static const char *const known[] = { "lz4", "zstd", "none", NULL };

	if (set_name(value, known, &o->compress))
		return true;
	say("--compress '%s' is not one of lz4, zstd, none", value);
	return false;
}

static bool set_policy(struct run_options *o, const char *value)
{
	static const char *const known[] = { "lru", "gen", "clock", "fifo", NULL };

	if (set_name(value, known, &o->policy))
		return true;
	say("--policy '%s' is not one of lru, gen, clock, fifo", value);
	return false;
}

static bool set_extension(struct run_options *o, const char *value)
{
	struct extension_file f;
	bool fits;

	if (!extension_file_read(&f, value))
		return false;
	fits = f.answers[EXTENSION_RECLAIM];
	if (!fits)
		say("--extension %.300s has no handler 'reclaim', which is what run asks", value);
	extension_file_free(&f);
	o->extension = value;
	return fits;
}

static bool set_huge_pages(struct run_options *o, const char *value)
{
	static const char *const known[] = { "keep", "split", NULL };

	if (set_name(value, known, &o->huge_pages))
		return true;
	say("--huge-pages '%s' is not one of keep, split", value);
	return false;
}

static bool set_count(const char *name, const char *value, unsigned least, unsigned most,
		      unsigned *out)
{
	const char *rest;
	u64 n;

	if (!number_parse(value, &n, &rest) || *rest || n < least || n > most) {
		say("%s '%s' is not a number from %u to %u", name, value, least, most);
		return false;
	}
	*out = n;
	return true;
}

static bool set_threads(struct run_options *o, const char *value)
{
	return set_count("--threads", value, 1, MAX_THREADS, &o->threads);
}

static bool set_prefetch(struct run_options *o, const char *value)
{
	return set_count("--prefetch", value, 0, MAX_PREFETCH, &o->prefetch);
}

static bool set_stats(struct run_options *o, const char *value)
{
	if (!*value) {
		say("--stats needs the name of a file");
		return false;
	}
	o->stats = value;
	return true;
}

static bool set_json(struct run_options *o, const char *value)
{
	(void)value;
	return o->json = true;
}

static bool set_verbose(struct run_options *o, const char *value)
{
	(void)value;
	return o->verbose = true;
}

static bool set_help(struct run_options *o, const char *value)
{
	(void)value;
	return o->help = true;
}

static const struct option {
	const char *name;
	bool takes_value;
	bool (*set)(struct run_options *o, const char *value);
} known_options[] = {
	{ "--memory", true, set_memory },
	{ "--compress", true, set_compress },
	{ "--threads", true, set_threads },
	{ "--prefetch", true, set_prefetch },
	{ "--policy", true, set_policy },
	{ "--extension", true, set_extension },
	{ "--huge-pages", true, set_huge_pages },
	{ "--stats", true, set_stats },
	{ "--json", false, set_json },
	{ "--verbose", false, set_verbose },
	{ "--help", false, set_help },
	{ "-h", false, set_help },
};

/* ---- the line ---- */

/* The option of this word, up to '=' if there is one. */
static const struct option *option_of(const char *word)
{
	size_t length = strcspn(word, "=");

	for (unsigned i = 0; i < ARRAY_SIZE(known_options); i++) {
		const char *name = known_options[i].name;

		if (strlen(name) == length && !strncmp(word, name, length))
			return &known_options[i];
	}
	return NULL;
}

/* Take the option at argv[*at] and its value; *at is left on the last word used. */
static bool take_option(struct run_options *o, int argc, char **argv, int *at)
{
	const char *word = argv[*at];
	const char *equals = strchr(word, '=');
	const struct option *option = option_of(word);

	if (!option) {
		say("unknown option '%s'; see vmfault run --help", word);
		return false;
	}
	if (!option->takes_value) {
		if (equals) {
			say("%s takes no value", option->name);
			return false;
		}
		return option->set(o, NULL);
	}
	if (equals)
		return option->set(o, equals + 1);
	if (*at + 1 >= argc) {
		say("%s needs a value; see vmfault run --help", option->name);
		return false;
	}
	return option->set(o, argv[++*at]);
}

/* What the machine has: a limit that no program reaches. */
static u64 all_memory(void)
{
	u64 bytes = (u64)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);

	return max_of(bytes, (u64)MIN_MEMORY);
}

static bool memory_of_earlier_run(struct run_options *o)
{
	u64 peak;

	if (!o->stats) {
		say("--memory %u%% needs --stats FILE of an earlier run to be a part of",
		    o->percent);
		return false;
	}
	if (!json_read_peak(o->stats, &peak))
		return false;
	o->memory = peak / 100 * o->percent + peak % 100 * o->percent / 100;
	if (o->memory < MIN_MEMORY) {
		say("--memory %u%% of %llu bytes is too little: at least 16M", o->percent,
		    (unsigned long long)peak);
		return false;
	}
	return true;
}

/* Which pages go, and how, has to be said only where any do. */
static bool asks_in_vain(const struct run_options *o)
{
	const char *name = o->policy	   ? "--policy"
			   : o->extension  ? "--extension"
			   : o->huge_pages ? "--huge-pages"
					   : NULL;

	if (!o->watch || !name)
		return false;
	say("%s needs --memory SIZE: without it the program is only watched, and no page goes",
	    name);
	return true;
}

bool options_parse(struct run_options *o, int argc, char **argv)
{
	int i;

	*o = (struct run_options){
		.compress = "lz4",
		.threads = DEFAULT_THREADS,
		.prefetch = DEFAULT_PREFETCH,
		.memory = all_memory(),
		.watch = true,
	};
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (!take_option(o, argc, argv, &i))
			return false;
		if (o->help)
			return true;
	}
	if (o->extension && o->policy) {
		say("--extension and --policy both say which pages go first: give one of them");
		return false;
	}
	if (asks_in_vain(o))
		return false;
	o->policy_asked = o->policy || o->extension;
	if (!o->policy)
		o->policy = o->extension ? "extension" : "lru";
	if (!o->huge_pages)
		o->huge_pages = "split";
	o->program = argv + i;
	if (i >= argc) {
		say("no program to run; see vmfault run --help");
		return false;
	}
	return !o->percent || memory_of_earlier_run(o);
}
