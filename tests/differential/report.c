/* SPDX-License-Identifier: MIT */
/* What a run came to, for a person. */
#include <stdio.h>
#include <string.h>

#include "tests/differential/session.h"

static void print_speed(const struct session_result *r)
{
	double n = r->coverage.operations + r->coverage.skipped;

	printf("speed: %.0f operations/s; one takes the kernel's side %.1f us, the engine's %.1f "
	       "us\n",
	       n / r->seconds, r->real_ns / n / 1000, r->engine_ns / n / 1000);
}

/* "mmap 123: 0 100, EINVAL 20" */
static void print_calls(const struct coverage *c)
{
	for (unsigned call = 0; call < NR_CALLS; call++) {
		if (!c->calls[call])
			continue;
		printf("  %-11s %8llu ", call_name(call), (unsigned long long)c->calls[call]);
		for (unsigned err = 0; err < NR_ERRNOS; err++)
			if (c->errnos[call][err])
				printf(" %s %llu", err ? errno_name(err) : "ok",
				       (unsigned long long)c->errnos[call][err]);
		printf("\n");
	}
}

static void print_word(const struct coverage *c, enum call call, enum arg_kind kind, unsigned word)
{
	const u32 *counts = c->words[call][kind][word];

	printf("    %-15s", arg_words(kind)[word].name);
	for (unsigned err = 0; err < NR_ERRNOS; err++)
		if (counts[err])
			printf(" %s %u", err ? errno_name(err) : "ok", counts[err]);
	printf("\n");
}

static bool was_used(const struct coverage *c, enum call call, enum arg_kind kind, unsigned word)
{
	for (unsigned err = 0; err < NR_ERRNOS; err++)
		if (c->words[call][kind][word][err])
			return true;
	return false;
}

static void print_flags(const struct coverage *c)
{
	for (unsigned call = 0; call < NR_CALLS; call++)
		for (unsigned i = 0; i < NR_ARGS; i++) {
			enum arg_kind kind = call_args(call)[i];
			const struct word *words = arg_words(kind);

			if (!words || !c->calls[call])
				continue;
			printf("  %s\n", call_name(call));
			for (unsigned k = 0; words[k].name; k++)
				if (was_used(c, call, kind, k))
					print_word(c, call, kind, k);
				else
					printf("    %-15s not used\n", words[k].name);
		}
}

static void print_signals(const struct coverage *c)
{
	for (unsigned i = 0; i < NR_SIGNALS && c->signals[i].count; i++) {
		const struct record_signal *s = &c->signals[i].signal;

		printf("  %s code %d trap %u error 0x%02x: %llu\n",
		       s->number == 7 ? "SIGBUS" : "SIGSEGV", s->code, s->trap, s->error,
		       (unsigned long long)c->signals[i].count);
	}
}

static void print_rows(const struct session_result *r)
{
	unsigned reached = 0, exempt = 0;

	for (unsigned i = 0; i < nr_rows; i++) {
		reached += r->coverage.rows[i] != 0;
		exempt += !r->coverage.rows[i] && row_exempt(i, &r->support);
	}
	printf("rows of what is known of Linux: %u of %u reached, %u cannot be here\n", reached,
	       nr_rows, exempt);
	for (unsigned i = 0; i < nr_rows; i++)
		if (!r->coverage.rows[i])
			printf("  not reached: %s%s%s\n", row_name(i),
			       row_exempt(i, &r->support) ? ": " : "",
			       row_exempt(i, &r->support) ?: "");
}

static void print_masks(const struct session_result *r)
{
	for (unsigned i = 0; i < nr_masks; i++)
		printf("  %-14s %8llu  %s\n", masks[i].name, (unsigned long long)r->masked[i],
		       masks[i].why);
}

void report_print(const struct session_options *o, const struct session_result *r)
{
	const struct coverage *c = &r->coverage;

	if (c->operations) {
		printf("calls, and what came of them:\n");
		print_calls(c);
		printf("flags and values:\n");
		print_flags(c);
		printf("signals:\n");
		print_signals(c);
		print_rows(r);
		printf("left out of the comparison, operations in which it differed, and why:\n");
		print_masks(r);
		print_speed(r);
	}
	if (r->undone)
		printf("%llu sequences of files were left out: a side has not all that is in "
		       "them\n",
		       (unsigned long long)r->undone);
	if (r->unsteady)
		printf("%llu sequences differed once, and not when they were done again, or the "
		       "system had changed\n",
		       (unsigned long long)r->unsteady);
	printf("%llu operations in %llu sequences over up to %d processes, ",
	       (unsigned long long)(c->operations + c->skipped), (unsigned long long)r->sequences,
	       NR_PROCESSES);
	if (o->replayed)
		printf("from files");
	else
		printf("seed %llu", (unsigned long long)o->seed);
	printf(", on Linux %u.%u: %s\n", r->support.major, r->support.minor,
	       r->end == SESSION_SAME	    ? "no mismatch"
	       : r->end == SESSION_MISMATCH ? "A MISMATCH"
					    : "not finished");
	if (r->end == SESSION_MISMATCH)
		printf("\n%s\n\nThe shortest sequence found:\n\n%s", r->what, r->text);
}
