/* SPDX-License-Identifier: MIT */
/* The figures as bars: one page of HTML with its drawing in it. */
#include <stdio.h>

#include "bench/policies/lab.h"

/* Pixels. */
enum {
	MOST = 5,    /* times the optimum: longer bars are cut off there */
	LEFT = 120,  /* where bars begin */
	SCALE = 130, /* one time the optimum */
	BAR = 14,
	GAP = 12,  /* between sizes of memory */
	HEAD = 34, /* a pattern's name above its bars */
	WIDTH = LEFT + MOST * SCALE + 330,
};

static const char *const colours[NR_LAB_POLICIES] = { "#b0b7c3", "#7d93b2", "#1b6ca8", "#d98e04" };

static void head(const struct lab *lab)
{
	printf("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
	       "<title>vmfault: page replacement against the optimum</title>\n<style>\n"
	       "body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; margin: 2em auto;"
	       " max-width: %dpx; padding: 0 1em }\n"
	       "h1 { font-size: 1.4em }\n"
	       "svg { width: 100%%; height: auto }\n"
	       "text { font: 12px system-ui, sans-serif; fill: #1c2430; paint-order: stroke;"
	       " stroke: #fff; stroke-width: 3px }\n"
	       ".name { font-weight: 600; font-size: 14px }\n"
	       ".soft { fill: #5b6675 }\n"
	       ".bad { fill: #b3261e; font-weight: 600 }\n"
	       ".key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }\n"
	       "</style>\n<h1>Page replacement against the optimum</h1>\n"
	       "<p>Major faults as multiples of the fewest possible (B&eacute;l&aacute;dy), for "
	       "patterns"
	       " over %u pages with memory for a part of them. The mark is what who knows all that "
	       "was"
	       " and nothing of what comes cannot better, where that is known. The default is"
	       " <b>%s</b>.</p>\n<p>",
	       WIDTH, lab->pages, lab->policies[lab->chosen]);
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
		printf("<span class=\"key\" style=\"background:%s\"></span>%s", colours[k],
		       lab->policies[k]);
	printf("</p>\n");
}

static double length(double ratio)
{
	return SCALE * (ratio > MOST ? MOST : ratio);
}

/* Bars of one size of memory; returns where the next begins. */
static unsigned draw_row(const struct lab *lab, unsigned pattern, unsigned n, unsigned y)
{
	const struct lab_row *r = &lab->patterns[pattern].rows[n];
	enum lab_verdict verdict = lab_judge(lab, pattern, n);
	unsigned height = NR_LAB_POLICIES * BAR;

	printf("<text x=\"%u\" y=\"%u\" text-anchor=\"end\" class=\"soft\">memory %u%%</text>\n",
	       LEFT - 10, y + height / 2 + 4, r->percent);
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++) {
		double ratio = lab_ratio(r, k);

		printf("<rect x=\"%u\" y=\"%u\" width=\"%.1f\" height=\"%u\" fill=\"%s\"/>\n", LEFT,
		       y + k * BAR + 1, length(ratio), BAR - 2, colours[k]);
		printf("<text x=\"%.1f\" y=\"%u\">%s %.2f <tspan "
		       "class=\"soft\">(%lu)</tspan></text>\n",
		       LEFT + length(ratio) + 5, y + (k + 1) * BAR - 3, lab->policies[k], ratio,
		       (unsigned long)r->by[k].misses);
	}
	if (r->blind)
		printf("<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%u\" y2=\"%u\" stroke=\"#1c2430\""
		       " stroke-width=\"2\"/>\n",
		       LEFT + length((double)r->blind / (double)r->optimum),
		       LEFT + length((double)r->blind / (double)r->optimum), y - 2, y + height + 2);
	if (verdict != LAB_GOOD)
		printf("<text x=\"%u\" y=\"%u\" text-anchor=\"end\" class=\"%s\">%s</text>\n",
		       WIDTH, y + height / 2 + 4, verdict >= LAB_FLUSHED ? "bad" : "soft",
		       lab_verdict_text(verdict));
	return y + height + GAP;
}

/* Lines at once and twice the optimum and so on, over one pattern's bars. */
static void grid(unsigned from, unsigned to)
{
	for (unsigned i = 1; i <= MOST; i++) {
		printf("<line x1=\"%u\" x2=\"%u\" y1=\"%u\" y2=\"%u\" stroke=\"%s\"/>\n",
		       LEFT + i * SCALE, LEFT + i * SCALE, from, to,
		       i == 2 ? "#b3261e" : "#dde2ea");
		printf("<text x=\"%u\" y=\"%u\" text-anchor=\"middle\" class=\"soft\">%u</text>\n",
		       LEFT + i * SCALE, from - 3, i);
	}
}

void lab_html(const struct lab *lab)
{
	unsigned rows = NR_LAB_SIZES * (NR_LAB_POLICIES * BAR + GAP), y = 0;

	head(lab);
	printf("<svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"Misses by pattern, memory and"
	       " policy\">\n",
	       WIDTH, NR_PATTERNS * (HEAD + rows));
	for (unsigned i = 0; i < NR_PATTERNS; i++) {
		printf("<text x=\"0\" y=\"%u\" class=\"name\">%s</text>\n", y + 18,
		       lab->patterns[i].name);
		printf("<text x=\"%u\" y=\"%u\" class=\"soft\">%s</text>\n", LEFT - 50, y + 18,
		       lab->patterns[i].what);
		y += HEAD;
		grid(y, y + rows - GAP);
		for (unsigned n = 0; n < NR_LAB_SIZES; n++)
			y = draw_row(lab, i, n, y);
	}
	printf("</svg>\n</html>\n");
}
