/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "tools/table.h"

enum { TEXT = TIME_TEXT };

/* ---- numbers as people write them ---- */

/* 1234567 as 1,234,567. */
static const char *count_text(char text[TEXT], u64 n)
{
	char digits[TEXT];
	int length = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	char *to = text;

	for (int i = 0; i < length; i++) {
		if (i && (length - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = '\0';
	return text;
}

static const char *bytes_text(char text[TEXT], u64 bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	double value = bytes / 1024.0;
	unsigned i = 0;

	if (bytes < 1024) {
		snprintf(text, TEXT, "%u B", (unsigned)bytes);
		return text;
	}
	for (; value >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
		value /= 1024;
	snprintf(text, TEXT, "%.1f %s", value, units[i]);
	return text;
}

const char *time_text(char text[TIME_TEXT], double ns)
{
	if (ns < 1e3)
		snprintf(text, TEXT, "%.0f ns", ns);
	else if (ns < 1e6)
		snprintf(text, TEXT, "%.1f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(text, TEXT, "%.1f ms", ns / 1e6);
	else
		snprintf(text, TEXT, "%.2f s", ns / 1e9);
	return text;
}

/* ---- rows ---- */

struct share {
	const char *who;
	u64 pages, ns;
};

static void row(const char *name)
{
	fprintf(stderr, "  %-15s", name);
}

static void cell(const char *name, const char *value)
{
	fprintf(stderr, " %s%s%s", name, *name ? " " : "", value);
}

static void end(void)
{
	fprintf(stderr, "\n");
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void head(const struct figures *f)
{
	const char *name = last_part(f->options->program[0]);

	if (f->outcome.signal)
		fprintf(stderr, "vmfault: %s was ended by signal %d (%s) after %.2f s\n", name,
			f->outcome.signal, strsignal(f->outcome.signal), f->outcome.wall_seconds);
	else
		fprintf(stderr, "vmfault: %s ended with status %d after %.2f s\n", name,
			f->outcome.status, f->outcome.wall_seconds);
}

static void memory_rows(const struct figures *f)
{
	char a[TEXT], b[TEXT], c[TEXT];

	row("memory limit");
	cell("",
	     f->options->watch ? "none (--memory sets one)" : bytes_text(a, f->options->memory));
	end();
	if (f->options->policy_asked) {
		row("policy");
		cell("", f->options->extension ? f->options->extension : f->options->policy);
		end();
	}
	row("resident");
	cell("peak", bytes_text(a, f->peak_resident));
	cell("  at the end", bytes_text(b, f->end_resident));
	cell("  and the agent's own", bytes_text(c, f->agent));
	end();
	if (f->processes > 1 || f->untold) {
		row("processes");
		cell("", count_text(a, f->processes + f->untold));
		cell("  reached the limit", count_text(b, f->paged));
		end();
	}
}

static void fault_rows(const struct figures *f)
{
	char a[TEXT], b[TEXT], c[TEXT], d[TEXT], e[TEXT];

	row("faults");
	cell("minor", count_text(a, f->events.minor));
	cell("  major", count_text(b, f->events.major));
	cell("  zero", count_text(c, f->events.zero));
	cell("  second chance", count_text(d, f->events.second_chance));
	cell("  prefetched", count_text(e, f->events.prefetched));
	end();
	row("fault latency");
	cell("p50", time_text(a, latency_at(f, 0.5)));
	cell("  p99", time_text(b, latency_at(f, 0.99)));
	cell("  p99.9", time_text(c, latency_at(f, 0.999)));
	cell("  max", time_text(d, f->latency_max));
	end();
}

/* Who wrote evicted pages out: its share of them, and the time it took. */
static void writer_row(const struct figures *f)
{
	const struct share shares[] = {
		{ "on spare CPUs", f->written[ROOM_SPARE].pages, f->written[ROOM_SPARE].ns },
		{ "after faults",
		  f->written[ROOM_AFTER_FAULT].pages + f->written[ROOM_WAITING].pages,
		  f->written[ROOM_AFTER_FAULT].ns + f->written[ROOM_WAITING].ns },
		{ "direct reclaim", f->events.direct_freed, f->events.direct_reclaim_ns },
	};
	const char *before = "";
	char text[TEXT];
	u64 all = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(shares); i++)
		all += shares[i].pages;
	row("written out");
	for (unsigned i = 0; i < ARRAY_SIZE(shares); i++) {
		const struct share *s = &shares[i];

		fprintf(stderr, "%s %s %.0f %% in %s", before, s->who,
			all ? 100.0 * s->pages / all : 0.0, time_text(text, s->ns));
		before = " ";
	}
	end();
}

static void huge_row(const struct figures *f)
{
	char a[TEXT], b[TEXT];

	if (!f->events.thp_collapse)
		return;
	row("huge pages");
	cell("made", count_text(a, f->events.thp_collapse));
	cell("  split again", count_text(b, f->events.thp_split));
	end();
}

static void eviction_rows(const struct figures *f)
{
	char a[TEXT], b[TEXT], c[TEXT], share[TEXT] = "";

	row("evicted");
	cell("clean", count_text(a, f->events.evicted_clean));
	cell("  dirty", count_text(b, f->events.evicted_dirty));
	cell("  same-filled", count_text(c, f->events.same_filled));
	end();
	row("stored");
	if (f->raw)
		snprintf(share, sizeof(share), " (%.0f %%, %s)", 100.0 * f->stored / f->raw,
			 f->options->compress);
	fprintf(stderr, " at most %s as %s%s", bytes_text(a, f->raw), bytes_text(b, f->stored),
		share);
	end();
	writer_row(f);
	huge_row(f);
}

static void unmanaged_row(const struct figures *f)
{
	const char *between = "";
	char text[TEXT];

	for (unsigned i = 0; i < NR_UNMANAGED; i++) {
		if (!f->unmanaged[i])
			continue;
		if (!*between)
			row("not managed");
		fprintf(stderr, "%s %s %s", between, unmanaged_name(i),
			bytes_text(text, f->unmanaged[i]));
		between = " ";
	}
	if (*between)
		end();
}

static void trouble_rows(const struct figures *f)
{
	char text[TEXT];

	if (f->events.store_errors)
		fprintf(stderr, "  %s pages could not be brought back: the program got SIGBUS\n",
			count_text(text, f->events.store_errors));
	if (f->events.store_full)
		fprintf(stderr, "  the store was full: %s times a page stayed resident\n",
			count_text(text, f->events.store_full));
	for (unsigned i = 0; i < f->nr_notes; i++) {
		const struct note *n = &f->notes[i];

		fprintf(stderr, "  %s (%d)%s: %s\n", n->program, n->pid,
			n->stopped ? " went on without paging" : "", n->text);
	}
	if (f->untold)
		fprintf(stderr, "  %u more processes found no room in the report\n", f->untold);
}

void table_print(const struct figures *f)
{
	head(f);
	if (f->processes + f->untold == 0) {
		fprintf(stderr,
			"  the agent was never loaded, and nothing managed: the dynamic loader "
			"refused it (it says so\n  above), or the program ended before\n");
		return;
	}
	memory_rows(f);
	if (f->paged) {
		fault_rows(f);
		eviction_rows(f);
	} else if (f->options->watch) {
		fprintf(stderr, "  no limit was set; nothing was paged\n");
	} else {
		fprintf(stderr, "  the program stayed below its limit; nothing was paged\n");
	}
	unmanaged_row(f);
	trouble_rows(f);
}
