/* SPDX-License-Identifier: MIT */
/* The laboratory's report as one page for a browser, with nothing loaded from elsewhere. */
#include <stdio.h>
#include <string.h>

#include "tools/lab.h"

static const char style[] =
	"body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:130em;padding:0 1em;"
	"color:#222;background:#fff}"
	"h1{font-size:1.6em}h2{font-size:1.15em;margin:2em 0 .2em}h3{font-size:1em;margin:1em 0 "
	".2em}p{margin:.2em 0 .8em;color:#555}"
	".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
	"th,td{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
	"th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff}"
	"th.why,td.why{text-align:left;white-space:normal;min-width:20em}"
	"summary{cursor:pointer}thead th{border-bottom:2px solid #888}"
	".ok{color:#17692b}.bad{color:#fff;background:#b3261e}.none{color:#777}"
	".bar{display:inline-block;height:.6em;background:#7a9cc6;margin-left:.5em}"
	"@media(prefers-color-scheme:dark){body{background:#181a1b;color:#ddd}p{color:#aaa}"
	"th,td{border-color:#3a3d3f}th:first-child,td:first-child{background:#181a1b}.ok{color:#"
	"79c98b}.bar{background:#4f6f96}}";

static void escaped(const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '<':
			fputs("&lt;", stdout);
			break;
		case '&':
			fputs("&amp;", stdout);
			break;
		case '"':
			fputs("&quot;", stdout);
			break;
		default:
			putchar(*s);
		}
}

static void table_head(const struct lab_report *r, const char *first)
{
	printf("<div class=wide><table><thead><tr><th>%s", first);
	for (unsigned i = 0; i < r->options->nr_systems; i++) {
		printf("<th title=\"");
		escaped(r->options->systems[i]->summary);
		printf("\">%s", r->options->systems[i]->name);
	}
	printf("</thead><tbody>\n");
}

static void table_end(void)
{
	printf("</tbody></table></div>\n");
}

static void matrix(const struct lab_report *r)
{
	static const char *const classes[] = { "ok", "bad", "none", "bad" };

	printf("<h2>Results</h2><p>Every system does the same programs; what comes of them must be "
	       "the same.</p>\n");
	table_head(r, "program");
	for (unsigned w = 0; w < r->nr_workloads; w++) {
		char title[128];

		printf("<tr><td title=\"");
		escaped(workload_title(r->workloads[w], title, sizeof(title)));
		printf("\">");
		escaped(r->workloads[w]->name);
		for (unsigned s = 0; s < r->options->nr_systems; s++) {
			const struct lab_result *result = lab_result(r, w, s);

			printf("<td class=%s title=\"", classes[result->verdict]);
			escaped(result->message);
			printf("\">%s", lab_verdict_name(result->verdict));
		}
		printf("\n");
	}
	table_end();
}

static u64 most_of(const struct lab_report *r, unsigned w, enum ledger_counter c)
{
	u64 most = 0;

	for (unsigned s = 0; s < r->options->nr_systems; s++)
		most = max_of(most, lab_result(r, w, s)->counts[c]);
	return most;
}

static void ledger(const struct lab_report *r, unsigned w)
{
	char title[128];

	printf("<h2>");
	escaped(r->workloads[w]->name);
	printf("</h2><p>");
	escaped(workload_title(r->workloads[w], title, sizeof(title)));
	printf("</p>\n");
	table_head(r, "paid");
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++) {
		u64 most = most_of(r, w, c);

		if (!most)
			continue;
		printf("<tr><td>%s", ledger_name(c));
		for (unsigned s = 0; s < r->options->nr_systems; s++) {
			const struct lab_result *result = lab_result(r, w, s);
			u64 n = result->counts[c];

			if (result->verdict != LAB_OK)
				printf("<td class=none>-");
			else if (!n)
				printf("<td class=none>0");
			else
				printf("<td>%llu<span class=bar style=\"width:%.2fem\"></span>",
				       (unsigned long long)n, 3.0 * (double)n / (double)most);
		}
		printf("\n");
	}
	table_end();
}

/* What each of a system's programs pays. */
static void parts(const struct lab_report *r, unsigned w, unsigned s)
{
	const struct system_type *t = r->options->systems[s];
	const struct lab_result *result = lab_result(r, w, s);

	printf("<details><summary>%s, one by one</summary><div class=wide><table><thead><tr><th>"
	       "paid",
	       t->name);
	for (unsigned i = 0; i < t->nr_parts; i++)
		printf("<th>%s", t->parts[i]);
	printf("</thead><tbody>\n");
	for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++) {
		u64 sum = 0;

		for (unsigned i = 0; i < t->nr_parts; i++)
			sum += result->parts[i][c];
		if (!sum)
			continue;
		printf("<tr><td>%s", ledger_name(c));
		for (unsigned i = 0; i < t->nr_parts; i++)
			printf("<td>%llu", (unsigned long long)result->parts[i][c]);
		printf("\n");
	}
	printf("</tbody></table></div></details>\n");
}

