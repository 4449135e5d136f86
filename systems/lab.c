/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "systems/lab.h"

/* Enough that nothing is evicted that need not be. */
#define USUAL_FRAMES 2048

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

const char *workload_title(const struct workload *w, char *buf, size_t size)
{
	const char *end = strchr(w->text, '\n');
	int n = end ? (int)(end - w->text) : (int)strlen(w->text);

	snprintf(buf, size, "%s", "");
	if (n > 2 && w->text[0] == '#')
		snprintf(buf, size, "%.*s", n - 2, w->text + 2);
	return buf;
}

/* What a line "# word N" of the workload says; `otherwise` if there is none. */
static u64 wants(const struct workload *w, const char *word, u64 otherwise)
{
	char mark[32];
	int n = snprintf(mark, sizeof(mark), "\n# %s ", word);
	const char *at = strstr(w->text, mark);

	/* Also of the first line. */
	if (!strncmp(w->text, mark + 1, (size_t)n - 1))
		at = w->text - 1;
	return at ? strtoull(at + n, NULL, 10) : otherwise;
}

static unsigned cpus_of(const struct workload *w, unsigned asked)
{
	u64 n = max_of(wants(w, "cpus", 1), (u64)asked);

	return (unsigned)min_of(max_of(n, (u64)1), (u64)SOFT_MAX_CPUS);
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

int lab_run_extended(const struct system_type *type, const struct workload *w, unsigned cpus,
		     const struct system_extension *extension, lab_walk_fn tell, void *arg,
		     struct lab_result *result)
{
	const struct ledger_event *events;
	struct script *script;
	struct system *s;
	unsigned n;
	int err;

	memset(result, 0, sizeof(*result));
	err = script_parse(w->text, strlen(w->text), &script, result->message);
	if (err)
		return err;
	err = set_up(type, cpus_of(w, cpus), wants(w, "frames", USUAL_FRAMES), extension, &s);
	if (err) {
		script_free(script);
		result->verdict = LAB_NO_MEMORY;
		return 0;
	}
	ledger_record(s->ledger, tell != NULL);
	result->verdict = verdict_of(script_run_on(script, s->program, result->message));
	memcpy(result->counts, s->total, sizeof(result->counts));
	if (s->says)
		snprintf(result->says, sizeof(result->says), "%s", s->says(s));
	if (tell) {
		events = ledger_events(s->ledger, &n);
		tell(arg, events, n);
	}
	tear_down(s);
	script_free(script);
	return 0;
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
