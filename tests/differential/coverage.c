/* SPDX-License-Identifier: MIT */
/* Counting what was reached; coverage.h. */
#include "tests/differential/coverage.h"

static unsigned errno_of(const struct record *r)
{
	return r->result < 0 && -r->result < NR_ERRNOS ? -r->result : 0;
}

static bool has_word(enum arg_kind kind, u64 value, const struct word *word)
{
	return arg_is_flags(kind) ? (value & word->value) == word->value : value == word->value;
}

static void count_words(struct coverage *c, const struct op *op, unsigned err)
{
	const u8 *kinds = call_args(op->call);

	for (unsigned i = 0; i < NR_ARGS && kinds[i]; i++) {
		const struct word *words = arg_words(kinds[i]);

		for (unsigned k = 0; words && words[k].name && k < NR_WORDS; k++)
			if (has_word(kinds[i], op->arg[i], &words[k]))
				c->words[op->call][kinds[i]][k][err]++;
	}
}

static bool same_kind(const struct record_signal *a, const struct record_signal *b)
{
	return a->number == b->number && a->code == b->code && a->trap == b->trap &&
	       a->error == b->error;
}

static void count_signal(struct coverage *c, const struct record_signal *s, u64 n)
{
	for (unsigned i = 0; i < NR_SIGNALS; i++) {
		if (!c->signals[i].count)
			c->signals[i].signal = *s;
		else if (!same_kind(&c->signals[i].signal, s))
			continue;
		c->signals[i].count += n;
		return;
	}
}

void coverage_count(struct coverage *c, const struct support *support, const struct sequence *s,
		    const struct trace *real, const struct trace *engine)
{
	const struct observation *before[NR_PROCESSES] = { NULL };
	const struct op *last[NR_PROCESSES] = { NULL };

	for (unsigned i = 0; i < s->n; i++) {
		const struct op *op = &s->ops[i];
		const struct record *r = &real->records[i];
		/* The engine tells the flags of areas every time. */
		const struct observation *after = record_seen(engine, &engine->records[i]);
		struct row_context row = { support,	     op, r, before[op->process], after,
					   last[op->process] };
		unsigned err = errno_of(r);

		if (r->state != RECORD_DONE) {
			c->skipped++;
			continue;
		}
		c->operations++;
		c->calls[op->call]++;
		c->errnos[op->call][err]++;
		count_words(c, op, err);
		if (r->signal.number)
			count_signal(c, &r->signal, 1);
		rows_count(c->rows, &row);
		if (op->call == CALL_FORK && !err)
			before[op->arg[0]] = after;
		before[op->process] = after;
		last[op->process] = op;
	}
}

void coverage_add(struct coverage *to, const struct coverage *from)
{
	to->operations += from->operations;
	to->skipped += from->skipped;
	for (unsigned i = 0; i < NR_CALLS; i++)
		to->calls[i] += from->calls[i];
	for (unsigned i = 0; i < NR_CALLS * NR_ERRNOS; i++)
		(&to->errnos[0][0])[i] += (&from->errnos[0][0])[i];
	for (unsigned i = 0; i < sizeof(to->words) / sizeof(u32); i++)
		(&to->words[0][0][0][0])[i] += (&from->words[0][0][0][0])[i];
	for (unsigned i = 0; i < MAX_ROWS; i++)
		to->rows[i] += from->rows[i];
	for (unsigned i = 0; i < NR_SIGNALS && from->signals[i].count; i++)
		count_signal(to, &from->signals[i].signal, from->signals[i].count);
}
