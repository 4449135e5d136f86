/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: any bytes as operations, done by the engine alone with its checks.  Bytes that are a
 * text are that sequence; others are taken as numbers from which operations are made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/differential/op_text.h"
#include "tests/differential/side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes that are read one after the other; zeros behind the end. */
struct bytes {
	const uint8_t *at, *end;
};

static u64 take(struct bytes *b, unsigned n)
{
	u64 v = 0;

	for (unsigned i = 0; i < n; i++)
		v = v << 8 | (b->at < b->end ? *b->at++ : 0);
	return v;
}

/* Mostly what belongs there; with the upper bit set, any number. */
static u64 take_argument(struct bytes *b, enum arg_kind kind)
{
	const struct word *words = arg_words(kind);
	u64 v = take(b, 2);
	unsigned n = 0;

	if (v >> 15)
		return take(b, 8);
	switch (kind) {
	case ARG_ADDRESS:
		return ARENA_BASE + (v & 1023) % ARENA_PAGES * PAGE_SIZE +
		       (v & 0x4000 ? 8 * take(b, 1) : 0);
	case ARG_SIZE:
		return (v & 31) * PAGE_SIZE - (v & 0x4000 ? take(b, 1) : 0);
	case ARG_VALUE:
	case ARG_PROCESS:
		return v & 3;
	default:
		break;
	}
	if (arg_is_flags(kind))
		return v & 0x4000 ? take(b, 4) : v & 0x3f;
	while (words && words[n].name)
		n++;
	return n ? words[v % n].value : 0;
}

static void make(struct sequence *s, const struct side *side, struct bytes *b)
{
	for (s->n = 0; b->at < b->end && s->n < MAX_OPS;) {
		struct op *op = &s->ops[s->n];
		const u8 *kinds;
		u64 head = take(b, 1);

		memset(op, 0, sizeof(*op));
		op->call = (head & 63) % NR_CALLS;
		op->process = head >> 6;
		kinds = call_args(op->call);
		for (unsigned i = 0; i < NR_ARGS && kinds[i]; i++)
			op->arg[i] = take_argument(b, kinds[i]);
		/* The way to the limit of areas is too long for this. */
		if (op->call != CALL_BALLAST && !op_refusal(op) && side->can(side, op))
			s->n++;
	}
}

static bool all_can(const struct side *side, const struct sequence *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->ops[i].call == CALL_BALLAST || !side->can(side, &s->ops[i]))
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct support support;
	static struct side *engine;
	static struct sequence s;
	struct bytes b = { data, data + size };
	char complaint[COMPLAINT_SIZE], line[LINE_SIZE];

	if (!engine &&
	    (!support_probe(&support, complaint) || !(engine = engine_open(&support, complaint)))) {
		fprintf(stderr, "%s\n", complaint);
		abort();
	}
	if (!sequence_parse((const char *)data, size, &s, complaint) || !all_can(engine, &s))
		make(&s, engine, &b);
	engine->start(engine, &s);
	if (!engine->finish(engine)) {
		fprintf(stderr, "%s\n", engine->failure);
		for (unsigned i = 0; i < s.n; i++)
			fprintf(stderr, "%s\n", op_print(&s.ops[i], line));
		abort();
	}
	return 0;
}
