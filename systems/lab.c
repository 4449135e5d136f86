/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "systems/lab.h"

/* Enough that nothing is evicted that need not be. */
#define USUAL_FRAMES 2048
#define MOST_FRAMES  (1ULL << 20)

const struct workload workloads[] = {
#include "systems/workloads/workloads.inc"
};

const unsigned nr_workloads = ARRAY_SIZE(workloads);

const struct workload *workload_find(const char *name)
{
	for (unsigned i = 0; i < nr_workloads; i++)
		if (!strcmp(workloads[i].name, name))
			return &workloads[i];
	return NULL;
}

bool workload_is_conformance(const struct workload *w)
{
	return w->name[0] >= '0' && w->name[0] <= '9';
}

bool workload_is_expected(const struct workload *w, const struct system_type *type)
{
	return !strcmp(w->name, type->expected_of ? type->expected_of : "minor-fault");
}

const char *workload_title(const struct workload *w, char *buf, size_t size)
{
	const char *end = strchr(w->text, '\n');
	int n = end ? (int)(end - w->text) : (int)strlen(w->text);

	snprintf(buf, size, "%s", "");
	if (n > 2 && w->text[0] == '#')
		snprintf(buf, size, "%.*s", n - 2, w->text + 2);
	return buf;
}

/* What a workload says that it needs. */
struct needs {
	u64 cpus, frames;
};

/* Is that what follows "# word " in a line that only goes on to tell something? */
static bool is_prose(const char *value)
{
	size_t end = strcspn(value, " \t\r\n");

	return (*value < '0' || *value > '9') && strspn(value + end, " \t");
}

/* The first line "# word N", N from 1 to most: *n.  0, also if there is none; -EINVAL: N is not
 * that, and message says so. */
static int wants(const char *text, const char *word, u64 most, u64 *n, char *message)
{
	size_t len = strlen(word);
	unsigned line = 1;

	for (const char *at = text; at; at = strchr(at, '\n'), at += !!at, line++) {
		const char *value;
		char *end;

		if (strncmp(at, "# ", 2) || strncmp(at + 2, word, len) || at[2 + len] != ' ')
			continue;
		value = at + 2 + len + 1;
		if (is_prose(value))
			continue;
		*n = strtoull(value, &end, 10);
		if (*value >= '0' && *value <= '9' && strchr(" \t\r\n", *end) && *n && *n <= most)
			return 0;
		snprintf(message, SCRIPT_MESSAGE,
			 "line %u: %s '%.*s' is not a number from 1 to %llu", line, word,
			 (int)min_of(strcspn(value, "\r\n"), (size_t)20), value,
			 (unsigned long long)most);
		return -EINVAL;
	}
	return 0;
}

/* `asked`: at least so many CPUs. */
static int needs_of(const struct workload *w, unsigned asked, struct needs *needs, char *message)
{
	int err;

	*needs = (struct needs){ .cpus = 1, .frames = USUAL_FRAMES };
	err = wants(w->text, "cpus", SOFT_MAX_CPUS, &needs->cpus, message);
	if (!err)
		err = wants(w->text, "frames", MOST_FRAMES, &needs->frames, message);
	needs->cpus = min_of(max_of(needs->cpus, (u64)asked), (u64)SOFT_MAX_CPUS);
	return err;
}

static enum lab_verdict verdict_of(int err)
{
	if (!err)
		return LAB_OK;
	return err == -ENOSYS ? LAB_NOT_OFFERED : LAB_DIFFERS;
}

/* A machine of the system's, and its ledger.  0, -ENOMEM. */
static int set_up(const struct system_type *type, unsigned cpus, u64 frames,
		  const struct system_extension *extension, struct system **s)
{
	struct system_options o = { .cpus = cpus, .frames = frames, .extension = extension };
	int err = ledger_create(cpus, &o.ledger);

	if (err)
		return err;
	err = type->create(type, &o, s);
	if (err)
		ledger_destroy(o.ledger);
	else
		system_measure(*s);
	return err;
}

static void tear_down(struct system *s)
{
	struct ledger *ledger = s->ledger;

	s->destroy(s);
	ledger_destroy(ledger);
}

/* A script for each part of the system, and what came of it. */
struct job {
	struct system *system;
	unsigned n;
	struct script *scripts[SYSTEM_MOST_PARTS];
	int errs[SYSTEM_MOST_PARTS];
	char messages[SYSTEM_MOST_PARTS][SCRIPT_MESSAGE];
};

static const struct workload *workload_of(const struct lab_order *o, unsigned part)
{
	return part && o->beside ? o->beside : o->workload;
}

static void free_scripts(struct job *job)
{
	for (unsigned i = 0; i < job->n; i++)
		if (job->scripts[i])
			script_free(job->scripts[i]);
}

