/* SPDX-License-Identifier: MIT */
/* The figures as a table, and as JSON. */
#include <stdio.h>

#include "bench/policies/lab.h"

enum lab_verdict lab_judge(const struct lab *lab, unsigned pattern, unsigned row)
{
	const struct lab_row *r = &lab->patterns[pattern].rows[row];

	if (lab->patterns[pattern].hot &&
	    10 * r->by[lab->chosen].hot_misses >= lab->patterns[pattern].hot)
		return LAB_FLUSHED;
	if (r->by[lab->chosen].misses <= 2 * r->optimum)
		return LAB_GOOD;
	if (lab->patterns[pattern].looping)
		return LAB_LOOP;
	if (r->blind > 2 * r->optimum && 4 * r->by[lab->chosen].misses <= 5 * r->blind)
		return LAB_BLIND;
	return LAB_MISSED;
}

const char *lab_verdict_text(enum lab_verdict v)
{
	static const char *const texts[] = {
		[LAB_GOOD] = "",
		[LAB_BLIND] = "nobody can know which page is next",
		[LAB_LOOP] = "a loop larger than memory",
		[LAB_FLUSHED] = "THE HOT SET IS FLUSHED",
		[LAB_MISSED] = "WORSE THAN TWICE THE OPTIMUM",
	};

	return texts[v];
}

void lab_table(const struct lab *lab)
{
	printf("Major faults by policy, %u pages; in brackets: times the optimum (Belady)\n\n"
	       "%-8s %6s %8s %8s",
	       lab->pages, "pattern", "memory", "optimum", "blind");
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
		printf("  %15s", lab->policies[k]);
	printf("\n");
	for (unsigned i = 0; i < NR_PATTERNS; i++) {
		for (unsigned n = 0; n < NR_LAB_SIZES; n++) {
			const struct lab_row *r = &lab->patterns[i].rows[n];

			printf("%-8s %5u%% %8lu ", n ? "" : lab->patterns[i].name, r->percent,
			       (unsigned long)r->optimum);
			if (r->blind)
				printf("%8lu", (unsigned long)r->blind);
			else
				printf("%8s", "-");
			for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
				printf("  %8lu (%4.2f)", (unsigned long)r->by[k].misses,
				       lab_ratio(r, k));
			if (lab_judge(lab, i, n) != LAB_GOOD)
				printf("  %s", lab_verdict_text(lab_judge(lab, i, n)));
			printf("\n");
		}
	}
	for (unsigned i = 0; i < NR_PATTERNS; i++) {
		if (!lab->patterns[i].hot)
			continue;
		for (unsigned n = 0; n < NR_LAB_SIZES; n++) {
			const struct lab_row *r = &lab->patterns[i].rows[n];

			printf("%-8s %5u%% %17s", n ? "" : "on hot", r->percent, "");
			for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
				printf("  %8lu       ", (unsigned long)r->by[k].hot_misses);
			printf("\n");
		}
	}
	printf("\nmemory   frames, of the pages touched\n"
	       "blind    the fewest that can be expected of who knows what was and nothing of "
	       "what\n"
	       "         comes; only where that is known\n"
	       "on hot   of scan: misses on the %u hot pages from the beginning of the scan on\n"
	       "loop     who goes by recency misses each time: the page that is next is the "
	       "oldest\n"
	       "default  %s\n",
	       lab->pages / 8, lab->policies[lab->chosen]);
}

static void json_row(const struct lab *lab, unsigned i, unsigned n)
{
	static const char *const verdicts[] = { "good", "blind", "loop", "flushed", "missed" };
	const struct lab_row *r = &lab->patterns[i].rows[n];

	printf("%s\n  {\"pattern\": \"%s\", \"references\": %lu, \"memory_percent\": %u, "
	       "\"frames\": %u, \"optimum\": %lu, \"blind\": %lu, \"verdict\": \"%s\", "
	       "\"misses\": {",
	       i || n ? "," : "", lab->patterns[i].name, (unsigned long)lab->patterns[i].refs,
	       r->percent, r->frames, (unsigned long)r->optimum, (unsigned long)r->blind,
	       verdicts[lab_judge(lab, i, n)]);
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
		printf("%s\"%s\": %lu", k ? ", " : "", lab->policies[k],
		       (unsigned long)r->by[k].misses);
	printf("}, \"hot_misses\": {");
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
		printf("%s\"%s\": %lu", k ? ", " : "", lab->policies[k],
		       (unsigned long)r->by[k].hot_misses);
	printf("}}");
}

void lab_json(const struct lab *lab)
{
	printf("{\"pages\": %u, \"default\": \"%s\", \"rows\": [", lab->pages,
	       lab->policies[lab->chosen]);
	for (unsigned i = 0; i < NR_PATTERNS; i++)
		for (unsigned n = 0; n < NR_LAB_SIZES; n++)
			json_row(lab, i, n);
	printf("\n]}\n");
}
