/* SPDX-License-Identifier: MIT */
/* The laboratory's report: how long the host took for what a system times. */
#include <stdio.h>

#include "tools/lab.h"
#include "tools/table.h"

static const unsigned shown[] = { 50, 90, 99, 100 }; /* per cent that took at most that long */

void lab_table_times(const struct lab_report *r, unsigned workload, unsigned system)
{
	const struct system_type *t = r->options->systems[system];
	const struct lab_result *result = lab_result(r, workload, system);

	printf("  %s: how long it took on this host, so many of them at most\n", t->name);
	printf("  %-24s %8s %9s %9s %9s %9s %9s\n", "", "count", "mean", "50 %", "90 %", "99 %",
	       "all");
	for (unsigned i = 0; i < t->nr_timings; i++) {
		const struct timing *time = &result->timings[i];
		char text[TIME_TEXT];

		if (!time->count)
			continue;
		printf("  %-24s %8llu %9s", t->timings[i], (unsigned long long)time->count,
		       time_text(text, (double)time->total_ns / (double)time->count));
		for (unsigned k = 0; k < ARRAY_SIZE(shown); k++)
			printf(" %9s", time_text(text, (double)timing_at(time, shown[k])));
		printf("\n");
	}
}

void lab_html_times(const struct lab_report *r, unsigned workload, unsigned system)
{
	const struct system_type *t = r->options->systems[system];
	const struct lab_result *result = lab_result(r, workload, system);

	printf("<details><summary>%s: how long it took on this host</summary><div class=wide>"
	       "<table><thead><tr><th>what<th>count<th>mean<th>50 %%, at most<th>90 %%<th>99 %%"
	       "<th>all</thead><tbody>\n",
	       t->name);
	for (unsigned i = 0; i < t->nr_timings; i++) {
		const struct timing *time = &result->timings[i];
		char text[TIME_TEXT];

		if (!time->count)
			continue;
		printf("<tr><td>%s<td>%llu<td>%s", t->timings[i], (unsigned long long)time->count,
		       time_text(text, (double)time->total_ns / (double)time->count));
		for (unsigned k = 0; k < ARRAY_SIZE(shown); k++)
			printf("<td>%s", time_text(text, (double)timing_at(time, shown[k])));
		printf("\n");
	}
	printf("</tbody></table></div></details>\n");
}
