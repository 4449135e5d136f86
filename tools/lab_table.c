/* SPDX-License-Identifier: MIT */
/* The laboratory's report as tables, and as comma-separated values. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/lab.h"

/* Columns of systems [from, to), as many as fit beside one another. */
struct columns {
	unsigned from, to;
};

#define FIRST_COLUMN 20
#define LEAST_COLUMN 8 /* room for a count */

static int width_of(const struct lab_report *r, unsigned system)
{
	return max_of((int)strlen(r->options->systems[system]->name), LEAST_COLUMN);
}

/* What is read by others has lines of any length. */
static int line_width(void)
{
	struct winsize size;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return INT_MAX;
	return size.ws_col;
}

/* The next columns, at least one; false: there are none.  {0, 0} before the first. */
static bool next_columns(const struct lab_report *r, struct columns *c)
{
	int left = line_width() - FIRST_COLUMN;

	c->from = c->to;
	while (c->to < r->options->nr_systems && (c->to == c->from || left > width_of(r, c->to))) {
		left -= 1 + width_of(r, c->to);
		c->to++;
	}
	return c->from < c->to;
}

static void head(const struct lab_report *r, const struct columns *c, const char *first)
{
	printf("%-*s", FIRST_COLUMN, first);
	for (unsigned i = c->from; i < c->to; i++)
		printf(" %*s", width_of(r, i), r->options->systems[i]->name);
	printf("\n");
}

static const char *short_verdict(enum lab_verdict v)
{
	return v == LAB_OK ? "ok" : v == LAB_NOT_OFFERED ? "-" : v == LAB_DIFFERS ? "DIFFERS" : "?";
}

static void matrix(const struct lab_report *r)
{
	struct columns c = { 0, 0 };

	while (next_columns(r, &c)) {
		head(r, &c, "results");
		for (unsigned w = 0; w < r->nr_workloads; w++) {
			printf("%-*.*s", FIRST_COLUMN, FIRST_COLUMN, r->workloads[w]->name);
			for (unsigned s = c.from; s < c.to; s++)
				printf(" %*s", width_of(r, s),
				       short_verdict(lab_result(r, w, s)->verdict));
			printf("\n");
		}
		printf("\n");
	}
}

static void complaints(const struct lab_report *r)
{
	for (unsigned w = 0; w < r->nr_workloads; w++)
		for (unsigned s = 0; s < r->options->nr_systems; s++)
			if (lab_result(r, w, s)->verdict == LAB_DIFFERS ||
			    lab_result(r, w, s)->verdict == LAB_NO_MEMORY)
				printf("%s on %s: %s\n", r->workloads[w]->name,
				       r->options->systems[s]->name, lab_result(r, w, s)->message);
}

static void counter_row(const struct lab_report *r, const struct columns *c, unsigned w,
			enum ledger_counter counter)
{
	printf("  %-*s", FIRST_COLUMN - 2, ledger_name(counter));
	for (unsigned s = c->from; s < c->to; s++) {
		const struct lab_result *result = lab_result(r, w, s);

		if (result->verdict == LAB_OK)
			printf(" %*llu", width_of(r, s),
			       (unsigned long long)result->counts[counter]);
		else
			printf(" %*s", width_of(r, s), "-");
	}
	printf("\n");
}

static void ledger(const struct lab_report *r, unsigned w)
{
	struct columns c = { 0, 0 };
	char title[128];

	printf("%s: %s\n", r->workloads[w]->name,
	       workload_title(r->workloads[w], title, sizeof(title)));
	while (next_columns(r, &c)) {
		head(r, &c, "");
		for (unsigned counter = 0; counter < NR_LEDGER_COUNTERS; counter++)
			if (lab_is_paid(r, w, counter))
				counter_row(r, &c, w, counter);
	}
}

static bool part_pays(const struct system_type *t, const struct lab_result *result, unsigned c)
{
	bool pays = false;

	for (unsigned i = 0; i < t->nr_parts; i++)
		pays |= result->parts[i][c];
	return pays;
}

/* What each of a system's programs pays. */
static void parts(const struct lab_report *r, unsigned w, unsigned s)
{
	const struct system_type *t = r->options->systems[s];
	const struct lab_result *result = lab_result(r, w, s);

	printf("  %s, one by one%*s", t->name, max_of(FIRST_COLUMN - 14 - (int)strlen(t->name), 0),
	       "");
	for (unsigned i = 0; i < t->nr_parts; i++)
		printf(" %*s", LEAST_COLUMN, t->parts[i]);
	printf("\n");
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++) {
		if (!part_pays(t, result, c))
			continue;
		printf("  %-*s", FIRST_COLUMN - 2, ledger_name(c));
		for (unsigned i = 0; i < t->nr_parts; i++)
			printf(" %*llu", LEAST_COLUMN, (unsigned long long)result->parts[i][c]);
		printf("\n");
	}
}

static void all_parts(const struct lab_report *r, unsigned w)
{
	for (unsigned s = 0; s < r->options->nr_systems; s++)
		if (lab_shows_parts(r, s) && lab_result(r, w, s)->verdict == LAB_OK)
			parts(r, w, s);
}

/* Where a system pays something else than its model on paper. */
static void expectations(const struct lab_report *r, unsigned w)
{
	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct lab_expected x = lab_expected(r, w, s);
		const char *name = r->options->systems[s]->name;

		for (unsigned i = 0; i < x.n; i++)
			if (!lab_is_met(&x, i))
				printf("  %s: %s is expected to be %llu; %s\n", name,
				       ledger_name(x.counts[i].counter),
				       (unsigned long long)x.counts[i].value,
				       lab_why(&x.counts[i]));
		if (x.n)
			printf("  %s: %u of %u counts are as expected\n", name, x.met, x.n);
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
		all_parts(r, w);
		expectations(r, w);
		for (unsigned s = 0; s < r->options->nr_systems; s++)
			if (lab_shows_times(r, w, s))
				lab_table_times(r, w, s);
		printf("\n");
	}
	return !ferror(stdout);
}

static void csv_counts(const u64 counts[NR_LEDGER_COUNTERS])
{
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
		printf(",%llu", (unsigned long long)counts[c]);
	printf("\n");
}

/* A name of a file, which may have anything in it. */
static void csv_field(const char *s)
{
	if (!s[strcspn(s, ",\"\r\n")]) {
		printf("%s", s);
		return;
	}
	putchar('"');
	for (; *s; s++)
		printf(*s == '"' ? "\"\"" : "%c", *s);
	putchar('"');
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

			csv_field(r->workloads[w]->name);
			printf(",%s,%s", r->options->systems[s]->name,
			       lab_verdict_name(result->verdict));
			csv_counts(result->counts);
			for (unsigned i = 0; i < r->options->systems[s]->nr_parts; i++) {
				csv_field(r->workloads[w]->name);
				printf(",%s/%s,%s", r->options->systems[s]->name,
				       r->options->systems[s]->parts[i],
				       lab_verdict_name(result->verdict));
				csv_counts(result->parts[i]);
			}
		}
	return !ferror(stdout);
}
