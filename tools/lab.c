/* SPDX-License-Identifier: MIT */
/* vmfault lab: the same program on every system, and what each one paid. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/lab.h"
#include "tools/say.h"
#include "tools/verbs.h"
#include "tools/words.h"

#define MOST_CPUS     16
#define MAX_FILE_SIZE (1u << 20)

static void help(void)
{
	printf("Usage: vmfault lab [OPTIONS]\n"
	       "       vmfault lab --walk SYSTEM WORKLOAD [--svg FILE]\n"
	       "\n"
	       "Have different systems field the same page faults, on a simulated machine: are "
	       "the\n"
	       "results the same, and what did each one pay?\n"
	       "\n"
	       "  --systems all|A,B,...  these (all)\n"
	       "  --workload NAME|FILE   this one, or a file in the language of operations (all)\n"
	       "  --beside NAME|FILE     this one for the second program of a system that runs "
	       "two\n"
	       "                         (the same as the first's)\n"
	       "  --extension FILE       with this extension, in Lua, of those that take one "
	       "(spin)\n"
	       "  --cpus N               at least so many CPUs, 1 to %d (as the workload says)\n"
	       "  --format F             table, json, csv or html (table)\n"
	       "  --walk                 tell the way of one fault, step by step\n"
	       "  --svg FILE             with --walk: draw it, too\n"
	       "  --help                 this\n"
	       "\n"
	       "Systems:\n",
	       MOST_CPUS);
	for (unsigned i = 0; i < nr_system_types; i++)
		printf("  %-14s %s\n", system_types[i]->name, system_types[i]->summary);
	printf("\nWorkloads (those with a number are the programs that every system must pass):\n");
	for (unsigned i = 0; i < nr_workloads; i++) {
		char title[128];

		printf("  %-18s %s\n", workloads[i].name,
		       workload_title(&workloads[i], title, sizeof(title)));
	}
	printf("\nThe exit status is 0 if all results are what they should be, 1 if not; 125: "
	       "vmfault could\nnot do its part.\n");
}

/* ---- the command line ---- */

static bool unknown_system(const char *name)
{
	char all[512] = "";

	for (unsigned i = 0; i < nr_system_types; i++) {
		strncat(all, i ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, system_types[i]->name, sizeof(all) - strlen(all) - 1);
	}
	say("there is no system '%.60s'; there are: %s", name, all);
	return false;
}

static bool take_systems(struct lab_options *o, const char *list)
{
	char copy[512], *save = NULL;

	o->nr_systems = 0;
	if (!strcmp(list, "all"))
		return true;
	if (strlen(list) >= sizeof(copy))
		return unknown_system(list);
	strcpy(copy, list);
	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		const struct system_type *type = system_find(name);

		if (!type)
			return unknown_system(name);
		if (o->nr_systems == LAB_MOST_SYSTEMS) {
			say("--systems names too many");
			return false;
		}
		o->systems[o->nr_systems++] = type;
	}
	return o->nr_systems || unknown_system(list);
}

/* NULL: it cannot be read, and has been told. */
static const struct workload *read_workload(struct workload *file, const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = malloc(MAX_FILE_SIZE);
	bool done = false;
	size_t n = 0;

	if (!f || !text) {
		say("there is no workload '%.300s', and no such file can be read: %s", path,
		    strerror(f ? ENOMEM : errno));
	} else {
		n = fread(text, 1, MAX_FILE_SIZE, f);
		if (ferror(f))
			say("%.300s cannot be read: %s", path, strerror(errno));
		else if (n == MAX_FILE_SIZE)
			say("%.300s cannot be read: it is too long", path);
		else if (memchr(text, '\0', n))
			say("%.300s is no workload: a zero byte is no text", path);
		else {
			text[n] = '\0';
			free((char *)file->text);
			*file = (struct workload){ .name = path, .text = text };
			done = true;
		}
	}
	if (f)
		fclose(f);
	if (!done)
		free(text);
	return done ? file : NULL;
}

static bool take_workload(const struct workload **w, struct workload *file, const char *name)
{
	*w = workload_find(name);
	if (!*w)
		*w = read_workload(file, name);
	return *w != NULL;
}

static bool take_cpus(struct lab_options *o, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n < 1 || n > MOST_CPUS) {
		say("--cpus '%.60s' is not a number from 1 to %d", value, MOST_CPUS);
		return false;
	}
	o->cpus = (unsigned)n;
	return true;
}

static bool take_format(struct lab_options *o, const char *value)
{
	static const char *const names[] = { "table", "json", "csv", "html" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(value, names[i])) {
			o->format = i;
			return true;
		}
	say("--format '%.60s' is none of table, json, csv, html", value);
	return false;
}

