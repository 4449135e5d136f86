/* SPDX-License-Identifier: MIT */
/* The laboratory's report as tables, and as comma-separated values. */
#include <stdio.h>
#include <string.h>

#include "tools/lab.h"

/* Columns are as wide as the longest name of a system. */
static int width_of(const struct lab_report *r)
{
	size_t width = 8;

	for (unsigned i = 0; i < r->options->nr_systems; i++)
		width = max_of(width, strlen(r->options->systems[i]->name));
	return (int)width;
}

static void head(const struct lab_report *r, const char *first)
{
	printf("%-20s", first);
	for (unsigned i = 0; i < r->options->nr_systems; i++)
		printf(" %*s", width_of(r), r->options->systems[i]->name);
	printf("\n");
}

static const char *short_verdict(enum lab_verdict v)
{
	return v == LAB_OK ? "ok" : v == LAB_NOT_OFFERED ? "-" : v == LAB_DIFFERS ? "DIFFERS" : "?";
}

static void matrix(const struct lab_report *r)
{
	head(r, "results");
	for (unsigned w = 0; w < r->nr_workloads; w++) {
		printf("%-20.20s", r->workloads[w]->name);
		for (unsigned s = 0; s < r->options->nr_systems; s++)
			printf(" %*s", width_of(r), short_verdict(lab_result(r, w, s)->verdict));
		printf("\n");
	}
	printf("\n");
}

static void complaints(const struct lab_report *r)
{
	for (unsigned w = 0; w < r->nr_workloads; w++)
		for (unsigned s = 0; s < r->options->nr_systems; s++)
			if (lab_result(r, w, s)->verdict == LAB_DIFFERS)
				printf("%s on %s: %s\n", r->workloads[w]->name,
				       r->options->systems[s]->name, lab_result(r, w, s)->message);
}

static void ledger(const struct lab_report *r, unsigned w)
{
	char title[128];

	printf("%s: %s\n", r->workloads[w]->name,
	       workload_title(r->workloads[w], title, sizeof(title)));
	head(r, "");
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++) {
		if (!lab_is_paid(r, w, c))
			continue;
		printf("  %-18s", ledger_name(c));
		for (unsigned s = 0; s < r->options->nr_systems; s++) {
			const struct lab_result *result = lab_result(r, w, s);

			if (result->verdict == LAB_OK)
				printf(" %*llu", width_of(r),
				       (unsigned long long)result->counts[c]);
			else
				printf(" %*s", width_of(r), "-");
		}
		printf("\n");
	}
}

/* Where a system pays something else than the literature has. */
static void expectations(const struct lab_report *r, unsigned w)
{
	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct system_type *t = r->options->systems[s];
		const struct lab_result *result = lab_result(r, w, s);
		unsigned met = 0;

		for (unsigned i = 0; i < t->nr_expected; i++) {
			const struct system_expectation *e = &t->expected[i];

			met += result->counts[e->counter] == e->value;
			if (result->counts[e->counter] != e->value)
				printf("  %s: %s is expected to be %llu; %s\n", t->name,
				       ledger_name(e->counter), (unsigned long long)e->value,
				       e->why ? e->why : "nobody knows why it is not");
		}
		printf("  %s: %u of %u counts are those of the literature\n", t->name, met,
		       t->nr_expected);
	}
}

static void attacks(const struct lab_report *r)
{
	bool any = false;

	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct system_type *t = r->options->systems[s];

		for (unsigned i = 0; r->attacks[s] && i < t->nr_attacks; i++) {
			if (!any)
				printf("attacks\n");
			any = true;
			printf("  %-14s %-52s %s\n", t->name, t->attacks[i].name,
			       r->attacks[s][i] == t->attacks[i].refused ? "refused"
									 : "NOT REFUSED");
		}
	}
	if (any)
		printf("\n");
}

bool lab_print_table(const struct lab_report *r)
{
	matrix(r);
	complaints(r);
	attacks(r);
	for (unsigned w = 0; w < r->nr_workloads; w++) {
		if (workload_is_conformance(r->workloads[w]) && r->nr_workloads > 1)
			continue;
		ledger(r, w);
		if (!strcmp(r->workloads[w]->name, "minor-fault"))
			expectations(r, w);
		printf("\n");
	}
	return !ferror(stdout);
}

bool lab_print_csv(const struct lab_report *r)
{
	printf("workload,system,verdict");
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
		printf(",%s", ledger_name(c));
	printf("\n");
	for (unsigned w = 0; w < r->nr_workloads; w++)
		for (unsigned s = 0; s < r->options->nr_systems; s++) {
			const struct lab_result *result = lab_result(r, w, s);

			printf("%s,%s,%s", r->workloads[w]->name, r->options->systems[s]->name,
			       lab_verdict_name(result->verdict));
			for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
				printf(",%llu", (unsigned long long)result->counts[c]);
			printf("\n");
		}
	return !ferror(stdout);
}
