/* SPDX-License-Identifier: MIT */
/* One fault's journey, from the ledger's events: as text, and as a sequence diagram. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/lab.h"

#define MOST_ACTORS 16

static const char *way_name(enum ledger_way way)
{
	static const char *const names[] = {
		[BY_EXCEPTION] = "exception",	  [BY_RETURN] = "return",
		[BY_SYSTEM_CALL] = "system call", [BY_HYPERCALL] = "hypercall",
		[BY_VM_EXIT] = "VM exit",	  [BY_UPCALL] = "upcall",
		[BY_MESSAGE] = "message",	  [BY_SWITCH] = "switch",
	};

	return names[way];
}

/* What the crossing of one boundary or two is called. */
static const char *boundary(const struct ledger_event *e)
{
	bool ring = e->from->ring != e->to->ring, domain = e->from->domain != e->to->domain;

	if (ring && domain)
		return " [privilege and address space change]";
	return ring ? " [privilege changes]" : domain ? " [the address space changes]" : "";
}

/* Who it is that does the step, if there are several. */
static void print_cpu(unsigned cpu, unsigned nr_cpus)
{
	if (nr_cpus == 1)
		return;
	if (cpu < nr_cpus)
		printf("CPU %u: ", cpu);
	else
		printf("beside them: ");
}

void lab_walk_text(const struct ledger_event *events, unsigned n, unsigned nr_cpus)
{
	if (!n)
		printf("nothing happens that a step is told of: is there a fault after "
		       "`measure`?\n");
	for (unsigned i = 0; i < n; i++) {
		const struct ledger_event *e = &events[i];

		printf("%3u  ", i + 1);
		print_cpu(e->cpu, nr_cpus);
		if (e->to)
			printf("%s -> %s, by %s%s\n       %s\n", e->from->name, e->to->name,
			       way_name(e->way), boundary(e), e->text);
		else if (e->va)
			printf("%s, at 0x%llx:\n       %s\n", e->from->name,
			       (unsigned long long)e->va, e->text);
		else
			printf("%s:\n       %s\n", e->from->name, e->text);
	}
	if (n == LEDGER_EVENTS)
		printf("no more than %u steps are kept\n", n);
}

/* ---- the diagram ---- */

#define LEFT	  90
#define COLUMN	  260
#define TOP	  84
#define ROW	  34
#define MOST_ROWS 400

struct cast {
	const struct ledger_actor *actors[MOST_ACTORS];
	unsigned n;
	unsigned nr_cpus;
};

static unsigned place_of(struct cast *c, const struct ledger_actor *a)
{
	for (unsigned i = 0; i < c->n; i++)
		if (!strcmp(c->actors[i]->name, a->name)) /* it may be in two spaces */
			return i;
	if (c->n == MOST_ACTORS)
		return MOST_ACTORS - 1;
	c->actors[c->n] = a;
	return c->n++;
}

static unsigned x_of(unsigned place)
{
	return LEFT + place * COLUMN;
}

static void escaped(FILE *f, const char *s)
{
	for (; *s; s++)
		if (*s == '<')
			fputs("&lt;", f);
		else if (*s == '&')
			fputs("&amp;", f);
		else
			fputc(*s, f);
}

static void draw_head(FILE *f, const struct cast *c, const char *title, unsigned rows)
{
	unsigned width = x_of(c->n - 1) + 460, height = TOP + rows * ROW + 30;

	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" "
		"font-family=\"system-ui,sans-serif\" font-size=\"13\">\n"
		"<style>text{fill:#222}.l{stroke:#999;stroke-dasharray:4 4}.a{stroke:#2a5d9f;"
		"stroke-width:1.6;fill:none}.r{stroke-dasharray:6 3}.n{fill:#444}"
		".h{font-weight:600}</style>\n"
		"<defs><marker id=\"m\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" "
		"markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" "
		"fill=\"#2a5d9f\"/></marker></defs>\n"
		"<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n"
		"<text class=\"h\" x=\"16\" y=\"26\" font-size=\"16\">",
		width, height, width, width, height);
	escaped(f, title);
	fprintf(f, "</text>\n");
	for (unsigned i = 0; i < c->n; i++) {
		fprintf(f, "<text class=\"h\" x=\"%u\" y=\"58\" text-anchor=\"middle\">", x_of(i));
		escaped(f, c->actors[i]->name);
		fprintf(f, "</text><line class=\"l\" x1=\"%u\" y1=\"68\" x2=\"%u\" y2=\"%u\"/>\n",
			x_of(i), x_of(i), height - 16);
	}
}

static void draw_event(FILE *f, struct cast *c, const struct ledger_event *e, unsigned row)
{
	unsigned from = x_of(place_of(c, e->from)), y = TOP + row * ROW + 18, to;

	if (!e->to) {
		fprintf(f,
			"<circle cx=\"%u\" cy=\"%u\" r=\"3.5\"/><text class=\"n\" x=\"%u\" "
			"y=\"%u\">",
			from, y, from + 10, y + 4);
	} else {
		to = x_of(place_of(c, e->to));
		if (from == to)
			fprintf(f,
				"<path class=\"a\" marker-end=\"url(#m)\" d=\"M%u %uh26v12h-24\"/>",
				from, y - 6);
		else
			fprintf(f,
				"<line class=\"a%s\" marker-end=\"url(#m)\" x1=\"%u\" y1=\"%u\" "
				"x2=\"%u\" y2=\"%u\"/>",
				e->way == BY_RETURN ? " r" : "", from, y, to, y);
		fprintf(f, "<text x=\"%u\" y=\"%u\">", min_of(from, to) + (from == to ? 34 : 8),
			y - 5);
	}
	escaped(f, e->text);
	fprintf(f, "</text>\n");
}

/* Beside the row, if there are several. */
static void draw_cpu(FILE *f, const struct cast *c, unsigned cpu, unsigned row)
{
	unsigned y = TOP + row * ROW + 22;

	if (c->nr_cpus == 1)
		return;
	if (cpu < c->nr_cpus)
		fprintf(f, "<text class=\"n\" x=\"8\" y=\"%u\">CPU %u</text>\n", y, cpu);
	else
		fprintf(f, "<text class=\"n\" x=\"8\" y=\"%u\">beside</text>\n", y);
}

/* What is not drawn. */
static void draw_rest(FILE *f, unsigned n)
{
	fprintf(f, "<text class=\"h\" x=\"16\" y=\"%u\">", TOP + MOST_ROWS * ROW + 18);
	fprintf(f, "steps %u to %u are not drawn; the walk as text has them", MOST_ROWS + 1, n);
	if (n == LEDGER_EVENTS)
		fprintf(f, ", and what came after them is not kept");
	fprintf(f, "</text>\n");
}

int lab_walk_svg(const char *path, const char *title, const struct ledger_event *events,
		 unsigned all, unsigned nr_cpus)
{
	unsigned n = min_of(all, (unsigned)MOST_ROWS);
	struct cast c = { .nr_cpus = nr_cpus };
	FILE *f = fopen(path, "we");
	bool good;

	if (!f)
		return -errno;
	for (unsigned i = 0; i < n; i++) {
		place_of(&c, events[i].from);
		if (events[i].to)
			place_of(&c, events[i].to);
	}
	draw_head(f, &c, title, n + (all > n));
	for (unsigned i = 0; i < n; i++) {
		draw_cpu(f, &c, events[i].cpu, i);
		draw_event(f, &c, &events[i], i);
	}
	if (all > n)
		draw_rest(f, all);
	fprintf(f, "</svg>\n");
	good = !ferror(f);
	if (fclose(f) || !good)
		return -EIO;
	return 0;
}