static bool take_value(struct lab_options *o, const char *name, const char *value)
{
	if (!strcmp(name, "--systems"))
		return take_systems(o, value);
	if (!strcmp(name, "--workload"))
		return take_workload(&o->workload, &o->file, value);
	if (!strcmp(name, "--beside"))
		return take_workload(&o->beside, &o->beside_file, value);
	if (!strcmp(name, "--extension")) {
		extension_file_free(&o->extension);
		return extension_file_read(&o->extension, value);
	}
	if (!strcmp(name, "--cpus"))
		return take_cpus(o, value);
	if (!strcmp(name, "--format"))
		return take_format(o, value);
	o->svg = value;
	return true;
}

/* --walk SYSTEM WORKLOAD */
static bool take_walk(struct lab_options *o, int argc, char **argv, int *at)
{
	if (*at + 2 >= argc) {
		say("--walk needs a system and a workload; see vmfault lab --help");
		return false;
	}
	o->walk = true;
	if (!take_systems(o, argv[*at + 1]) ||
	    !take_workload(&o->workload, &o->file, argv[*at + 2]))
		return false;
	*at += 2;
	if (o->nr_systems == 1)
		return true;
	say("--walk is for one system");
	return false;
}

/* The option at argv[*at]; *at is left on its last word. */
static bool take_option(struct lab_options *o, int argc, char **argv, int *at)
{
	static const char *const names[] = { "--systems", "--workload", "--beside", "--extension",
					     "--cpus",	  "--format",	"--svg",    NULL };
	const char *word = argv[*at], *name, *value;

	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return o->help = true;
	if (!strcmp(word, "--walk"))
		return take_walk(o, argc, argv, at);
	return words_take("lab", names, argc, argv, at, &name, &value) &&
	       take_value(o, name, value);
}

/* What is asked for is for that one. */
static bool is_suitable(const struct lab_options *o, const struct system_type *t)
{
	return (!o->extension.text || t->takes_extension) && (!o->beside || t->nr_parts > 1);
}

/* All that are suitable, if none are named. */
static bool choose_systems(struct lab_options *o)
{
	bool all = !o->nr_systems;

	for (unsigned i = 0; all && i < nr_system_types; i++)
		if (is_suitable(o, system_types[i]))
			o->systems[o->nr_systems++] = system_types[i];
	if (!o->nr_systems) {
		say("--extension and --beside are for different systems");
		return false;
	}
	for (unsigned i = 0; i < o->nr_systems; i++) {
		const struct system_type *t = o->systems[i];

		if (is_suitable(o, t))
			continue;
		if (o->beside && t->nr_parts < 2)
			say("--beside is not for the system '%s', which runs one program", t->name);
		else
			say("--extension is not for the system '%s', which takes none", t->name);
		return false;
	}
	return true;
}

/* Do it on a system.  What is wrong with the extension is said once. */
static int do_workload(const struct lab_options *o, const struct system_type *type,
		       const struct workload *w, lab_walk_fn tell, void *arg,
		       struct lab_result *result)
{
	static bool said;
	struct system_extension x = { .name = o->extension.path,
				      .text = o->extension.text,
				      .size = o->extension.size };
	const struct lab_order order = { .type = type,
					 .workload = w,
					 .beside = o->beside,
					 .cpus = o->cpus,
					 .extension = x.text ? &x : NULL,
					 .tell = tell,
					 .arg = arg };
	int err = lab_do(&order, result);

	if (!err && result->says[0] && !said) {
		said = true;
		say("--extension %s (%.60s on %s); the default handler goes on", result->says,
		    w->name, type->name);
	}
	return err;
}

static bool parse(struct lab_options *o, int argc, char **argv)
{
	for (int i = 1; i < argc && !o->help; i++)
		if (!take_option(o, argc, argv, &i))
			return false;
	if (o->svg && !o->walk) {
		say("--svg is for --walk");
		return false;
	}
	return choose_systems(o);
}

/* ---- a walk ---- */

struct walk {
	const struct lab_options *options;
	struct lab_result result;
	int err;
};

static void tell(void *arg, const struct ledger_event *events, unsigned n)
{
	struct walk *w = arg;
	char title[128];

	lab_walk_text(events, n, w->result.cpus);
	if (!w->options->svg || !n)
		return;
	snprintf(title, sizeof(title), "%s: %s", w->options->systems[0]->name,
		 w->options->workload->name);
	w->err = lab_walk_svg(w->options->svg, title, events, n, w->result.cpus);
}

static int walk(const struct lab_options *o)
{
	struct walk w = { .options = o };
	const struct lab_result *result = &w.result;

	if (do_workload(o, o->systems[0], o->workload, tell, &w, &w.result)) {
		say("%.300s: %s", o->workload->name, result->message);
		return EXIT_TROUBLE;
	}
	if (w.err) {
		say("--svg %.300s cannot be written: %s", o->svg, strerror(-w.err));
		return EXIT_TROUBLE;
	}
	if (result->verdict == LAB_OK)
		return 0;
	say("%s on %s: %s %s", o->workload->name, o->systems[0]->name,
	    lab_verdict_name(result->verdict), result->message);
	return 1;
}

/* ---- all of them ---- */