static bool is_refused(const struct lab_report *r, unsigned system, unsigned attack)
{
	return r->attacks[system][attack] == r->options->systems[system]->attacks[attack].refused;
}

static void attack_rows(const struct lab_report *r, unsigned s)
{
	const struct system_type *t = r->options->systems[s];

	for (unsigned i = 0; r->attacks[s] && i < t->nr_attacks; i++) {
		bool refused = is_refused(r, s, i);

		printf("<tr><td>");
		escaped(t->attacks[i].name);
		printf("<td>%s<td class=%s>%s\n", t->name, refused ? "ok" : "bad",
		       refused ? "refused" : "not refused");
	}
}

/* Folded, unless there is something to see. */
static void attacks(const struct lab_report *r)
{
	unsigned n = 0, refused = 0;

	for (unsigned s = 0; s < r->options->nr_systems; s++)
		for (unsigned i = 0; r->attacks[s] && i < r->options->systems[s]->nr_attacks; i++) {
			n++;
			refused += is_refused(r, s, i);
		}
	if (!n)
		return;
	printf("<h2>Attacks</h2><details%s><summary>%u tried, %u refused: each must be.</summary>"
	       "<div class=wide><table><thead><tr><th>attack<th>system<th></thead><tbody>\n",
	       refused < n ? " open" : "", n, refused);
	for (unsigned s = 0; s < r->options->nr_systems; s++)
		attack_rows(r, s);
	printf("</tbody></table></div></details>\n");
}

static void expected_rows(const struct lab_report *r, unsigned w, bool met)
{
	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct lab_expected x = lab_expected(r, w, s);

		for (unsigned i = 0; i < x.n; i++) {
			const struct system_expectation *e = &x.counts[i];

			if (lab_is_met(&x, i) != met)
				continue;
			printf("<tr><td>%s<td>%s<td>%llu<td>%llu", r->options->systems[s]->name,
			       ledger_name(e->counter), (unsigned long long)e->value,
			       (unsigned long long)x.paid[e->counter]);
			if (!met) {
				printf("<td class=why>");
				escaped(lab_why(e));
			}
			printf("\n");
		}
	}
}

static void expected_table(const struct lab_report *r, unsigned w, bool met)
{
	printf("<div class=wide><table><thead><tr><th>system<th>counter<th>expected<th>counted%s"
	       "</thead><tbody>\n",
	       met ? "" : "<th class=why>why");
	expected_rows(r, w, met);
	table_end();
}

/* What differs is shown; the rest is folded. */
static void expectations(const struct lab_report *r, unsigned w)
{
	unsigned n = 0, met = 0;

	for (unsigned s = 0; s < r->options->nr_systems; s++) {
		const struct lab_expected x = lab_expected(r, w, s);

		n += x.n;
		met += x.met;
	}
	if (!n)
		return;
	printf("<h3>As expected?</h3><p>As published, or by going through the published steps on "
	       "paper.</p>\n");
	if (met < n)
		expected_table(r, w, false);
	printf("<details><summary>%u of %u counts are as expected.</summary>\n", met, n);
	expected_table(r, w, true);
	printf("</details>\n");
}

static void ledger_and_parts(const struct lab_report *r, unsigned w)
{
	ledger(r, w);
	for (unsigned s = 0; s < r->options->nr_systems; s++)
		if (r->options->systems[s]->nr_parts && lab_result(r, w, s)->verdict == LAB_OK)
			parts(r, w, s);
	expectations(r, w);
	for (unsigned s = 0; s < r->options->nr_systems; s++)
		if (lab_shows_times(r, w, s))
			lab_html_times(r, w, s);
}

bool lab_print_html(const struct lab_report *r)
{
	printf("<!doctype html><html lang=en><meta charset=utf-8>"
	       "<meta name=viewport content=\"width=device-width\">"
	       "<title>vmfault lab</title><style>%s</style>\n"
	       "<h1>Who fields the fault, and what it costs</h1>\n"
	       "<p>Counted on a simulated machine, each where it happens; on one CPU the same in "
	       "every run. Bars compare within a row.</p>\n",
	       style);
	matrix(r);
	attacks(r);
	for (unsigned w = 0; w < r->nr_workloads; w++)
		if (!workload_is_conformance(r->workloads[w]) || r->nr_workloads == 1)
			ledger_and_parts(r, w);
	printf("</html>\n");
	return !ferror(stdout);
}