/* What all of them need, and the scripts.  0, -EINVAL, -ENOMEM, with a message. */
static int prepare(const struct lab_order *o, struct job *job, struct needs *needs, char *message)
{
	struct needs each;
	int err = 0;

	job->n = max_of(o->type->nr_parts, 1u);
	for (unsigned i = 0; !err && i < job->n; i++) {
		const struct workload *w = workload_of(o, i);
		char *said = job->messages[i];

		err = needs_of(w, o->cpus, &each, said);
		if (!err)
			err = script_parse(w->text, strlen(w->text), &job->scripts[i], said);
		if (!i)
			*needs = each;
		needs->cpus = max_of(needs->cpus, each.cpus);
		if (err && w != o->workload)
			snprintf(message, SCRIPT_MESSAGE, "beside it, %.50s: %.80s", w->name, said);
		else if (err)
			snprintf(message, SCRIPT_MESSAGE, "%s", said);
	}
	if (err)
		free_scripts(job);
	return err;
}

static void run_part(void *arg, unsigned part)
{
	struct job *job = arg;
	struct system *s = job->system;

	job->errs[part] =
		script_run_on(job->scripts[part], part ? s->parts[part].program : s->program,
			      job->messages[part]);
}

/* The first part with which something is wrong says what. */
static void judge(const struct lab_order *o, const struct job *job, struct lab_result *result)
{
	unsigned i = 0;

	while (i < job->n - 1 && !job->errs[i])
		i++;
	result->verdict = verdict_of(job->errs[i]);
	if (i)
		snprintf(result->message, SCRIPT_MESSAGE, "%s: %.140s", o->type->parts[i],
			 job->messages[i]);
	else
		snprintf(result->message, SCRIPT_MESSAGE, "%s", job->messages[i]);
}

static void note_counts(const struct system *s, struct lab_result *result)
{
	memcpy(result->counts, s->nr_parts ? s->parts[0].total : s->total, sizeof(result->counts));
	for (unsigned i = 0; i < s->nr_parts; i++)
		memcpy(result->parts[i], s->parts[i].total, sizeof(result->parts[i]));
	if (s->type->nr_timings)
		memcpy(result->timings, s->timings,
		       s->type->nr_timings * sizeof(result->timings[0]));
}

static void run_job(const struct lab_order *o, struct job *job, struct lab_result *result)
{
	const struct ledger_event *events;
	struct system *s = job->system;
	unsigned n;

	ledger_record(s->ledger, o->tell != NULL);
	if (!s->nr_parts) {
		run_part(job, 0);
	} else if (s->run_parts(s, run_part, job)) {
		result->verdict = LAB_NO_MEMORY;
		snprintf(result->message, sizeof(result->message), "the host has no thread");
		return;
	}
	judge(o, job, result);
	if (result->verdict == LAB_OK) /* of a part they say nothing */
		note_counts(s, result);
	if (s->says)
		snprintf(result->says, sizeof(result->says), "%s", s->says(s));
	if (o->tell) {
		events = ledger_events(s->ledger, &n);
		o->tell(o->arg, events, n);
	}
}

int lab_do(const struct lab_order *o, struct lab_result *result)
{
	struct job job = { 0 };
	struct needs needs;
	int err;

	memset(result, 0, sizeof(*result));
	err = prepare(o, &job, &needs, result->message);
	if (err)
		return err;
	err = set_up(o->type, (unsigned)needs.cpus, needs.frames, o->extension, &job.system);
	if (err && job.n * needs.cpus > SOFT_MAX_CPUS) {
		result->verdict = LAB_NO_MEMORY;
		snprintf(result->message, sizeof(result->message),
			 "no machine has %llu CPUs for each program",
			 (unsigned long long)needs.cpus);
	} else if (err) {
		result->verdict = LAB_NO_MEMORY;
		snprintf(result->message, sizeof(result->message),
			 "no machine of %llu frames can be made: too few, or no memory for it",
			 (unsigned long long)needs.frames);
	} else {
		result->cpus = (unsigned)needs.cpus;
		run_job(o, &job, result);
		tear_down(job.system);
	}
	free_scripts(&job);
	return 0;
}

int lab_run_extended(const struct system_type *type, const struct workload *w, unsigned cpus,
		     const struct system_extension *extension, lab_walk_fn tell, void *arg,
		     struct lab_result *result)
{
	const struct lab_order o = { .type = type,
				     .workload = w,
				     .cpus = cpus,
				     .extension = extension,
				     .tell = tell,
				     .arg = arg };

	return lab_do(&o, result);
}

int lab_walk(const struct system_type *type, const struct workload *w, unsigned cpus,
	     lab_walk_fn tell, void *arg, struct lab_result *result)
{
	return lab_run_extended(type, w, cpus, NULL, tell, arg, result);
}

int lab_run(const struct system_type *type, const struct workload *w, unsigned cpus,
	    struct lab_result *result)
{
	return lab_walk(type, w, cpus, NULL, NULL, result);
}

int lab_attack(const struct system_type *type, const struct system_attack *attack)
{
	struct system *s;
	int err = set_up(type, 2, USUAL_FRAMES, NULL, &s);

	if (err)
		return err;
	err = attack->run(s);
	tear_down(s);
	return err;
}