const char *lab_verdict_name(enum lab_verdict verdict)
{
	static const char *const names[] = { [LAB_OK] = "ok",
					     [LAB_DIFFERS] = "differs",
					     [LAB_NOT_OFFERED] = "not offered",
					     [LAB_NO_MEMORY] = "no memory" };

	return names[verdict];
}

bool lab_is_paid(const struct lab_report *r, unsigned workload, enum ledger_counter counter)
{
	for (unsigned i = 0; i < r->options->nr_systems; i++)
		if (lab_result(r, workload, i)->counts[counter])
			return true;
	return false;
}

struct lab_expected lab_expected(const struct lab_report *r, unsigned workload, unsigned system)
{
	const struct system_type *t = r->options->systems[system];
	const struct lab_result *result = lab_result(r, workload, system);
	struct lab_expected x = { .counts = t->expected, .paid = result->counts };

	if (result->verdict == LAB_OK && workload_is_expected(r->workloads[workload], t))
		x.n = t->nr_expected;
	for (unsigned i = 0; i < x.n; i++)
		x.met += lab_is_met(&x, i);
	return x;
}

const char *lab_why(const struct system_expectation *e)
{
	return e->why ? e->why : "nobody knows why it is not";
}

bool lab_shows_parts(const struct lab_report *r, unsigned system)
{
	const struct lab_options *o = r->options;

	return o->systems[system]->nr_parts && (o->nr_systems == 1 || r->nr_workloads == 1);
}

bool lab_shows_times(const struct lab_report *r, unsigned workload, unsigned system)
{
	const struct lab_options *o = r->options;
	const struct lab_result *result = lab_result(r, workload, system);
	u64 done = 0;

	for (unsigned i = 0; i < o->systems[system]->nr_timings; i++)
		done += result->timings[i].count;
	return done && (o->nr_systems == 1 || r->nr_workloads == 1);
}

static bool run_attacks(struct lab_report *r)
{
	for (unsigned i = 0; i < r->options->nr_systems; i++) {
		const struct system_type *type = r->options->systems[i];

		r->attacks[i] = calloc(type->nr_attacks + 1, sizeof(int));
		if (!r->attacks[i])
			return false;
		for (unsigned k = 0; k < type->nr_attacks; k++) {
			r->attacks[i][k] = lab_attack(type, &type->attacks[k]);
			r->failed |= r->attacks[i][k] != type->attacks[k].refused;
		}
	}
	return true;
}

/* Progress, for a person who waits. */
static void show_progress(unsigned done, unsigned all)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\rvmfault lab: %u of %u", done, all);
}

static bool run_workloads(struct lab_report *r)
{
	const struct lab_options *o = r->options;
	unsigned all = r->nr_workloads * o->nr_systems, done = 0;

	for (unsigned w = 0; w < r->nr_workloads; w++)
		for (unsigned s = 0; s < o->nr_systems; s++) {
			struct lab_result *result = &r->results[done];

			show_progress(done++, all);
			if (do_workload(o, o->systems[s], r->workloads[w], NULL, NULL, result)) {
				say("%.300s: %s", r->workloads[w]->name, result->message);
				return false;
			}
			r->failed |= result->verdict == LAB_DIFFERS ||
				     result->verdict == LAB_NO_MEMORY ||
				     (result->verdict == LAB_NOT_OFFERED &&
				      workload_is_conformance(r->workloads[w]));
		}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%30s\r", "");
	return true;
}

static bool print(const struct lab_report *r)
{
	bool (*const ways[])(const struct lab_report *) = { lab_print_table, lab_print_json,
							    lab_print_csv, lab_print_html };

	if (ways[r->options->format](r) && fflush(stdout) == 0)
		return true;
	say("the report cannot be written: %s", strerror(errno));
	return false;
}

static int run(const struct lab_options *o)
{
	const struct workload *chosen[nr_workloads];
	struct lab_report r = { .options = o, .workloads = chosen };
	bool done;

	if (o->workload)
		chosen[r.nr_workloads++] = o->workload;
	for (unsigned i = 0; !o->workload && i < nr_workloads; i++)
		chosen[r.nr_workloads++] = &workloads[i];
	r.results = calloc(r.nr_workloads * o->nr_systems, sizeof(*r.results));
	if (!r.results) {
		say("out of memory");
		return EXIT_TROUBLE;
	}
	done = run_workloads(&r) && (o->workload || run_attacks(&r)) && print(&r);
	for (unsigned i = 0; i < o->nr_systems; i++)
		free(r.attacks[i]);
	free(r.results);
	return !done ? EXIT_TROUBLE : r.failed ? 1 : 0;
}

int verb_lab(int argc, char **argv)
{
	struct lab_options options = { 0 };
	int status = EXIT_TROUBLE;

	if (parse(&options, argc, argv)) {
		status = 0;
		if (options.help)
			help();
		else
			status = options.walk ? walk(&options) : run(&options);
	}
	free((char *)options.file.text);
	free((char *)options.beside_file.text);
	extension_file_free(&options.extension);
	return status;
}
