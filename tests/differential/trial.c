/* SPDX-License-Identifier: MIT */
/* One sequence on both sides; trial.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/differential/op_text.h"
#include "tests/differential/shorten.h"
#include "tests/differential/trial.h"

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000u + t.tv_nsec;
}

bool pair_open(struct pair *p, char *why)
{
	memset(p, 0, sizeof(*p));
	if (!support_probe(&p->support, why))
		return false;
	p->real = real_open(&p->support, why);
	if (!p->real)
		return false;
	p->engine = engine_open(&p->support, why);
	if (!p->engine)
		p->real->close(p->real);
	return p->engine;
}

void pair_close(struct pair *p)
{
	p->real->close(p->real);
	p->engine->close(p->engine);
}

bool pair_can(const void *ctx, const struct op *op)
{
	const struct pair *p = ctx;

	return p->real->can(p->real, op) && p->engine->can(p->engine, op);
}

static bool side_failed(struct mismatch *m, unsigned op, const struct side *side)
{
	m->field = FIELD_SIDE;
	m->op = op;
	snprintf(m->text, sizeof(m->text), "%s: %s", side->name, side->failure);
	return false;
}

/* What differs before a side fails comes first; what is missing then is the failure itself. */
static bool judge(struct pair *p, const struct sequence *s, struct mismatch *m)
{
	const struct side *failed = p->real->failure[0]	    ? p->real
				    : p->engine->failure[0] ? p->engine
							    : NULL;
	bool same;

	if (!p->traced || !p->made)
		return side_failed(m, s->n ? s->n - 1 : 0, failed);
	same = traces_same(&p->support, s, p->traced, p->made, m, p->masked);
	if (!failed)
		return same;
	if (same)
		return side_failed(m, s->n ? s->n - 1 : 0, failed);
	return m->field == FIELD_STATE ? side_failed(m, m->op, failed) : false;
}

bool trial(struct pair *p, const struct sequence *s, struct mismatch *m)
{
	u64 start = now_ns();

	p->real->start(p->real, s);
	p->engine->start(p->engine, s);
	p->made = p->engine->finish(p->engine);
	p->engine_ns += now_ns() - start;
	p->traced = p->real->finish(p->real);
	p->real_ns += now_ns() - start;
	return judge(p, s, m);
}

/* ---- shrinking ---- */

struct shrinker {
	struct pair *pair;
	struct sequence *best;
	struct mismatch *m;
	u64 deadline;
	struct sequence try;
};

static bool in_time(const struct shrinker *k)
{
	return now_ns() < k->deadline;
}

/* Is k->try as good as the best?  Then it is the best. */
static bool accept(struct shrinker *k)
{
	struct mismatch m;

	if (trial(k->pair, &k->try, &m) || m.field != k->m->field)
		return false;
	/* What comes after the mismatch has nothing to do with it. */
	k->try.n = m.op + 1;
	*k->best = k->try;
	*k->m = m;
	return true;
}

static bool without(struct shrinker *k, unsigned from, unsigned n)
{
	const struct sequence *b = k->best;

	n = min_of(n, b->n - from);
	if (n == b->n)
		return false;
	k->try.n = b->n - n;
	memcpy(k->try.ops, b->ops, from * sizeof(struct op));
	memcpy(k->try.ops + from, b->ops + from + n, (b->n - from - n) * sizeof(struct op));
	return accept(k);
}

static unsigned best_length(const void *k)
{
	return ((const struct shrinker *)k)->best->n;
}

static bool best_without(void *k, unsigned from, unsigned n)
{
	return without(k, from, n);
}

static bool time_is_left(const void *k)
{
	return in_time(k);
}

static bool drop_operations(struct shrinker *k)
{
	return shorten_list(
		&(struct list_to_shorten){ k, best_length, best_without, time_is_left });
}

static bool with_argument(struct shrinker *k, unsigned op, unsigned arg, u64 value)
{
	if (k->best->ops[op].arg[arg] == value)
		return false;
	k->try = *k->best;
	k->try.ops[op].arg[arg] = value;
	return !op_refusal(&k->try.ops[op]) && pair_can(k->pair, &k->try.ops[op]) && accept(k);
}

static bool plainer_flags(struct shrinker *k, unsigned op, unsigned arg)
{
	bool any = false;

	for (u64 bit = 1; bit; bit <<= 1) {
		u64 value = k->best->ops[op].arg[arg];

		if ((value & bit) && in_time(k))
			any |= with_argument(k, op, arg, value & ~bit);
	}
	return any;
}

static bool plainer_number(struct shrinker *k, unsigned op, unsigned arg, u64 unit)
{
	u64 value = k->best->ops[op].arg[arg];
	bool any = false;

	for (u64 v = unit; v && v < value && v <= ARENA_SIZE && in_time(k); v *= 2)
		if (with_argument(k, op, arg, v)) {
			any = true;
			break;
		}
	return any || (value % unit && with_argument(k, op, arg, value - value % unit));
}

/* What a child does its first ancestor may do as well: then the fork can go. */
static bool plainer_processes(struct shrinker *k)
{
	bool any = false;

	for (unsigned op = 0; op < k->best->n && in_time(k); op++) {
		if (!k->best->ops[op].process)
			continue;
		k->try = *k->best;
		k->try.ops[op].process = 0;
		any |= !op_refusal(&k->try.ops[op]) && accept(k);
	}
	return any;
}

static bool plainer_arguments(struct shrinker *k)
{
	bool any = false;

	for (unsigned op = 0; op < k->best->n; op++) {
		const u8 *kinds = call_args(k->best->ops[op].call);

		for (unsigned arg = 0; arg < NR_ARGS && kinds[arg] && in_time(k); arg++) {
			if (kinds[arg] == ARG_SIZE)
				any |= plainer_number(k, op, arg, PAGE_SIZE);
			else if (kinds[arg] == ARG_VALUE)
				any |= plainer_number(k, op, arg, 1);
			else if (arg_is_flags(kinds[arg]))
				any |= plainer_flags(k, op, arg);
			if (op >= k->best->n)
				return any;
			kinds = call_args(k->best->ops[op].call);
		}
	}
	return any;
}

void shrink(struct pair *p, struct sequence *s, struct mismatch *m, unsigned seconds)
{
	struct shrinker *k = malloc(sizeof(*k));

	if (!k)
		return;
	*k = (struct shrinker){
		.pair = p, .best = s, .m = m, .deadline = now_ns() + seconds * 1000000000ull
	};
	s->n = m->op + 1;
	for (bool any = true; any && in_time(k);) {
		any = drop_operations(k);
		any |= plainer_processes(k);
		any |= plainer_arguments(k);
	}
	free(k);
}

/* ---- printing ---- */

size_t failure_print(const struct sequence *s, const struct mismatch *m, char *buf, size_t size)
{
	char line[LINE_SIZE];
	size_t used = 0;

	for (unsigned i = 0; i < s->n; i++) {
		if (i == m->op)
			used += snprintf(buf + min_of(used, size), size - min_of(used, size),
					 "# %s\n", m->text);
		used += snprintf(buf + min_of(used, size), size - min_of(used, size), "%s\n",
				 op_print(&s->ops[i], line));
	}
	used += snprintf(buf + min_of(used, size), size - min_of(used, size), "end\n");
	return used;
}
