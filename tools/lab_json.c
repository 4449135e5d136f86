/* SPDX-License-Identifier: MIT */
/* The laboratory's report for programs: docs/json.md has the keys. */
#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include "tools/json.h"
#include "tools/lab.h"

static json_t *counts(const u64 n[NR_LEDGER_COUNTERS])
{
	json_t *o = json_object();

	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
		json_object_set_new(o, ledger_name(c), json_integer((json_int_t)n[c]));
	return o;
}

static json_t *parts(const struct system_type *t, const struct lab_result *r)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < t->nr_parts; i++)
		json_object_set_new(o, t->parts[i], counts(r->parts[i]));
	return o;
}

/* The distribution: how often it took less than so many ns, and not less than half of that. */
static json_t *below(const struct timing *t)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < TIMING_CLASSES; i++) {
		char key[24] = "more";

		if (!t->classes[i])
			continue;
		if (i < TIMING_CLASSES - 1)
			snprintf(key, sizeof(key), "%llu", 1ULL << i);
		json_object_set_new(o, key, json_integer((json_int_t)t->classes[i]));
	}
	return o;
}

static json_t *timings(const struct system_type *t, const struct lab_result *r)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < t->nr_timings; i++) {
		const struct timing *time = &r->timings[i];

		json_object_set_new(o, t->timings[i],
				    json_pack("{sI sI sI sI sI so}", "count",
					      (json_int_t)time->count, "total_ns",
					      (json_int_t)time->total_ns, "p50_ns",
					      (json_int_t)timing_at(time, 50), "p99_ns",
					      (json_int_t)timing_at(time, 99), "max_ns",
					      (json_int_t)time->max_ns, "below_ns", below(time)));
	}
	return o;
}

static json_t *expected(const struct lab_expected *x)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < x->n; i++) {
		const struct system_expectation *e = &x->counts[i];
		json_t *o = json_object();

		json_object_set_new(o, "counter", json_string(ledger_name(e->counter)));
		json_object_set_new(o, "expected", json_integer((json_int_t)e->value));
		json_object_set_new(o, "counted", json_integer((json_int_t)x->paid[e->counter]));
		json_object_set_new(o, "why",
				    lab_is_met(x, i) ? json_null() : json_string(lab_why(e)));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *result(const struct lab_report *report, unsigned w, unsigned s)
{
	const struct system_type *t = report->options->systems[s];
	const struct lab_result *r = lab_result(report, w, s);
	const struct lab_expected x = lab_expected(report, w, s);
	json_t *o = json_object();
	char plain[SCRIPT_MESSAGE];

	json_object_set_new(o, "verdict", json_string(lab_verdict_name(r->verdict)));
	if (r->message[0])
		json_object_set_new(o, "message",
				    json_string(json_plain(r->message, plain, sizeof(plain))));
	json_object_set_new(o, "counts", counts(r->counts));
	if (t->nr_parts)
		json_object_set_new(o, "parts", parts(t, r));
	if (x.n)
		json_object_set_new(o, "expected", expected(&x));
	if (t->nr_timings)
		json_object_set_new(o, "timings", timings(t, r));
	return o;
}

static json_t *attacks(const struct lab_report *r)
{
	json_t *list = json_array();

	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct system_type *t = r->options->systems[s];

		for (unsigned i = 0; r->attacks[s] && i < t->nr_attacks; i++) {
			json_t *o = json_object();

			json_object_set_new(o, "system", json_string(t->name));
			json_object_set_new(o, "attack", json_string(t->attacks[i].name));
			json_object_set_new(
				o, "refused",
				json_boolean(r->attacks[s][i] == t->attacks[i].refused));
			json_array_append_new(list, o);
		}
	}
	return list;
}

bool lab_print_json(const struct lab_report *r)
{
	json_t *o = json_object(), *all = json_object();
	char plain[PATH_MAX];
	bool done;

	for (unsigned w = 0; w < r->nr_workloads; w++) {
		json_t *systems = json_object();

		for (unsigned s = 0; s < r->options->nr_systems; s++)
			json_object_set_new(systems, r->options->systems[s]->name, result(r, w, s));
		json_object_set_new(all, json_plain(r->workloads[w]->name, plain, sizeof(plain)),
				    systems);
	}
	json_object_set_new(o, "workloads", all);
	json_object_set_new(o, "attacks", attacks(r));
	json_object_set_new(o, "all_well", json_boolean(!r->failed));
	done = json_dumpf(o, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
	json_decref(o);
	return done;
}
